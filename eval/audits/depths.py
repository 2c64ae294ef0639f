"""The depth curve: results of reranking fewer candidates, computed from the scores of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...data.trec_order import trec_orders
from ..measures import Measure, Ranking, evaluate_measures
from ..results import DepthPoint, RunScores
from ..scoring import Scored
from ..statistics import estimates

DEPTHS = (10, 20, 50, 100)

Ranks = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class FirstStage:
    """The candidates in first-stage order; at each depth, models rerank only the first ones.

    Attributes:
        ranking: ranking of the first stage, Q queries and K ranks.
        documents: Q rows of candidate ids, in the order of the run.
        places: (Q, K) first-stage rank (from 0) of each of these documents.
    """

    ranking: Ranking
    documents: list[list[str]]
    places: Ranks


def first_stage(ranking: Ranking, run: RunScores) -> FirstStage:
    """Return the order of the first stage; `run` must be the one that was ranked."""
    documents = [list(run.get(query, ())) for query in ranking.queries]
    order = _order(ranking, documents, run)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(order.shape[1], dtype=np.int32)[None, :], axis=1)
    return FirstStage(ranking, documents, places)


def model_order(stage: FirstStage, run: RunScores) -> Ranks:
    """Return (Q, K) first-stage ranks (from 0) of the documents in the order of the model.

    Every row is a permutation of 0 to K - 1; padding comes last.
    """
    return np.take_along_axis(stage.places, _order(stage.ranking, stage.documents, run), axis=1)


def _order(ranking: Ranking, documents: Sequence[Sequence[str]], run: RunScores) -> Ranks:
    """Return (Q, K) positions of the documents, best first."""
    scores = np.full(ranking.levels.shape, np.nan, dtype=np.float32)
    for row, query, docs in zip(scores, ranking.queries, documents, strict=True):
        given = run.get(query, {})
        row[: len(docs)] = np.fromiter(map(given.__getitem__, docs), np.float64, len(docs))
    return trec_orders(documents, scores).astype(np.int32)


def at_depth(stage: FirstStage, order: Ranks, depth: int) -> Ranking:
    """Return the ranking when only the best `depth` of the first stage are reranked.

    The others follow in first-stage order. Scores are negated ranks, because those of two systems have no
    common scale.
    """
    levels = stage.ranking.levels
    queries, longest = levels.shape
    depth = min(depth, longest)
    top = order[order < depth].reshape(queries, depth)  # every row holds each rank below `depth` once
    reranked = np.concatenate([np.take_along_axis(levels, top, axis=1), levels[:, depth:]], axis=1)
    ranks = np.arange(longest)
    scores = np.where(ranks < stage.ranking.lengths[:, None], -ranks, -np.inf).astype(np.float32)
    return replace(stage.ranking, levels=reranked, scores=scores)


def curve_depths(depth: int, longest: int = 0, depths: Sequence[int] = DEPTHS) -> list[int]:
    """Return the depths of the curve; at the last one all candidates are reranked.

    Args:
        depth: most candidates a query, without added positives.
        longest: most candidates of any query, with added positives, which come last.
        depths: usual depths, kept if they are below the last one.

    >>> curve_depths(50), curve_depths(50, 53)
    ([10, 20, 50], [10, 20, 50, 53])
    """
    last = max(depth, longest)
    return [*sorted({d for d in (*depths, depth) if d < last}), last]


def depth_curve(
    stage: FirstStage, scored: Scored, depths: Sequence[int], measures: Sequence[Measure], seed: int
) -> list[DepthPoint]:
    """Return the results of one model when fewer candidates are reranked, with their cost.

    Args:
        stage: candidates in first-stage order.
        scored: scores of the model on all of them.
        depths: numbers of candidates to rerank.
        measures: measures to compute.
        seed: seed of the intervals.
    """
    order = model_order(stage, scored.run)
    timed = scored.pairs - scored.cached
    per_pair = scored.seconds / timed if timed and scored.seconds else None  # the cache says nothing of time
    rows = []
    for depth in depths:
        ranking = at_depth(stage, order, depth)
        rows += [evaluate_measures(measure, ranking) for measure in measures]
    found = iter(estimates(rows, seed))
    points = []
    for depth in depths:
        pairs = int(np.minimum(stage.ranking.lengths, depth).sum())
        results = {str(measure): next(found) for measure in measures}
        seconds = None if per_pair is None else round(pairs * per_pair, 3)
        points.append(DepthPoint(depth, results, pairs, seconds))
    return points
