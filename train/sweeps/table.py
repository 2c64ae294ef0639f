"""The table of runs that `uprank runs` and the end of a sweep print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .rows import RunRow

MANY = 6  # settings shown in columns
NUMBERS = ("95 %", "base", "at step", "hours")


def print_runs(
    rows: Sequence[RunRow], columns: dict[str, Callable[[RunRow], str]], lines: Iterable[str]
) -> None:
    """Print a table of runs and sentences below it.

    Args:
        rows: the runs.
        columns: header and cell of each column.
        lines: the sentences.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in columns:
        number = header in NUMBERS or header.startswith("dev")
        table.add_column(header, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    console = Console()
    console.print(table)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def value_columns(rows: Sequence[RunRow]) -> dict[str, Callable[[RunRow], str]]:
    """Return the columns of the best dev value and of the base's."""
    measures = {row.measure for row in rows if row.measure}
    header = f"dev {measures.pop()}" if len(measures) == 1 else "dev"
    return {header: lambda row: _number(row.best), "base": lambda row: _number(row.base)}


def setting_columns(names: Sequence[str], *, short: bool = False) -> dict[str, Callable[[RunRow], str]]:
    """Return a column for each of the first `MANY` settings; `short` leaves out the sections of names.

    Names that are equal without their sections keep them.
    """
    shown = names[:MANY]
    last = [name.rpartition(".")[2] for name in shown]
    headers = [end if short and last.count(end) == 1 else name for name, end in zip(shown, last, strict=True)]
    return {
        header: lambda row, name=name: _short(str(row.settings.get(name)))  # type: ignore[misc]
        for header, name in zip(headers, shown, strict=True)
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"…{text[-39:]}"
