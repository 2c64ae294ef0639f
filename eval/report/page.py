"""The report as one HTML file that needs nothing else: no network, no fonts, no foreign scripts.

The summary of several collections as one HTML page: the gain where it was sought beside the guards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..audits import added_text, stated, stated_of
from ..results import Audit, Comparison, Estimate, Report
from ..statistics import outcome, verdict
from ..words import unbreakable
from . import charts as plots
from .charts import Forest, forest
from .score_charts import cost_chart, depth_chart, histogram_chart, reliability_chart
from .sentences import first_measure_comparisons, sentence
from .summary import CollectionResult, Summary
from .tables import MACRO, bare_p, basis, column_name
from .training_charts import training_alarms, training_curves

MOST_ROWS = 300

_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")


@dataclass(frozen=True)
class QueryExample:
    """One query as the baseline and the headline system ranked it.

    Attributes:
        documents: (rank before, rank after, score before, score after, relevant, text) of the
            documents worth showing, in the order to show; ranks count from 1 and are 0 where the system
            did not rank the document, `relevant` is None where nobody judged.
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
    """The whole page.

    Args:
        report: what was measured; its `headline_system` against its baseline leads the page.
        title: heading of the page and of the browser's tab.
        steps: rows of `metrics.jsonl` of a training run, for the curves.
        examples: queries to show in full, see `moved_queries`; largest move first.
    """
    measure = report.measures[0] if report.measures else ""
    system = headline_system(report)
    pairs = _paired_values(report, measure, system)
    moves = sorted(pairs.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
    comparison = report.comparison(system, measure) if system else None
    comparisons = first_measure_comparisons(report)
    checks = audit_groups(report)
    return (
        environment_rows()
        .get_template("report.html.j2")
        .render(
            report=report,
            version=report.version,
            title=title,
            measure=measure,
            system=system,
            headline=comparison,
            sentence=prose(sentence(report, comparison)) if comparison else "",
            forest=plots.forest([(c.system, c) for c in comparisons]),
            basis=basis(report),
            added=added_text(report.added_positives) if report.added_positives else "",
            checks=checks,
            loud=loud_audits(report, checks),
            clean=clean_results(report),
            pairs=pairs,
            scatter=plots.scatter(pairs),
            bars=plots.gain_bars({query: after - before for query, (before, after) in pairs.items()}),
            moves=moves[:MOST_ROWS],
            examples=examples or [],
            curves=training_curves(steps or []),
            alarms=training_alarms(steps or []),
            depths=[
                ("candidates reranked", depth_chart(report.systems, measure)),
                ("milliseconds of scoring a query", cost_chart(report.systems, measure, report.queries)),
            ],
            histogram_chart=histogram_chart,
            reliability_chart=reliability_chart,
        )
    )


def headline_system(report: Report) -> str:
    """Name of the system that the report is about: the last model which is not the baseline, else ``""``."""
    others = [system for system in report.systems if system.name != report.baseline]
    models = [system for system in others if system.kind == "model"]
    return (models or others)[-1].name if others else ""


def moved_queries(report: Report, count: int) -> list[str]:
    """Ids of the queries whose first measure moved most between baseline and headline system.

    Those that did not move are left out, so fewer than `count` may come back.
    """
    measure = report.measures[0] if report.measures else ""
    pairs = _paired_values(report, measure, headline_system(report))
    moved = [(abs(after - before), query) for query, (before, after) in pairs.items() if after != before]
    return [query for _, query in sorted(moved, key=lambda item: (-item[0], item[1]))[:count]]


def audit_groups(report: Report) -> list[tuple[str, list[Audit]]]:
    """What is audited (empty for the data, else the system) and its audits; none left out.

    A report of an older version has no audits; then what its counts say.
    """
    groups = [("", report.audits or stated(report))]
    groups += [(s.name, s.audits or stated_of(s, report.queries)) for s in report.systems]
    return [(name, audits) for name, audits in groups if audits]


def loud_audits(report: Report, groups: list[tuple[str, list[Audit]]]) -> list[tuple[str, Audit]]:
    """The audits that limit the result; those of the headline system before those of its rivals.

    A leak is said once, of the data; what it means for each system is a table of its own.
    """
    leading = ("", headline_system(report), report.baseline)
    ordered = sorted(groups, key=lambda group: leading.index(group[0]) if group[0] in leading else 3)
    found = [(name, audit) for name, audits in ordered for audit in audits if audit.loud]
    told = any(audit.name == "leak" and not name for name, audit in found) and clean_results(report)
    return [(name, audit) for name, audit in found if not (told and name and audit.name == "leak")]


def clean_results(report: Report) -> list[tuple[str, int, dict[str, Estimate]]]:
    """System, number of queries and results on the queries that are not in the training data."""
    found = []
    for system in report.systems:
        values = next((audit.values for audit in system.audits if audit.name == "leak"), {})
        results = {
            measure: Estimate(values[measure], values[f"{measure} low"], values[f"{measure} high"])
            for measure in report.measures
            if {measure, f"{measure} low", f"{measure} high"} <= values.keys()
        }
        if results:
            found.append((system.name, int(values["queries"]), results))
    return found


def environment_rows() -> Environment:
    """Templates of this room, everything escaped, with the filters of the pages."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    found = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters.update(
        signed=plots.signed,
        p_value=_p_value,
        side=plots.side,
        decided=_decided,
        prose=prose,
        minus=_minus,
    )
    found.globals["size"] = plots
    return found


def _paired_values(report: Report, measure: str, system: str) -> dict[str, tuple[float, float]]:
    """Query id to (baseline, system) value, for the queries that both have."""
    values = report.per_query.get(measure, {})
    before, after = values.get(report.baseline, {}), values.get(system, {})
    return {query: (before[query], after[query]) for query in before if query in after}


def _decided(comparison: Comparison | None) -> str:
    """`better`, `worse` or `same`, by which the page colours it."""
    return "same" if comparison is None else outcome(comparison).replace("undecided", "same")


def _p_value(p: float | None) -> str:
    return "–" if p is None else bare_p(p)


def prose(text: str) -> str:
    """A sentence with real minus signs, and figures that no line break parts."""
    return unbreakable(_NEGATIVE.sub("−", text))


def _minus(text: str) -> str:
    """A number in words with a real minus sign."""
    return text.replace("-", "−")


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
        environment_rows()
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
