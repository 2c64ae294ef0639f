"""A report or a summary on the terminal: tables that fit, then in sentences what they mean."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import rich.table
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from ..audits import added_text
from ..results import Report
from ..statistics import outcome, verdict
from ..words import unbreakable
from .sentences import (
    LEVELS,
    first_measure_comparisons,
    leading_systems,
    level_lines,
    loud_sentences,
    notes,
    sentence,
)
from .summary import Summary
from .table import WIDEST_NAME, Table
from .tables import COLOURS, MACRO, baseline_name, terminal_results, terminal_summary

NARROWEST_NAME = 12
STYLES = {"stop": "red", "know": "yellow", "fine": "dim"}


def print_report(report: Report, console: Console, where: Path) -> None:
    """Print the table and the findings, then the verdicts, a line for each level of finding, and the file.

    Args:
        report: what to show.
        console: its width decides how many measures stand side by side; numbers are never wrapped.
        where: the file `report.html`, named on the last line.
    """
    longest = max((len(system.name) for system in report.systems), default=0)
    foldable = max(0, min(longest, WIDEST_NAME) - NARROWEST_NAME)
    for table in _that_fit(report.measures, partial(terminal_results, report), console, foldable):
        console.print(table)
        console.print()
    if report.comparisons:
        text = f"Differences are to {report.baseline}; brackets are 95 % intervals of the mean."
        _say(console, text, "dim")
    if report.added_positives:
        _say(console, f"Note: {added_text(report.added_positives)}.", "yellow")
    console.print()
    leading = leading_systems(report)
    shown = [note for note in notes(report) if note.system in leading]  # the others are in the report
    for note in sorted(shown, key=lambda note: list(LEVELS).index(note.level), reverse=True):
        _say(console, note.marked, STYLES[note.level])
    console.print()
    for comparison in first_measure_comparisons(report):
        _say(console, sentence(report, comparison), COLOURS[outcome(comparison)])
    for line in level_lines(report):
        _say(console, line)
    console.print(Text(f"Report: {where}"), soft_wrap=True)


def print_summary(summary: Summary, reports: Mapping[str, Report], console: Console, output: Path) -> None:
    """Print a table a measure, a verdict for each collection on the first one, the limits, and the files.

    Args:
        summary: what to show; a line a collection, so that a loss on a guard stands beside the gain.
        reports: by name of the collection.
        console: its width decides how many systems stand side by side.
        output: the folder that was written.
    """
    for measure in summary.measures:
        make = partial(terminal_summary, summary, measure)
        for table in _that_fit(summary.systems, make, console):
            console.print(table)
            console.print()
    if any(result.comparisons for result in summary.collections):
        text = f"Differences are to {baseline_name(summary)}; brackets are their 95 % intervals."
        _say(console, text, "dim")
    verdicts = [
        (f"{name}: {sentence(report, comparison)}", comparison)
        for name, report in reports.items()
        for comparison in report.comparisons
    ]
    verdicts += [(f"{MACRO}: {verdict(comparison)}.", comparison) for comparison in summary.comparisons]
    for text, comparison in verdicts:
        if comparison.measure == summary.measures[0]:
            _say(console, text, COLOURS[outcome(comparison)])
    console.print()
    for text in loud_sentences(reports):
        _say(console, text, "yellow")
    for name in reports:
        console.print(Text(f"Report: {output / name / 'report.html'}"), soft_wrap=True)
    console.print(Text(f"Summary: {output / 'summary.json'}"), soft_wrap=True)


def _say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence: wrapped between its figures on a terminal, one line of plain text in a pipe."""
    if console.is_terminal:
        width = console.width - 1
        text = textwrap.fill(unbreakable(text), width, subsequent_indent="  ", break_on_hyphens=False)
    console.print(Text(text.replace("\u00a0", " "), style=style), soft_wrap=True)


def _that_fit(
    columns: Sequence[str], make: Callable[[list[str]], Table], console: Console, foldable: int = 0
) -> list[rich.table.Table]:
    """Return tables of as many columns as the console has room for, at least one each.

    Args:
        columns: names of the columns.
        make: returns the table of some columns.
        console: its width is the limit.
        foldable: characters that the first column may lose.
    """
    unlimited = console.options.update(width=10_000)
    tables, shown = list[rich.table.Table](), list[str]()
    for column in columns:
        table = make([*shown, column]).rich()
        width = Measurement.get(console, unlimited, table).maximum - foldable
        if shown and width <= console.width:
            tables[-1] = table
            shown.append(column)
        else:
            tables.append(make([column]).rich())
            shown = [column]
    return tables
