"""Several collections: the headline, the guards beside it, and the macro average over all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..results import Compared, Comparison, Estimate, Report
from ..statistics import macro_compare, macro_estimate


@dataclass(frozen=True)
class CollectionResult(Compared):
    """Results on one collection; its report is in the folder of its name.

    Attributes:
        name: name of the collection and of its folder.
        role: `headline` for the first collection, `guard` for the others.
        data: path of the judged queries.
        fingerprint: fingerprint of the data.
        queries: judged queries.
        candidates: source of the candidates.
        depth: most candidates a query.
        recall: mean share of relevant documents among the candidates.
        added_positives: relevant passages that the evaluation put in.
        baseline: system the others are compared with.
        results: system to measure to estimate.
        comparisons: each system with the baseline, on this collection alone.
    """

    name: str
    role: str
    data: str
    fingerprint: str
    queries: int
    candidates: str
    depth: int
    recall: float
    added_positives: int
    baseline: str
    results: dict[str, dict[str, Estimate]]
    comparisons: list[Comparison]


@dataclass(frozen=True)
class Summary(Compared):
    """The content of `summary.json`.

    Attributes:
        created: when the first report was made.
        version: version of Uprank.
        command: command that started the evaluation.
        measures: names of the measures; the first one leads.
        baseline: system of the macro comparisons; empty if the collections have different ones.
        seed: seed of intervals and tests.
        collections: the headline first, then the guards.
        macro: system to measure to mean over the collections, each of the same weight; only systems that
            every collection has.
        comparisons: macro difference of these systems to the baseline.
    """

    created: str
    version: str
    command: str
    measures: list[str]
    baseline: str
    seed: int
    collections: list[CollectionResult]
    macro: dict[str, dict[str, Estimate]]
    comparisons: list[Comparison]

    @property
    def systems(self) -> list[str]:
        """Return every system of any collection, in the order of the reports."""
        return list(dict.fromkeys(name for result in self.collections for name in result.results))


def make_summary(reports: Mapping[str, Report], *, seed: int) -> Summary:
    """Summarise the reports of several collections.

    Args:
        reports: by name of the collection, the headline first; all with the same measures.
        seed: seed of intervals and tests.
    """
    first = next(iter(reports.values()))
    baselines = {report.baseline for report in reports.values()}
    baseline = first.baseline if len(baselines) == 1 else ""
    others = [{system.name for system in report.systems} for report in reports.values()]
    common = [system.name for system in first.systems if all(system.name in names for names in others)]
    values = {
        measure: {
            name: [list(report.per_query[measure][name].values()) for report in reports.values()]
            for name in common
        }
        for measure in first.measures
    }
    return Summary(
        created=first.created,
        version=first.version,
        command=first.command,
        measures=first.measures,
        baseline=baseline,
        seed=seed,
        collections=[
            _result(name, report, "guard" if place else "headline")
            for place, (name, report) in enumerate(reports.items())
        ],
        macro={
            name: {measure: macro_estimate(row[name], seed) for measure, row in values.items()}
            for name in common
        },
        comparisons=[
            comparison
            for measure, row in values.items()
            if baseline
            for comparison in macro_compare(row, baseline=baseline, measure=measure, seed=seed)
        ],
    )


def _result(name: str, report: Report, role: str) -> CollectionResult:
    results = {system.name: system.results for system in report.systems}
    shared = {field.name for field in fields(CollectionResult)} - {"name", "role", "results"}
    return CollectionResult(name, role, results=results, **{each: getattr(report, each) for each in shared})
