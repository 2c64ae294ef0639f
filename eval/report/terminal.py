"""The report on a terminal: a table of the systems, then in sentences what it means.

Several collections on a terminal: a line each, so that a loss on a guard stands beside the gain.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..audits import added_text
from ..results import Comparison, Estimate, Report, System
from ..statistics import outcome, verdict
from ..words import format_difference, format_estimate, format_tests, unbreakable
from .sentences import first_measure_comparisons, notes, sentence
from .summary import Summary
from .tables import MACRO, column_name, loud_sentences

NARROWEST_NAME, WIDEST_NAME = 12, 28
COLOURS = {"better": "green", "worse": "red", "undecided": ""}


def results_table(report: Report, measures: Sequence[str] | None = None) -> Table:
    """One row a system; under each value the difference to the baseline with interval and p.

    Args:
        report: what to show.
        measures: the columns; all of the report's when None.
    """
    measures = report.measures if measures is None else measures
    first = report.measures[0] if report.measures else ""
    counted = first in measures and bool(report.comparisons)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("system", overflow="fold", max_width=WIDEST_NAME)
    for header in [*measures, "won/tied/lost"] if counted else measures:
        table.add_column(Text(header), no_wrap=True)
    for system in report.systems:
        cells = [_cell(report, system, measure) for measure in measures]
        if counted and (c := report.comparison(system.name, first)):
            cells.append(Text(f"{c.wins}/{c.ties}/{c.losses}"))
        table.add_row(Text(system.name, style="bold"), *cells)
        if report.comparisons and system is not report.systems[-1]:
            table.add_section()
    return table


def print_report(report: Report, console: Console, where: Path) -> None:
    """Print the table, a verdict for each comparison on the first measure, the limits, and the file.

    Args:
        report: what to show.
        console: its width decides how many measures stand side by side; numbers are never wrapped.
        where: the file `report.html`, named on the last line.
    """
    for table in _tables_that_fit(report, console):
        console.print(table)
        console.print()
    if report.comparisons:
        text = f"Differences are to {report.baseline}; brackets are 95 % intervals of the mean."
        say(console, text, "dim")
    if report.added_positives:
        say(console, f"Note: {added_text(report.added_positives)}.", "yellow")
    for comparison in first_measure_comparisons(report):
        say(console, sentence(report, comparison), COLOURS[outcome(comparison)])
    console.print()
    for note in notes(report):
        say(console, note.text, "yellow" if note.loud else "")
    console.print(Text(f"Report: {where}"), soft_wrap=True)


def say(console: Console, text: str, style: str) -> None:
    """Print a sentence: wrapped between its figures on a terminal, one line of plain text in a pipe."""
    if console.is_terminal:
        width = console.width - 1
        text = textwrap.fill(unbreakable(text), width, subsequent_indent="  ", break_on_hyphens=False)
    console.print(Text(text.replace("\u00a0", " "), style=style), soft_wrap=True)


def _tables_that_fit(report: Report, console: Console) -> list[Table]:
    longest = max((len(system.name) for system in report.systems), default=0)
    foldable = max(0, min(longest, WIDEST_NAME) - NARROWEST_NAME)
    unlimited = console.options.update(width=10_000)
    tables, shown = list[Table](), list[str]()
    for measure in report.measures:
        table = results_table(report, [*shown, measure])
        width = Measurement.get(console, unlimited, table).maximum - foldable
        if shown and width <= console.width:
            tables[-1] = table
            shown.append(measure)
        else:
            tables.append(results_table(report, [measure]))
            shown = [measure]
    return tables


def _cell(report: Report, system: System, measure: str) -> Text:
    estimate = system.results.get(measure)
    lines = [format_estimate(estimate) if estimate else "not measured"]
    if comparison := report.comparison(system.name, measure):
        lines += [format_difference(comparison), format_tests(comparison)]
    elif system.name == report.baseline and report.comparisons:
        lines.append("baseline")
    style = COLOURS[outcome(comparison)] if comparison else "dim"
    return Text(lines[0]).append("".join(f"\n{line}" for line in lines[1:]), style=style)


def collections_table(summary: Summary, measure: str, systems: Sequence[str]) -> Table:
    """One row a collection, the macro average last; one column a system.

    Args:
        summary: what to show.
        measure: the one to show.
        systems: the columns.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(Text(measure), overflow="fold", max_width=WIDEST_NAME)
    for system in systems:
        table.add_column(Text(system), no_wrap=True)
    for result in summary.collections:
        cells = [
            _summary_cell(result.results.get(system, {}).get(measure), result.comparison(system, measure))
            for system in systems
        ]
        table.add_row(Text(column_name(result), style="bold"), *cells)
        table.add_section()
    macro = [
        _summary_cell(summary.macro.get(system, {}).get(measure), summary.comparison(system, measure))
        for system in systems
    ]
    table.add_row(Text(MACRO, style="bold"), *macro)
    return table


def print_summary(summary: Summary, reports: Mapping[str, Report], console: Console, output: Path) -> None:
    """Print a table a measure, a verdict for each collection on the first one, the limits, and the files.

    Args:
        summary: what to show.
        reports: by name of the collection.
        console: its width decides how many systems stand side by side.
        output: the folder that was written.
    """
    for measure in summary.measures:
        for systems in _that_fit(summary, measure, console):
            console.print(collections_table(summary, measure, systems))
            console.print()
    if any(result.comparisons for result in summary.collections):
        to = summary.baseline or "the baseline of each collection"
        say(console, f"Differences are to {to}; brackets are their 95 % intervals.", "dim")
    leading = summary.measures[0]
    for name, report in reports.items():
        for comparison in report.comparisons:
            if comparison.measure == leading:
                text = f"{name}: {sentence(report, comparison)}"
                say(console, text, COLOURS[outcome(comparison)])
    for comparison in summary.comparisons:
        if comparison.measure == leading:
            say(console, f"{MACRO}: {verdict(comparison)}.", COLOURS[outcome(comparison)])
    console.print()
    for text in loud_sentences(reports):
        say(console, text, "yellow")
    for name in reports:
        console.print(Text(f"Report: {output / name / 'report.html'}"), soft_wrap=True)
    console.print(Text(f"Summary: {output / 'summary.json'}"), soft_wrap=True)


def _summary_cell(estimate: Estimate | None, comparison: Comparison | None) -> Text:
    if estimate is None:
        return Text("not measured", style="dim")
    lines = [f"{estimate.mean:.3f}"]
    if comparison is not None:
        lines += [format_difference(comparison), format_tests(comparison)]
    style = COLOURS[outcome(comparison)] if comparison else "dim"
    return Text("\n".join(lines), style=style)


def _that_fit(summary: Summary, measure: str, console: Console) -> list[list[str]]:
    """The systems in groups whose table is not wider than the console; at least one each."""
    unlimited = console.options.update(width=10_000)
    groups: list[list[str]] = []
    for system in summary.systems:
        longer = [*groups[-1], system] if groups else [system]
        table = collections_table(summary, measure, longer)
        if groups and Measurement.get(console, unlimited, table).maximum <= console.width:
            groups[-1] = longer
        else:
            groups.append([system])
    return groups
