"""Ties: worst, expected and best value of a measure over all orders of equal scores.

McSherry and Najork 2008, Computing information retrieval performance measures efficiently in the presence of
tied scores, ECIR.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .measure import Measure, evaluate_measures
from .ndcg import dcg, gains_of
from .ranking import Bools, Floats, Ints, Ranking, ratio

_SHIFT = 32  # relevance is an int32: rank and relevance fit one int64
_HALF = 1 << (_SHIFT - 1)


def tie_bounds(
    measure: Measure, ranking: Ranking, *, orders: int = 100, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Return (Q,) worst, expected and best value of each query over all orders of equal float32 scores.

    Worst and best put the tied documents in order of relevance. The expectation is exact for every measure
    but MAP and bpref, for which it is the mean over random orders. Queries without ties cost nothing.

    Args:
        measure: measure to bound.
        ranking: ranking with its ties.
        orders: random orders of each query if the expectation is not exact.
        seed: seed of these orders.
    """
    value = evaluate_measures(measure, ranking)
    tied = np.flatnonzero(ranking.tied(ranking.scores.shape[1]))
    worst, expected, best = value.copy(), value.copy(), value.copy()
    if len(tied):
        rows = _only(ranking, tied)
        groups = _groups(rows)
        worst[tied] = evaluate_measures(measure, _by_relevance(rows, groups, best=False))
        best[tied] = evaluate_measures(measure, _by_relevance(rows, groups, best=True))
        open_ = np.flatnonzero(best[tied] != worst[tied])
        expected[tied] = best[tied]
        if len(open_):
            expected[tied[open_]] = _expected(measure, _only(rows, open_), groups[open_], orders, seed)
    return worst, expected, best


def _only(ranking: Ranking, rows: Ints) -> Ranking:
    """Return some rows of a ranking."""
    return replace(
        ranking,
        queries=tuple(ranking.queries[row] for row in rows.tolist()),
        missing=(),
        **{
            name: getattr(ranking, name)[rows]
            for name in ("levels", "scores", "lengths", "ideal", "nonrelevant")
        },
    )


def _groups(ranking: Ranking) -> Ints:
    """Return (Q, K) first rank, from 0, of the documents tied with the one at each rank; padding is alone."""
    ranks = np.arange(ranking.scores.shape[1])
    new = np.ones(ranking.scores.shape, dtype=bool)
    new[:, 1:] = ranking.scores[:, 1:] != ranking.scores[:, :-1]
    new |= ranks >= ranking.lengths[:, None]
    return np.maximum.accumulate(np.where(new, ranks, 0), axis=1)


def _by_relevance(ranking: Ranking, groups: Ints, *, best: bool) -> Ranking:
    """Return the ranking with tied documents by relevance, the most relevant first or last."""
    levels = ranking.levels.astype(np.int64)
    keys = np.sort((groups << _SHIFT) + (-levels if best else levels) + _HALF, axis=1)
    levels = (keys & ((1 << _SHIFT) - 1)) - _HALF
    return replace(ranking, levels=(-levels if best else levels).astype(np.int32))


def _expected(measure: Measure, ranking: Ranking, groups: Ints, orders: int, seed: int) -> Floats:
    """Return (Q,) expectation over the orders of ties."""
    ranks = np.arange(1, groups.shape[1] + 1)
    within = np.broadcast_to(ranks <= (measure.cutoff or len(ranks)), groups.shape)
    hits, relevant = ranking.hits(measure.rel), ranking.num_relevant(measure.rel)
    if measure.name in ("nDCG", "nDCG_exp"):
        gains, ideal = gains_of(ranking, exponential=measure.name == "nDCG_exp")
        return ratio(dcg(_shared(gains, groups), measure.cutoff), dcg(ideal, measure.cutoff))
    if measure.name == "P":
        return ratio(_sum(_shared(hits, groups), within), measure.cutoff or 1)
    if measure.name == "R":
        return ratio(_sum(_shared(hits, groups), within), relevant)
    if measure.name == "Rprec":
        return ratio(_sum(_shared(hits, groups), ranks <= relevant[:, None]), relevant)
    if measure.name == "Judged":
        judged = _shared(ranking.judged(), groups)
        return ratio(_sum(judged, within), np.minimum(ranking.lengths, measure.cutoff or len(ranks)))
    if measure.name in ("MRR", "Success"):
        first = _first_hit(hits, groups)
        return _sum(first / ranks if measure.name == "MRR" else first, within)
    return _sampled(measure, ranking, groups, orders, seed)


def _sum(values: Floats, within: Bools) -> Floats:
    return np.asarray(np.where(within, values, 0.0).sum(axis=1))


def _shared(values: npt.NDArray[np.generic], groups: Ints) -> Floats:
    """Return (Q, K) mean value of the documents tied with each: the expectation at its rank."""
    cells = groups + np.arange(len(groups))[:, None] * groups.shape[1]
    total = np.bincount(cells.ravel(), weights=values.astype(np.float64).ravel(), minlength=cells.size)
    count = np.bincount(cells.ravel(), minlength=cells.size)
    return np.asarray((total / np.maximum(count, 1))[cells])


def _first_hit(hits: Bools, groups: Ints) -> Floats:
    """Return (Q, K) probability that the first hit is at each rank.

    If no earlier document was a hit, the next one of a tie is a hit with probability hits left / documents
    left.
    """
    cells = groups + np.arange(len(groups))[:, None] * groups.shape[1]
    size = np.bincount(cells.ravel(), minlength=cells.size)[cells]
    found = np.bincount(cells.ravel(), weights=hits.ravel(), minlength=cells.size)[cells]
    left = size - (np.arange(groups.shape[1]) - groups)  # documents of the tie from this rank on
    chance = np.minimum(1.0, found / left)
    none_before = np.cumprod(1.0 - chance, axis=1)
    none_before = np.concatenate([np.ones((len(groups), 1)), none_before[:, :-1]], axis=1)
    return np.asarray(none_before * chance)


def _sampled(measure: Measure, ranking: Ranking, groups: Ints, orders: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    total = np.zeros(len(groups))
    for _ in range(orders):
        places = np.argsort(groups + random.random(groups.shape), axis=1)
        levels = np.take_along_axis(ranking.levels, places, axis=1)
        total += evaluate_measures(measure, replace(ranking, levels=levels))
    return total / orders
