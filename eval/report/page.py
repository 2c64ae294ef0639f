"""Pages of a report and of a summary: one HTML file each, without network, fonts or foreign scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..audits import added_text
from ..results import Audit, Comparison, Estimate, Report, System
from ..statistics import verdict
from ..words import unbreakable
from . import charts, drawing
from .sentences import (
    LEVELS,
    added_notes,
    audit_groups,
    basis,
    first_measure_comparisons,
    headline_system,
    leading_systems,
    level,
    sentence,
)
from .summary import Summary
from .tables import MACRO, bare_p, baseline_name, column_name

MOST_ROWS = 300

_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")


@dataclass(frozen=True)
class QueryExample:
    """One query as the baseline and the headline system ranked it.

    Attributes:
        documents: (rank before, rank after, score before, score after, relevant, text) of the documents
            worth showing, in the order to show; ranks count from 1 and are 0 if the system did not rank the
            document, `relevant` is None if nobody judged.
    """

    query_id: str
    query: str
    baseline_value: float
    system_value: float
    documents: list[tuple[int, int, float, float, bool | None, str]]


def render_report(
    report: Report,
    *,
    title: str,
    steps: list[dict[str, Any]] | None = None,
    examples: list[QueryExample] | None = None,
) -> str:
    """Return the page of a report.

    Args:
        report: its `headline_system` against its baseline leads the page.
        title: heading of the page and of the browser's tab.
        steps: rows of `metrics.jsonl` of a training run, for the curves.
        examples: queries to show in full, see `moved_queries`; largest move first.
    """
    measure = report.measures[0] if report.measures else ""
    system = headline_system(report)
    pairs = _paired_values(report, measure, system)
    moves = sorted(pairs.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
    comparison = report.comparison(system, measure) if system else None
    by_cost = charts.cost_chart(report.systems, measure, report.queries - len(report.missing_queries))
    return _render(
        "report.html.j2",
        [report],
        report=report,
        title=title,
        measure=measure,
        system=system,
        headline=comparison,
        sentence=prose(sentence(report, comparison)) if comparison else "",
        forest=charts.forest([(c.system, c) for c in first_measure_comparisons(report)]),
        basis=basis(report),
        added=added_text(report.added_positives) if report.added_positives else "",
        checks=audit_groups(report),
        loud=loud_audits(report),
        clean=clean_results(report),
        pairs=pairs,
        scatter=charts.scatter(pairs),
        bars=charts.gain_bars({query: after - before for query, (before, after) in pairs.items()}),
        moves=moves[:MOST_ROWS],
        examples=examples or [],
        rivals=loud_audits(report, rivals=True),
        curves=charts.training_curves(steps or [], _first_stage(report)),
        alarms=charts.training_alarms(steps or []),
        depths=[
            ("candidates reranked", charts.depth_chart(report.systems, measure)),
            ("milliseconds of scoring a query", by_cost),
        ],
        histogram_chart=charts.histogram_chart,
        reliability_chart=charts.reliability_chart,
    )


def moved_queries(report: Report, count: int) -> list[str]:
    """Return the queries whose first measure moved most between baseline and headline system.

    Queries that did not move are left out, so fewer than `count` may come back.
    """
    measure = report.measures[0] if report.measures else ""
    pairs = _paired_values(report, measure, headline_system(report))
    moved = [(abs(after - before), query) for query, (before, after) in pairs.items() if after != before]
    return [query for _, query in sorted(moved, key=lambda item: (-item[0], item[1]))[:count]]


def _paired_values(report: Report, measure: str, system: str) -> dict[str, tuple[float, float]]:
    """Map each query that both have to its (baseline, system) values."""
    values = report.per_query.get(measure, {})
    before, after = values.get(report.baseline, {}), values.get(system, {})
    return {query: (before[query], after[query]) for query in before if query in after}


def loud_audits(report: Report, *, rivals: bool = False) -> list[tuple[str, Audit]]:
    """Return the audits that limit the result, or with `rivals` the findings on all other systems.

    A leak is named once, for the data; what it means for each system is a table of its own.
    """
    leading = leading_systems(report)
    groups = [(name, audits) for name, audits in audit_groups(report) if (name not in leading) == rivals]
    groups.sort(key=lambda group: leading.index(group[0]) if group[0] in leading else 0)
    loud = [(name, audit) for name, audits in groups for audit in audits if audit.loud]
    named = any(audit.name == "leak" for audit in report.audits) and clean_results(report)
    loud = [(name, audit) for name, audit in loud if not (named and name and audit.name == "leak")]
    return sorted(loud, key=lambda item: level(item[1]) != "stop")


def _first_stage(report: Report) -> System | None:
    return next((system for system in report.systems if system.kind == "first_stage"), None)


def clean_results(report: Report) -> list[tuple[str, int, dict[str, Estimate]]]:
    """Return system, number of queries and results on the queries that are not in the training data."""
    rows = []
    for system in report.systems:
        values = next((audit.values for audit in system.audits if audit.name == "leak"), {})
        results = {
            measure: Estimate(values[measure], values[f"{measure} low"], values[f"{measure} high"])
            for measure in report.measures
            if {measure, f"{measure} low", f"{measure} high"} <= values.keys()
        }
        if results:
            rows.append((system.name, int(values["queries"]), results))
    return rows


def _render(template: str, reports: list[Report], **values: Any) -> str:
    """Fill a template of this folder; everything is escaped. The reports tell weights and machines."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=drawing.signed, p_value=bare_p, side=charts.side, decided=charts.decided, prose=prose,
        minus=drawing.minus, level=level,
    )  # fmt: skip
    environment.globals |= {"size": drawing, "levels": LEVELS}
    weights = {s.name: s.weights for report in reports for s in report.systems if s.weights}
    hardware = list(dict.fromkeys(report.hardware for report in reports if report.hardware))
    return environment.get_template(template).render(weights=weights, hardware=hardware, **values)


