"""The summary of several collections as tables: one a measure, a column for each collection."""

from __future__ import annotations

from collections.abc import Mapping

from .compare import ALPHA
from .data_audits import added_text
from .report import Comparison, Estimate, Report
from .summary import CollectionResult, Summary
from .table import format_difference, notes
from .tables import Table, significance

MACRO = "macro average"


def summary_tables(summary: Summary) -> list[Table]:
    """One table a measure: rows are systems, columns the headline, the guards and the macro average."""
    return [summary_table(summary, measure) for measure in summary.measures]


def summary_table(summary: Summary, measure: str) -> Table:
    """The results on one measure, with the differences to the baseline and their significance."""
    header = ["System", *(column_name(result) for result in summary.collections), MACRO]
    rows = []
    for system in summary.systems:
        cells = [
            cell(result.results.get(system, {}).get(measure), result.comparison(system, measure))
            for result in summary.collections
        ]
        macro = cell(summary.macro.get(system, {}).get(measure), summary.comparison(system, measure))
        rows.append([system, *cells, macro])
    to = summary.baseline or "the baseline of each collection"
    caption = (
        f"{measure}: mean and difference to {to} with its 95 % bootstrap interval. † better, ‡ worse "
        f"(p < {ALPHA} after Holm's correction, and an interval without 0). The first collection is the "
        "headline, the others are guards; the macro average gives each the same weight."
    )
    return Table(f"{caption}{_added(summary)}", f"summary-{measure.lower()}", header, rows)


def column_name(result: CollectionResult) -> str:
    """The collection, said to be a guard where it is one."""
    return result.name if result.role == "headline" else f"{result.name} (guard)"


def cell(estimate: Estimate | None, comparison: Comparison | None) -> str:
    """Mean, then the difference with its interval and mark."""
    if estimate is None:
        return "–"
    if comparison is None:
        return f"{estimate.mean:.3f}"
    return f"{estimate.mean:.3f} {format_difference(comparison)}{significance(comparison)}"


def loud_sentences(reports: Mapping[str, Report]) -> list[str]:
    """What limits the results, collection by collection."""
    return [f"{name}: {note.text}" for name, report in reports.items() for note in notes(report) if note.loud]


def _added(summary: Summary) -> str:
    return "".join(
        f" Note, {result.name}: {added_text(result.added_positives)}."
        for result in summary.collections
        if result.added_positives
    )
