"""The runs of a folder, finished or not, one row each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.errors import UserError

NOT_COMPARED = ("output", "threads")


@dataclass(frozen=True)
class RunRow:
    """A run.

    Attributes:
        name: its path below the folder of runs.
        state: `finished`, `step N of M`, or `not begun`.
        measure: dev measure that chose its best step.
        base: the base's value, None before it was measured.
        best: best value, None before the first evaluation.
        step: step of the best value.
        hours: hours of training, None before the end.
        settings: every setting by its dotted name.
        verdict: verdict on the dev queries; empty before the end.
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
    rows = []
    for manifest in sorted(folder.rglob("manifest.json")):
        path = manifest.parent
        if not (path / "config.yaml").is_file() or "checkpoints" in manifest.relative_to(folder).parts:
            continue
        try:
            rows.append(_read(path, folder))
        except UserError as error:
            problems.append(f"{path}: cannot be read ({error.problems[0]})")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            problems.append(f"{path}: cannot be read ({type(error).__name__}: {reason})")
    if not rows and problems:
        raise UserError(problems)
    if not rows:
        raise UserError(
            f"folder={folder}: no run in it", advice="Give the folder that holds run folders, folder=runs."
        )
    return sorted(rows, key=lambda row: (-_rank(row.best), row.name))


def _rank(value: float | None) -> float:
    return float("-inf") if value is None or math.isnan(value) else value


def _read(path: Path, folder: Path) -> RunRow:
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
    done = bool(manifest.get("finished"))
    return RunRow(
        name=str(path.relative_to(folder)) if path != folder else path.name,
        state="finished" if done else f"step {step} of {manifest['steps']}" if dev else "not begun",
        measure=measure,
        base=dev[0][measure] if 0 in dev else None,
        best=None if best is None else later[best],
        step=best,
        hours=manifest["seconds"] / 3600 if "seconds" in manifest else None,
        settings=settings,
        verdict=manifest.get("verdict", ""),
    )


def differing(rows: Sequence[RunRow]) -> list[str]:
    """Return the names of the settings that differ between runs."""
    names = dict.fromkeys(name for row in rows for name in row.settings)
    return [
        name
        for name in names
        if name not in NOT_COMPARED and len({repr(row.settings.get(name)) for row in rows}) > 1
    ]
