"""Sentences of a report: verdicts, audits and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..audits import added_text, stated, stated_of
from ..results import Audit, Comparison, Report
from ..statistics import outcome, verdict
from ..words import unbreakable
from .summary import Summary


@dataclass(frozen=True)
class Note:
    """One sentence on how far the numbers can be trusted; `loud` if something limits them."""

    text: str
    loud: bool = False


def sentence(report: Report, comparison: Comparison) -> str:
    """Return the verdict with both means; no-break spaces keep intervals on one line."""
    baseline = report.system(comparison.baseline).results.get(comparison.measure)
    text = verdict(comparison, baseline_mean=baseline.mean if baseline else None) + "."
    if comparison.detectable and outcome(comparison) == "undecided":
        text += f" So many queries find a true difference of {comparison.detectable:.3f} four times in five."
    return unbreakable(text)


def first_measure_comparisons(report: Report) -> list[Comparison]:
    """Return the comparisons on the leading measure, in the report's order of systems."""
    return [c for c in report.comparisons if c.measure in report.measures[:1]]


def audit_groups(report: Report) -> list[tuple[str, list[Audit]]]:
    """Return all audits, first of the data (with an empty name), then by name of the system.

    Reports of older versions have no audits: theirs come from the counts.
    """
    groups = [("", report.audits or stated(report))]
    groups += [(s.name, s.audits or stated_of(s, report.queries)) for s in report.systems]
    return [(name, audits) for name, audits in groups if audits]


def notes(report: Report) -> list[Note]:
    """Return the audits as sentences; of a first stage or a run only the loud ones."""
    told_in_full = {"", *(system.name for system in report.systems if system.kind == "model")}
    return [
        Note(f"{name}: {audit.text}." if name else f"{audit.text}.", audit.loud)
        for name, audits in audit_groups(report)
        for audit in audits
        if audit.loud or name in told_in_full
    ]


def audit_sentences(report: Report) -> list[str]:
    """Return the notes as text, loud ones marked."""
    return [f"Note: {note.text}" if note.loud else note.text for note in notes(report)]


def loud_sentences(reports: Mapping[str, Report]) -> list[str]:
    """Return the limits of the results, collection by collection."""
    return [f"{name}: {note.text}" for name, report in reports.items() for note in notes(report) if note.loud]


def basis(report: Report) -> str:
    """Return the line below every table: where the candidates come from."""
    text = f"Candidates: {report.candidates}, at most {report.depth} a query." if report.candidates else ""
    if report.added_positives:
        text += f" Note: {added_text(report.added_positives)}."
    return text.strip() or "Each run ranks its own documents."


def added_notes(summary: Summary) -> list[tuple[str, str]]:
    """Return the collections to which relevant passages were added, with the words for it."""
    return [(r.name, added_text(r.added_positives)) for r in summary.collections if r.added_positives]
