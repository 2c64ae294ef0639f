"""The summary of several collections as one HTML page: the gain where it was sought beside the guards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .compare import verdict
from .data_audits import added_text
from .html import audit_groups, environment, loud_audits, prose
from .plots import Forest, forest
from .report import Audit, Comparison, Report
from .summary import CollectionResult, Summary
from .summary_tables import MACRO, column_name
from .table import sentence


@dataclass(frozen=True)
class SystemForest:
    """The differences of one system on every collection, with the verdicts in words.

    Attributes:
        system: its name.
        chart: a row a collection, the macro average last.
        sentences: verdict of each row; (name, sentence, comparison).
    """

    system: str
    chart: Forest
    sentences: list[tuple[str, str, Comparison]]


def write_summary_page(summary: Summary, reports: Mapping[str, Report], folder: Path) -> Path:
    """Write `report.html` beside the folders of the collections, and return its path.

    Args:
        summary: of the reports.
        reports: by name of the collection; the page of each is `folder / name / report.html`.
        folder: where to write.
    """
    page = folder / "report.html"
    page.write_text(render_summary(summary, reports), encoding="utf-8")
    return page


def render_summary(summary: Summary, reports: Mapping[str, Report]) -> str:
    """The whole page.

    Args:
        summary: what was measured.
        reports: by name of the collection, for what limits the figures.
    """
    names = [result.name for result in summary.collections]
    return (
        environment()
        .get_template("summary.html.j2")
        .render(
            summary=summary,
            version=summary.version,
            title=f"{', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}",
            measure=summary.measures[0] if summary.measures else "",
            baseline=summary.baseline or "the baseline of each collection",
            forests=system_forests(summary, reports),
            column_name=column_name,
            link=result_link,
            macro_name=MACRO,
            added=[
                (result.name, added_text(result.added_positives))
                for result in summary.collections
                if result.added_positives
            ],
            loud=collection_audits(reports),
            weights=_weights(reports),
            hardware=list(dict.fromkeys(report.hardware for report in reports.values() if report.hardware)),
        )
    )


def system_forests(summary: Summary, reports: Mapping[str, Report]) -> list[SystemForest]:
    """One forest a system that is compared anywhere on the leading measure; the headline system first."""
    measure = summary.measures[0] if summary.measures else ""
    found = []
    for system in summary.systems:
        rows = [
            (column_name(result), prose(sentence(reports[result.name], comparison)), comparison)
            for result in summary.collections
            if (comparison := result.comparison(system, measure))
        ]
        macro = summary.comparison(system, measure)
        if macro:
            rows.append((MACRO, prose(f"{verdict(macro)}."), macro))
        if rows:
            found.append(SystemForest(system, forest([(name, c) for name, _, c in rows]), rows))
    kinds = {system.name: system.kind for report in reports.values() for system in report.systems}
    models = [each for each in found if kinds.get(each.system) == "model"]
    return [*models[::-1], *(each for each in found if each not in models)]


def collection_audits(reports: Mapping[str, Report]) -> list[tuple[str, str, Audit]]:
    """Collection, system (or empty) and audit of all that limits a result."""
    return [
        (name, system, audit)
        for name, report in reports.items()
        for system, audit in loud_audits(report, audit_groups(report))
    ]


def result_link(result: CollectionResult) -> str:
    """Where the page of a collection is, from the summary's place."""
    return f"{quote(result.name)}/report.html"


def _weights(reports: Mapping[str, Report]) -> dict[str, str]:
    return {s.name: s.weights for report in reports.values() for s in report.systems if s.weights}
