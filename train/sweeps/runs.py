"""`uprank runs`: the runs in a folder side by side, best first, with the settings in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...configs.command import run
from ...configs.schema_train import RunsCommand
from .rows import RunRow, differing, read_runs

MANY = 5  # settings shown in columns; more are counted


def closing(rows: Sequence[RunRow]) -> list[str]:
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


def _what_is_measured(row: RunRow) -> str:
    """Measure, queries and candidates; of a sample of the queries also the seed that drew it."""
    names = [name for name in row.settings if name == "data.dev" or name.startswith("dev.")]
    names = [name for name in names if name != "dev.measures"]
    drawn = row.settings.get("seed") if row.settings.get("dev.max_queries") else None
    return repr((row.measure, drawn, [(name, row.settings[name]) for name in names]))


def show(settings: RunsCommand) -> None:
    """Print the table and what it means."""
    from rich.console import Console
    from rich.table import Table

    from .luck import luck_of_best

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
