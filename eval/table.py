"""The report on a terminal: a table of the systems, then in sentences what it means."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from .audits import stated_of
from .compare import outcome, verdict
from .data_audits import added_text, stated
from .report import Comparison, Estimate, Report, System

NARROWEST_NAME, WIDEST_NAME = 12, 28
COLOURS = {"better": "green", "worse": "red", "undecided": ""}

_UNBREAKABLE = re.compile(r"\[[^\]]*\]|p [=<] (?=\d)|(?<=\d) (?=%)")


@dataclass(frozen=True)
class Note:
    """One sentence on how far the numbers can be trusted.

    Attributes:
        text: the sentence.
        loud: True where something limits the result, False where all is well.
    """

    text: str
    loud: bool = False


def format_estimate(estimate: Estimate) -> str:
    """Mean and interval.

    >>> format_estimate(Estimate(mean=0.712, low=0.681, high=0.742))
    '0.712 [0.681, 0.742]'
    """
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def format_difference(comparison: Comparison) -> str:
    """Signed difference and its interval, such as ``+0.042 [+0.018, +0.066]``."""
    return f"{comparison.difference:+.3f} [{comparison.low:+.3f}, {comparison.high:+.3f}]"


def format_p(p: float) -> str:
    """A p-value that never reads as zero.

    >>> format_p(0.0312), format_p(0.0001)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def format_tests(comparison: Comparison) -> str:
    """p, and what Holm's correction makes of it where several systems are compared."""
    p, corrected = comparison.p, comparison.p_holm
    if corrected is None or corrected == p:
        return format_p(p)
    return f"{format_p(p)}, Holm {format_p(corrected).removeprefix('p = ').removeprefix('p ')}"


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


def sentence(report: Report, comparison: Comparison) -> str:
    """The verdict with both means; line breaks are kept out of intervals by no-break spaces."""
    baseline = report.system(comparison.baseline).results.get(comparison.measure)
    text = verdict(comparison, baseline_mean=baseline.mean if baseline else None) + "."
    if comparison.detectable and outcome(comparison) == "undecided":
        text += f" So many queries find a true difference of {comparison.detectable:.3f} four times in five."
    return unbreakable(text)


def unbreakable(text: str) -> str:
    """The text with no-break spaces inside intervals, p-values and percentages."""
    return _UNBREAKABLE.sub(lambda found: found.group().replace(" ", "\u00a0"), text)


def first_measure_comparisons(report: Report) -> list[Comparison]:
    """The comparisons on the measure that the report puts first, in its order of systems."""
    return [c for c in report.comparisons if c.measure in report.measures[:1]]


def notes(report: Report) -> list[Note]:
    """The audits as sentences: of the data, then of each system.

    Of a first stage or a run only the loud ones. A report of an older version has no audits; then what its
    counts say.
    """
    about = report.audits or stated(report)
    found = [Note(f"{audit.text}.", audit.loud) for audit in about]
    for system in report.systems:
        for audit in system.audits or stated_of(system, report.queries):
            if audit.loud or system.kind == "model":
                found.append(Note(f"{system.name}: {audit.text}.", audit.loud))
    return found


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
