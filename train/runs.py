"""`uprank runs`: the runs in a folder side by side, best first, with the settings in which they differ."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs.command import run
from ..configs.errors import UserError
from ..configs.schema_train import RunsCommand

MANY = 5  # settings shown in columns; more are counted
NOT_COMPARED = ("output", "threads")


@dataclass(frozen=True)
class Row:
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


def read_runs(folder: Path, problems: list[str]) -> list[Row]:
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


def _read(path: Path, folder: Path) -> Row:
    from omegaconf import OmegaConf

    from .run_folder import flat

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
    return Row(
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


def differing(rows: Sequence[Row]) -> list[str]:
    """Names of the settings that are not the same in all runs."""
    names = dict.fromkeys(name for row in rows for name in row.settings)
    return [
        name
        for name in names
        if name not in NOT_COMPARED and len({repr(row.settings.get(name)) for row in rows}) > 1
    ]


def closing(rows: Sequence[Row]) -> list[str]:
    """What the table means, in sentences."""
    done = [row for row in rows if row.best is not None]
    lines = []
    if len({_what_is_measured(row) for row in done}) > 1:
        lines.append(
            "These runs have different dev queries, candidates or measures: their values cannot be compared."
        )
    elif len(done) > 1:
        lines.append(f"Best on the dev queries: {done[0].name}, {done[0].measure} {done[0].best:.4f}.")
        lines.append(
            f"It is the best of {len(done)} runs on the same queries, so its value flatters it: prove it on "
            "queries that chose nothing, with `uprank eval`."
        )
    lines += [f"{row.name}: {row.verdict}" for row in rows[:1] if row.verdict]
    return lines


def _what_is_measured(row: Row) -> str:
    """Measure, queries and candidates; of a sample of the queries also the seed that drew it."""
    names = [name for name in row.settings if name == "data.dev" or name.startswith("dev.")]
    names = [name for name in names if name != "dev.measures"]
    drawn = row.settings.get("seed") if row.settings.get("dev.max_queries") else None
    return repr((row.measure, drawn, [(name, row.settings[name]) for name in names]))


def show(settings: RunsCommand) -> None:
    """Print the table and what it means."""
    from rich.console import Console
    from rich.table import Table

    from .sweep import luck_of_best

    problems: list[str] = []
    rows = read_runs(Path(settings.folder), problems)
    names = differing(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    measures = {row.measure for row in rows if row.measure}
    value = f"dev {measures.pop()}" if len(measures) == 1 else "dev"
    for place, header in enumerate(["run", "state", value, "base", "at step", "hours", *names[:MANY]]):
        table.add_column(header, justify="right" if 1 < place < 6 else "left", overflow="fold")
    for row in rows:
        numbers = [_number(row.best), _number(row.base), "" if row.step is None else str(row.step)]
        hours = "" if row.hours is None else f"{row.hours:.2f}"
        told = [_short(row.settings.get(name)) for name in names[:MANY]]
        table.add_row(row.name, row.state, *numbers, hours, *told)
    console = Console()
    console.print(table)
    lines = [*closing(rows), *luck_of_best(Path(settings.folder), rows)]
    if len(names) > MANY:
        lines.append(f"They differ in {len(names) - MANY} more settings: {', '.join(names[MANY:])}.")
    for line in [*lines, *problems]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"…{text[-39:]}"


def main() -> None:
    """Run the command."""
    run("runs", RunsCommand, show)


if __name__ == "__main__":
    main()
