"""From runs of several systems on the same candidates to a report."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import __version__
from ..data.groups import Collection, collection_fingerprint
from .candidates import Candidates
from .compare import compare, estimate
from .measure import Measure, evaluate
from .ranking import Ranking, rank
from .report import Comparison, Report, System
from .scoring import Scored


@dataclass(frozen=True)
class Entry:
    """One system to report: its scores and what they come from.

    Attributes:
        name: unique name.
        scored: its scores on the candidates.
        path: hub id or folder; empty for a first stage.
        weights: hash of the weights; empty for a first stage.
        precision: `fp32`, `bf16`; empty for a first stage.
        budgets: tokens of the query and of the pair; 0 for a first stage.
    """

    name: str
    scored: Scored
    path: str = ""
    weights: str = ""
    precision: str = ""
    budgets: tuple[int, int] = (0, 0)


def first_stage_entry(candidates: Candidates) -> Entry:
    """The first stage as a system of its own."""
    return Entry(candidates.first_stage, Scored(candidates.run, len(candidates.pairs), 0, 0.0))


def mean_values(collection: Collection, scored: Scored, measures: Sequence[Measure]) -> dict[str, float]:
    """Means over all judged queries, for the dev measures in the training loop."""
    ranking = rank(collection.qrels, scored.run)
    return {str(measure): float(evaluate(measure, ranking).mean()) for measure in measures}


def make_report(
    collection: Collection,
    candidates: Candidates,
    entries: Sequence[Entry],
    *,
    measures: Sequence[Measure],
    baseline: str,
    seed: int,
    command: str,
) -> Report:
    """Measure every system, compare each with the baseline, and say what the candidates allow.

    Args:
        collection: the judged queries.
        candidates: what was ranked.
        entries: the systems; all scored the same candidates.
        measures: what to measure; the first one leads.
        baseline: name of the system the others are compared with.
        seed: of bootstrap and randomisation test.
        command: how the evaluation was started.
    """
    rankings = {entry.name: rank(collection.qrels, entry.scored.run) for entry in entries}
    values = {
        str(measure): {name: evaluate(measure, ranking) for name, ranking in rankings.items()}
        for measure in measures
    }
    some = next(iter(rankings.values()))
    return Report(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        command=command,
        data=collection.path,
        fingerprint=collection_fingerprint(collection),
        queries=len(some.queries),
        missing_queries=list(some.missing),
        unanswerable_queries=list(some.unanswerable),
        candidates=candidates.source,
        depth=candidates.depth,
        recall=float(evaluate(Measure("R"), some).mean()),
        measures=[str(measure) for measure in measures],
        baseline=baseline,
        systems=[_system(entry, rankings[entry.name], values, seed) for entry in entries],
        comparisons=_comparisons(values, baseline, seed),
        seed=seed,
        per_query={
            measure: {
                name: dict(zip(some.queries, array.tolist(), strict=True)) for name, array in row.items()
            }
            for measure, row in values.items()
        },
    )


def _system(
    entry: Entry, ranking: Ranking, values: Mapping[str, Mapping[str, np.ndarray]], seed: int
) -> System:
    return System(
        name=entry.name,
        kind="model" if entry.weights else "first_stage",
        path=entry.path,
        weights=entry.weights,
        results={measure: estimate(row[entry.name], seed) for measure, row in values.items()},
        pairs=entry.scored.pairs,
        truncated_pairs=entry.scored.truncated,
        tied_queries=int(ranking.tied().sum()),
        seconds=round(entry.scored.seconds, 3),
        precision=entry.precision,
        query_tokens=entry.budgets[0],
        max_tokens=entry.budgets[1],
    )


def _comparisons(
    values: Mapping[str, Mapping[str, np.ndarray]], baseline: str, seed: int
) -> list[Comparison]:
    return [
        compare(array, row[baseline], system=name, baseline=baseline, measure=measure, seed=seed)
        for measure, row in values.items()
        for name, array in row.items()
        if name != baseline
    ]
