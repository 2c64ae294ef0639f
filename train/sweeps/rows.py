"""The runs of a folder, finished or not, one row each."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...configs.sweep import JOBS

NOT_COMPARED = ("output", "threads")


@dataclass(frozen=True)
class RunRow:
    """A run.

    Attributes:
        name: its path below the folder of runs.
        state: `finished`, `step N of M`, or `not begun`; before the last two `failed, ` for jobs that failed.
        measure: dev measure that chose its best step.
        base: the base's value, None before it was measured.
        best: best value, None before the first evaluation.
        step: step of the best value.
        hours: hours of training, None before the end.
        settings: every setting by its dotted name.
        verdict: verdict on the dev queries; empty before the end.
        measured: what its values were measured on, by part; runs that differ in one cannot be compared.
    """

    name: str
    state: str
    measure: str
    base: float | None
    best: float | None
    step: int | None
    hours: float | None
    settings: dict[str, Any]
    verdict: str
    measured: dict[str, str] = field(default_factory=dict)


def incomparable(rows: Sequence[RunRow]) -> str:
    """Return a sentence on why the values of these runs cannot be compared; nothing if they can."""
    done = [row.measured for row in rows if row.best is not None]
    parts = dict.fromkeys(part for measured in done for part in measured)
    differing = [part for part in parts if len({measured.get(part) for measured in done}) > 1]
    if not differing:
        return ""
    return f"These runs differ in {' and '.join(differing)}: their values cannot be compared."


def read_failures(folder: Path) -> dict[str, str]:
    """Return the jobs of sweeps below a folder that failed in the last start, with the reason."""
    found = {}
    for file in sorted(folder.rglob(f"{JOBS}/*.json"), key=lambda file: (len(file.name), file)):
        with contextlib.suppress(OSError, ValueError):
            job = file.parent.parent / file.stem
            found[str(job.relative_to(folder))] = "; ".join(map(str, json.loads(file.read_text("utf-8"))))
    return found


def read_runs(folder: Path, problems: list[str]) -> list[RunRow]:
    """Read all runs below a folder, best first; skip other folders.

    Args:
        folder: the folder.
        problems: receives the runs whose files cannot be read.

    Raises:
        UserError: there is no such folder or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"folder={folder}: no such folder")
    rows, failed = [], read_failures(folder)
    for manifest in sorted(folder.rglob("manifest.json")):
        path = manifest.parent
        if not (path / "config.yaml").is_file() or "checkpoints" in manifest.relative_to(folder).parts:
            continue
        try:
            rows.append(_read(path, folder, failed))
        except UserError as error:
            problems.append(f"{path}: cannot be read ({error.problems[0]})")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            problems.append(f"{path}: cannot be read ({type(error).__name__}: {reason})")
    if not rows and (problems or failed):
        raise UserError([*problems, *(f"{folder / name}: failed: {why}" for name, why in failed.items())])
    if not rows:
        raise UserError(
            f"folder={folder}: no run in it", advice="Give the folder that holds run folders, folder=runs."
        )
    return sorted(rows, key=lambda row: (-_rank(row.best), row.name))


def _rank(value: float | None) -> float:
    return float("-inf") if value is None or math.isnan(value) else value


def _read(path: Path, folder: Path, failed: Container[str]) -> RunRow:
    from ..run_folder import read_manifest, read_metrics, read_settings

    manifest, settings = read_manifest(path), read_settings(path)
    dev, step = {}, 0
    metrics = path / "metrics.jsonl"
    for row in read_metrics(metrics) if metrics.is_file() else []:
        step = max(step, row["step"])
        if "dev" in row:
            dev[row["step"]] = row["dev"]
    measure = next(iter(next(iter(dev.values()))), "") if dev else ""
    later = {number: float(values[measure]) for number, values in dev.items() if number}
    best = max(later, key=lambda number: _rank(later[number])) if later else None
    name = str(path.relative_to(folder)) if path != folder else path.name
    state = f"step {step} of {manifest['steps']}" if dev else "not begun"
    return RunRow(
        name=name,
        state="finished" if manifest.get("finished") else f"failed, {state}" if name in failed else state,
        measure=measure,
        base=dev[0][measure] if 0 in dev else None,
        best=None if best is None else later[best],
        step=best,
        hours=manifest["seconds"] / 3600 if "seconds" in manifest else None,
        settings=settings,
        verdict=manifest.get("verdict", ""),
        measured=_measured(manifest, settings, measure),
    )


def _measured(manifest: Mapping[str, Any], settings: Mapping[str, Any], measure: str) -> dict[str, str]:
    dev = (manifest.get("data") or {}).get("dev") or {}
    chosen = {name: value for name, value in settings.items() if name.startswith("dev.")}
    sample = chosen.pop("dev.max_queries", None)
    chosen.pop("dev.measures", None)  # the first of them leads, which is `measure`
    return {
        "their dev measure": measure,
        "their dev queries": str(dev.get("fingerprint") or settings.get("data.dev")),
        "the sample of their dev queries": f"{sample} by seed {settings.get('seed')}" if sample else "",
        "the candidates (dev.…)": repr(sorted(chosen.items(), key=str)),
    }


def differing(rows: Sequence[RunRow]) -> list[str]:
    """Return the names of the settings that differ between runs."""
    names = dict.fromkeys(name for row in rows for name in row.settings)
    return [
        name
        for name in names
        if name not in NOT_COMPARED and len({repr(row.settings.get(name)) for row in rows}) > 1
    ]
