"""`uprank runs`: the runs in a folder side by side, best first, with the settings in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...configs.command import run
from ...configs.schema_train import RunsCommand
from .luck import luck_of_best
from .rows import RunRow, differing, incomparable, read_failures, read_runs
from .table import MANY, print_runs, setting_columns, value_columns


def show(settings: RunsCommand) -> None:
    """Print the table and its meaning."""
    problems: list[str] = []
    folder = Path(settings.folder)
    rows = read_runs(folder, problems)
    names = differing(rows)
    columns = {
        "run": lambda row: row.name,
        "state": lambda row: row.state,
        **value_columns(rows),
        "at step": lambda row: "" if row.step is None else str(row.step),
        "hours": lambda row: "" if row.hours is None else f"{row.hours:.2f}",
        **setting_columns(names),
    }
    lines = [*closing(rows), *luck_of_best(folder, rows)]
    if len(names) > MANY:
        lines.append(f"They differ in {len(names) - MANY} more settings: {', '.join(names[MANY:])}.")
    lines += [f"{name}: failed: {reason}" for name, reason in read_failures(folder).items()]
    print_runs(rows, columns, [*lines, *problems])


def closing(rows: Sequence[RunRow]) -> list[str]:
    """Return the meaning of the table in sentences."""
    done = [row for row in rows if row.best is not None]
    lines = []
    if reason := incomparable(done):
        lines.append(reason)
    elif len(done) > 1:
        lines.append(f"Best on the dev queries: {done[0].name}, {done[0].measure} {done[0].best:.4f}.")
        lines.append(
            f"It is the best of {len(done)} runs on the same queries, so its value flatters it: prove it on "
            "queries that chose nothing, with `uprank eval`."
        )
    return lines + [f"{row.name}: {row.verdict}" for row in rows[:1] if row.verdict]


def main() -> None:
    """Run the command."""
    run("runs", RunsCommand, show)


if __name__ == "__main__":
    main()
