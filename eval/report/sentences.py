"""Sentences of a report: verdicts, audits and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..audits import added_text, sample_text, stated, stated_of
from ..results import Audit, Comparison, Report
from ..statistics import outcome, verdict
from ..words import count_of, some, unbreakable
from .summary import Summary

# After these the figures do not mean what they say: scores without an order, queries seen in training.
STOPS = ("spread", "direction", "leak")
LEVELS = {"stop": "Stops you", "know": "Know this", "fine": "Fine"}


@dataclass(frozen=True)
class Note:
    """One sentence on how far the numbers can be trusted.

    Attributes:
        text: the sentence.
        level: one of `LEVELS`.
        name: name of the audit.
        system: system that was audited; empty for the data.
    """

    text: str
    level: str = "fine"
    name: str = ""
    system: str = ""

    @property
    def loud(self) -> bool:
        """True if it limits the numbers."""
        return self.level != "fine"

    @property
    def marked(self) -> str:
        """The sentence, with its level if it limits the numbers."""
        return f"{LEVELS[self.level]}: {self.text}" if self.loud else self.text


def level(audit: Audit) -> str:
    """Return the level of a finding, one of `LEVELS`."""
    return "fine" if not audit.loud else "stop" if audit.name in STOPS else "know"


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


def headline_system(report: Report) -> str:
    """Return the system that leads the page: the last model that is not the baseline, else ``""``."""
    others = [system for system in report.systems if system.name != report.baseline]
    models = [system for system in others if system.kind == "model"]
    return (models or others)[-1].name if others else ""


def leading_systems(report: Report) -> list[str]:
    """Return an empty name, for the data, the headline system and its baseline."""
    return list(dict.fromkeys(("", headline_system(report), report.baseline)))


def notes(report: Report) -> list[Note]:
    """Return the audits as sentences; of a first stage or a run only the loud ones.

    A finding on any other system than the leading ones stops nobody.
    """
    told_in_full = {"", *(system.name for system in report.systems if system.kind == "model")}
    leading = leading_systems(report)
    return [
        Note(
            f"{name}: {audit.text}." if name else f"{audit.text}.",
            level(audit) if name in leading or not audit.loud else "know",
            audit.name,
            name,
        )
        for name, audits in audit_groups(report)
        for audit in audits
        if audit.loud or name in told_in_full
    ]


def audit_sentences(report: Report) -> list[str]:
    """Return the notes as text, with the level of those that limit the numbers."""
    return [note.marked for note in notes(report)]


def loud_sentences(reports: Mapping[str, Report]) -> list[str]:
    """Return the limits of the results, collection by collection."""
    return [
        f"{LEVELS[note.level]}: {name}: {note.text}"
        for name, report in reports.items()
        for note in notes(report)
        if note.loud
    ]


def level_lines(report: Report) -> list[str]:
    """Return a line for each level with its findings by name: what to read above, or in the report."""
    lines, every = [], notes(report)
    for key, words in LEVELS.items():
        found = [note for note in every if note.level == key]
        names = [f"{note.name} of {note.system}" if note.system else note.name for note in found]
        told = count_of(len(found), "check") if key == "fine" else some(names) or "nothing"
        lines.append(f"{words}: {told}.")
    return lines


def basis(report: Report) -> str:
    """Return the line below every table: which queries, and where the candidates come from."""
    text = f"Candidates: {report.candidates}, at most {report.depth} a query." if report.candidates else ""
    if report.sampled_from:
        text = f"Only {sample_text(report)}. {text}"
    if report.added_positives:
        text += f" Note: {added_text(report.added_positives)}."
    return text.strip() or "Each run ranks its own documents."


def added_notes(summary: Summary) -> list[tuple[str, str]]:
    """Return the collections to which relevant passages were added, with the words for it."""
    return [(r.name, added_text(r.added_positives)) for r in summary.collections if r.added_positives]