def prose(text: str) -> str:
    """Return a sentence with real minus signs, and no-break spaces within its figures."""
    return unbreakable(_NEGATIVE.sub("−", text))


@dataclass(frozen=True)
class SystemForest:
    """The differences of one system on every collection.

    Attributes:
        system: name of the system.
        chart: one row a collection, the macro average last.
        sentences: (name, verdict, comparison) of each row.
    """

    system: str
    chart: drawing.Chart
    sentences: list[tuple[str, str, Comparison]]


def write_summary_page(summary: Summary, reports: Mapping[str, Report], folder: Path) -> Path:
    """Write `report.html` beside the folders of the collections, and return its path.

    Args:
        summary: summary of the reports.
        reports: by name of the collection; the page of each is `folder / name / report.html`.
        folder: where to write.
    """
    page = folder / "report.html"
    page.write_text(render_summary(summary, reports), encoding="utf-8")
    return page


def render_summary(summary: Summary, reports: Mapping[str, Report]) -> str:
    """Return the page of a summary of reports, given by name of the collection."""
    names = [result.name for result in summary.collections]
    return _render(
        "summary.html.j2",
        list(reports.values()),
        report=summary,
        title=f"{', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}",
        measure=summary.measures[0] if summary.measures else "",
        baseline=baseline_name(summary),
        forests=system_forests(summary, reports),
        link=lambda result: f"{quote(result.name)}/report.html",
        macro_name=MACRO,
        added=added_notes(summary),
        loud=[
            (f"{name}, {system}" if system else name, audit)
            for name, report in reports.items()
            for system, audit in loud_audits(report)
        ],
    )


def system_forests(summary: Summary, reports: Mapping[str, Report]) -> list[SystemForest]:
    """Return a forest for each system that is compared on the leading measure; the headline system first."""
    measure = summary.measures[0] if summary.measures else ""
    forests = []
    for system in summary.systems:
        rows = [
            (column_name(result), prose(sentence(reports[result.name], comparison)), comparison)
            for result in summary.collections
            if (comparison := result.comparison(system, measure))
        ]
        if macro := summary.comparison(system, measure):
            rows.append((MACRO, prose(f"{verdict(macro)}."), macro))
        if rows:
            forests.append(SystemForest(system, charts.forest([(name, c) for name, _, c in rows]), rows))
    kinds = {system.name: system.kind for report in reports.values() for system in report.systems}
    models = [each for each in forests if kinds.get(each.system) == "model"]
    return [*models[::-1], *(each for each in forests if each not in models)]
