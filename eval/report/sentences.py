"""What a report says in sentences: verdicts, alarms, notes."""

from __future__ import annotations

from dataclasses import dataclass

from ..audits import stated, stated_of
from ..results import Comparison, Report
from ..statistics import outcome, verdict
from ..words import unbreakable


@dataclass(frozen=True)
class Note:
    """One sentence on how far the numbers can be trusted.

    Attributes:
        text: the sentence.
        loud: True where something limits the result, False where all is well.
    """

    text: str
    loud: bool = False


def sentence(report: Report, comparison: Comparison) -> str:
    """The verdict with both means; line breaks are kept out of intervals by no-break spaces."""
    baseline = report.system(comparison.baseline).results.get(comparison.measure)
    text = verdict(comparison, baseline_mean=baseline.mean if baseline else None) + "."
    if comparison.detectable and outcome(comparison) == "undecided":
        text += f" So many queries find a true difference of {comparison.detectable:.3f} four times in five."
    return unbreakable(text)


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
