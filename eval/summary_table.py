"""Several collections on a terminal: a line each, so that a loss on a guard stands beside the gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from .compare import outcome, verdict
from .report import Comparison, Estimate, Report
from .summary import Summary
from .summary_tables import MACRO, column_name, loud_sentences
from .table import COLOURS, WIDEST_NAME, format_difference, format_tests, say, sentence


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
            _cell(result.results.get(system, {}).get(measure), result.comparison(system, measure))
            for system in systems
        ]
        table.add_row(Text(column_name(result), style="bold"), *cells)
        table.add_section()
    macro = [
        _cell(summary.macro.get(system, {}).get(measure), summary.comparison(system, measure))
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


def _cell(estimate: Estimate | None, comparison: Comparison | None) -> Text:
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
