"""Parts of the card in rows and words: scores and thresholds, merging, data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from ...data.prompts import Prompts
from ...eval.report import notes
from ...eval.results import Report, System
from ...eval.words import format_difference, format_estimate
from ..evidence import Source
from ..merging import Merged, Point
from ..weights import Calibrated, Prepared, Threshold
from .metadata import candidates_words
from .statistics import Sample, Statistics, plain, training_facts

CardRow = tuple[str, ...]
SCALED = ("spread", "calibration")  # audits that say something of the scale of the scores
QUERY = "what is a reranker?"
PASSAGES = ("A reranker orders the passages that a first stage has found.", "The museum opens at nine.")


def calibration_line(calibrated: Calibrated) -> str:
    """One line for the terminal."""
    if calibrated.form == "none":
        return f"Not calibrated: {calibrated.reason}"
    return (
        f"Calibrated by {calibrated.form}: {calibrated.scale:.4f} * score {calibrated.shift:+.4f}; expected "
        f"calibration error {calibrated.error_before:.3f} before, {calibrated.error_held_out:.3f} on queries "
        "it was not fitted on"
    )


def example_part(prompts: Prompts) -> dict[str, str]:
    """Query and passages of the snippets as code, with the model's prompts before them.

    >>> example_part(Prompts("query: "))["query"]
    '"query: what is a reranker?"'
    """
    read = prompts.pairs((QUERY, passage) for passage in PASSAGES)
    texts = [passage for _, passage in read]
    words = [
        f"`{json.dumps(text, ensure_ascii=False)}` stands before every {name}"
        for name, text in (("query", prompts.query), ("passage", prompts.passage))
        if text
    ]
    request = {"query": read[0][0], "texts": texts, "raw_scores": True}
    return {
        "prompts": ", ".join(words),
        "query": json.dumps(read[0][0], ensure_ascii=False),
        "passages": json.dumps(texts, ensure_ascii=False),
        "request": shlex.quote(json.dumps(request, ensure_ascii=False)),
    }


def scores_part(prepared: Prepared, source: Source) -> dict[str, Any]:
    """What a score means: calibration, thresholds, rounding."""
    fitted, evidence = prepared.calibrated, source.evidence[0]
    return {
        "fitted": fitted,
        "done": fitted.form != "none",
        "share": f"{100 * fitted.relevant / max(fitted.pairs, 1):.1f} %",
        "data": f"`{evidence.name}` ({evidence.split})",
        "candidates": candidates_words(evidence.report),
        "thresholds": [_threshold_row(row) for row in _worth_showing(fitted.thresholds)],
        "proof": prepared.calibration_change,
        "kind": prepared.kind,
        "rounding": prepared.rounding,
        "number": _number,
    }


def merging_part(merged: Merged, source: Source) -> dict[str, Any]:
    """The mixtures that were tried, and why one of them was taken."""
    names = [str(guard["name"]) for guard in merged.guards]
    return {
        "measure": merged.measure,
        "rule": merged.rule,
        "dev": source.evidence[0].name,
        "guards": [
            f"`{guard['name']}` ({guard['queries']} queries, {guard['candidates']})"
            for guard in merged.guards
        ],
        "names": names,
        "rows": [_point_row(point) for point in merged.points],
        "chosen": _mixture_words(merged.chosen),
        "head_kept": merged.head_kept,
        "changed": merged.changed,
        "changes": [
            (f"`{name}`", format_difference(change), f"{change.p:.4f}")
            for name, change in zip(names, merged.guard_changes, strict=False)
        ],
    }


def notes_words(report: Report, tuned: System, *, calibrated: bool) -> str:
    """The audits of the data and of the model as sentences.

    What depends on the scale of the scores is about the measured ones: of a calibrated model it says so.
    """
    others = tuple(f"{system.name}: " for system in report.systems if system is not tuned)
    words = " ".join(note.text for note in notes(report) if not note.text.startswith(others))
    for audit in tuned.audits:
        if calibrated and audit.name in SCALED:
            old = f"{tuned.name}: {audit.text}."
            words = words.replace(old, f"{tuned.name}, before calibration: {audit.text}.")
    return words


def data_part(statistics: Statistics | None, samples: Sequence[Sample], source: Source) -> dict[str, Any]:
    """Counts and lengths of the data, and the samples as Markdown."""
    return {
        "train": [(f"`{name}`", words) for name, words in training_facts(source)],
        "dev": f"`{source.evidence[0].name}` ({source.evidence[0].split})",
        "statistics": statistics,
        "lengths": ", ".join(f"{name} {tokens:,}" for name, tokens in statistics.lengths.items())
        if statistics
        else "",
        "samples": [
            {
                "query": plain(sample.query),
                "relevant": plain(sample.relevant),
                "relevant_score": f"{sample.relevant_score:.3f}",
                "other": plain(sample.other),
                "other_score": f"{sample.other_score:.3f}",
                "other_words": "judged not relevant" if sample.judged else "not judged",
            }
            for sample in samples
        ],
    }


def _worth_showing(rows: Sequence[Threshold]) -> list[Threshold]:
    """Cut-offs up to the first that nothing reaches."""
    empty = next((place for place, row in enumerate(rows) if not row.kept), len(rows))
    return list(rows[: empty + 1])


def _threshold_row(row: Threshold) -> CardRow:
    precision = "–" if row.precision is None else f"{row.precision:.3f}"
    cells = (
        f"{row.probability:.3f}",
        f"{row.score:.3f}",
        f"{row.kept:,}",
        f"{row.relevant:,}",
        precision,
        f"{row.recall:.3f}",
        f"{row.f1:.3f}",
    )
    return tuple(f"**{cell}**" for cell in cells) if row.best else cells


def _point_row(point: Point) -> CardRow:
    cells = [_mixture_words(point), format_estimate(point.dev), *map(format_estimate, point.guards)]
    cells.append("best mixture on dev" if point.to_best is None else format_difference(point.to_best))
    cells.append("published" if point.chosen else "yes" if point.allowed else "no")
    return tuple(f"**{cell}**" if point.chosen else cell for cell in cells)


def _mixture_words(point: Point) -> str:
    """A mixture in words.

    >>> from ..eval.report import Estimate
    >>> _mixture_words(Point(0.4, (), "sha256:", Estimate(0, 0, 0), ()))
    '0.4 tuned + 0.6 base'
    """
    tuned = f"mean of {len(point.checkpoints)} checkpoints" if point.checkpoints else "tuned"
    if point.share in (0, 1):
        return tuned if point.share else "base"
    return f"{point.share:g} {tuned} + {1 - point.share:.3g} base"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
