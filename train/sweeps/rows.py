"""Finished and unfinished runs of a folder, one row each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.errors import UserError

NOT_COMPARED = ("output", "threads")


@dataclass(frozen=True)
class RunRow:
    """One run.

    Attributes:
        name: its folder, below the one that was asked for.
        state: `finished`, `step N of M`, or `not begun`.
        measure: the dev measure that chose its best step.
        base: the base's value, None before it was measured.
        best: the best value, None before the first evaluation.
        step: where that was.
        hours: spent on training, None before the end.
        settings: every setting by its dotted name.
        verdict: its verdict on the dev queries; empty before the end.
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
    """All runs below a folder, best first; folders that are no runs are passed over.

    Args:
        folder: where to look.
        problems: receives the runs whose files cannot be read.

    Raises:
        UserError: there is no such folder or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"folder={folder}: no such folder")
    from yaml import YAMLError

    rows = []
    for manifest in sorted(folder.rglob("manifest.json")):
        if (manifest.parent / "config.yaml").is_file() and "checkpoints" not in manifest.relative_to(
            folder
        ).parts:
            try:
                rows.append(_read(manifest.parent, folder))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                problems.append(f"{manifest.parent}: cannot be read ({type(error).__name__}: {reason})")
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
    from omegaconf import OmegaConf

    from ..run_folder import flat

    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    settings = flat(OmegaConf.to_container(OmegaConf.load(path / "config.yaml")))
    dev, step = {}, 0
    metrics = path / "metrics.jsonl"
    for line in metrics.read_text(encoding="utf-8").split("\n") if metrics.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:  # empty, or cut short by a kill
            continue
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
    """Names of the settings that are not the same in all runs."""
    names = dict.fromkeys(name for row in rows for name in row.settings)
    return [
        name
        for name in names
        if name not in NOT_COMPARED and len({repr(row.settings.get(name)) for row in rows}) > 1
    ]
