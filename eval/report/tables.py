"""Tables of a report and of a summary, for papers and readmes and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import Comparison, Estimate, Report
from ..statistics import ALPHA, outcome
from ..words import count_of, format_difference, format_estimate, format_p, format_tests
from .sentences import added_notes, basis
from .summary import CollectionResult, Summary
from .table import Table

MACRO = "macro average"
COLOURS = {"better": "green", "worse": "red", "undecided": ""}


def report_tables(report: Report) -> list[Table]:
    """Return the results, and the differences if there are any."""
    return [results(report), *([difference_table(report)] if report.comparisons else [])]


def results(report: Report) -> Table:
    """Return one row a system, one column a measure, marked if the difference is significant after Holm."""
    rows = [[system.name] for system in report.systems]
    for system, cells in zip(report.systems, rows, strict=True):
        for measure in report.measures:
            estimate = system.results.get(measure)
            mark = significance(report.comparison(system.name, measure))
            cells.append(f"{format_estimate(estimate)}{mark}" if estimate else "–")
    caption = f"Mean over {count_of(report.queries, 'query')} with 95 % bootstrap intervals."
    if report.comparisons:
        caption += (
            f" † better, ‡ worse than {report.baseline} (paired randomisation test, "
            f"p < {ALPHA} after Holm's correction, and an interval of the difference without 0)."
        )
    return Table(["System", *report.measures], rows, f"{caption} {basis(report)}", "results")


def difference_table(report: Report) -> Table:
    """Return one row a comparison: difference, tests, queries won and lost, detectable difference."""
    rows = [
        [
            c.system,
            c.measure,
            format_difference(c),
            bare_p(c.p),
            bare_p(c.p_holm),
            f"{c.wins} / {c.ties} / {c.losses}",
            f"{c.detectable:.3f}" if c.detectable else "–",
        ]
        for c in report.comparisons
    ]
    header = ["System", "Measure", "Difference", "p", "p (Holm)", "Won / tied / lost", "Detectable"]
    caption = (
        f"Paired differences to {report.baseline} with 95 % bootstrap intervals. Detectable is the smallest "
        "true difference that so many queries find with a probability of 0.8."
    )
    return Table(header, rows, f"{caption} {basis(report)}", "differences")


def summary_tables(summary: Summary) -> list[Table]:
    """Return one table a measure: a row a system, columns for headline, guards and macro average."""
    header = ["System", *map(column_name, summary.collections), MACRO]
    added = "".join(f" Note, {name}: {text}." for name, text in added_notes(summary))
    tables = []
    for measure in summary.measures:
        rows = [
            [system, *(_compact(*figures) for figures in _across(summary, system, measure))]
            for system in summary.systems
        ]
        caption = (
            f"{measure}: mean and difference to {baseline_name(summary)} with its 95 % bootstrap interval. "
            f"† better, ‡ worse (p < {ALPHA} after Holm's correction, and an interval without 0). The first "
            "collection is the headline, the others are guards; the macro average gives each the same weight."
        )
        tables.append(Table(header, rows, f"{caption}{added}", f"summary-{measure.lower()}"))
    return tables


def terminal_results(report: Report, measures: Sequence[str]) -> Table:
    """Return one row a system; below each value the difference to the baseline with interval and p."""
    first = report.measures[0] if report.measures else ""
    counted = first in measures and bool(report.comparisons)
    rows = []
    for system in report.systems:
        at_baseline = "baseline" if system.name == report.baseline and report.comparisons else ""
        cells = []
        for measure in measures:
            estimate = system.results.get(measure)
            value = format_estimate(estimate) if estimate else "not measured"
            cells.append(_stacked(value, report.comparison(system.name, measure), at_baseline))
        if counted:
            c = report.comparison(system.name, first)
            cells.append((f"{c.wins}/{c.ties}/{c.losses}" if c else "", ""))
        rows.append((system.name, cells))
    header = ["system", *measures, *(["won/tied/lost"] if counted else [])]
    return _coloured(header, rows, ruled=bool(report.comparisons))


def terminal_summary(summary: Summary, measure: str, systems: Sequence[str]) -> Table:
    """Return one row a collection, the macro average last; one column a system."""
    columns = [
        [
            _stacked(f"{estimate.mean:.3f}" if estimate else "not measured", comparison)
            for estimate, comparison in _across(summary, system, measure)
        ]
        for system in systems
    ]
    names = [*map(column_name, summary.collections), MACRO]
    rows = [(name, list(cells)) for name, *cells in zip(names, *columns, strict=True)]
    return _coloured([measure, *systems], rows, ruled=True)


def _coloured(header: list[str], rows: list[tuple[str, list[tuple[str, str]]]], *, ruled: bool) -> Table:
    """Return a table for the terminal from names and (text, style) of their figures."""
    texts = [[name, *(text for text, _ in cells)] for name, cells in rows]
    return Table(header, texts, styles=[[style for _, style in cells] for _, cells in rows], ruled=ruled)


def _across(summary: Summary, system: str, measure: str) -> list[tuple[Estimate | None, Comparison | None]]:
    """Return the figures of a system on every collection, then of its macro average."""
    places = [(result.results, result.comparison(system, measure)) for result in summary.collections]
    places.append((summary.macro, summary.comparison(system, measure)))
    return [(results.get(system, {}).get(measure), comparison) for results, comparison in places]


def _compact(estimate: Estimate | None, comparison: Comparison | None) -> str:
    """Return mean, difference, interval and mark on one line."""
    if estimate is None:
        return "–"
    if comparison is None:
        return f"{estimate.mean:.3f}"
    return f"{estimate.mean:.3f} {format_difference(comparison)}{significance(comparison)}"


def _stacked(value: str, comparison: Comparison | None, otherwise: str = "") -> tuple[str, str]:
    """Return value, difference and tests below each other, and their style."""
    if comparison is None:
        return (f"{value}\n{otherwise}" if otherwise else value), "dim"
    lines = [value, format_difference(comparison), format_tests(comparison)]
    return "\n".join(lines), COLOURS[outcome(comparison)]


def column_name(result: CollectionResult) -> str:
    """Return the name of a collection, with its role if it is a guard."""
    return result.name if result.role == "headline" else f"{result.name} (guard)"


def baseline_name(summary: Summary) -> str:
    """Return the common baseline, or words for several."""
    return summary.baseline or "the baseline of each collection"


def significance(comparison: Comparison | None) -> str:
    """Return `†` for better, `‡` for worse, nothing if undecided."""
    return "" if comparison is None else {"better": "†", "worse": "‡", "undecided": ""}[outcome(comparison)]


def bare_p(p: float | None) -> str:
    """Format a p-value for a column that is called p."""
    return "–" if p is None else format_p(p).removeprefix("p = ").removeprefix("p ")
