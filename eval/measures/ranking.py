"""The ranking that every measure reads: judged queries as rows, ranks as columns.

Also the orders of the same candidates that a ranking is compared with: ideal, backwards, all equal.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat

import numpy as np
import numpy.typing as npt

from ...configs.errors import UserError
from ...data.judged import LARGEST_RELEVANCE
from ...data.trec_order import trec_orders

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_UNJUDGED = -1
_NOTHING: Mapping[str, float] = {}
_values_of = operator.methodcaller("values")
# Cells ranked at once: bounds working memory at tens of MB; a block stays in the cache.
_CELLS = 2**18


@dataclass(frozen=True, eq=False)
class Ranking:
    """Q judged queries, each with its candidates in rank order, padded to the K of the longest.

    Every query that has a judgment is a row, so a mean over rows never misses one. Arrays are read-only.

    Attributes:
        queries: the Q query ids, in the order of the qrels.
        levels: (Q, K) int32, relevance in rank order; -1 where unjudged, judged negative or padding.
        scores: (Q, K) float32, descending; -inf where padding.
        lengths: (Q,) candidates of each query.
        ideal: (Q, R) int32, positive judgments of each query, descending, then 0.
        nonrelevant: (Q,) judgments that are exactly 0.
        missing: ids of judged queries without candidates in the run; each counts as 0.
    """

    queries: tuple[str, ...]
    levels: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    lengths: Ints
    ideal: npt.NDArray[np.int32]
    nonrelevant: Ints
    missing: tuple[str, ...]

    @property
    def unanswerable(self) -> tuple[str, ...]:
        """Ids of queries without any relevant document; each counts as 0."""
        return tuple(q for q, best in zip(self.queries, self.ideal[:, 0], strict=True) if best < 1)

    def gains(self, cutoff: int | None = None) -> npt.NDArray[np.int32]:
        """Return (Q, k) relevance in rank order, 0 for irrelevant documents."""
        return np.maximum(self.levels[:, :cutoff], 0)

    def hits(self, rel: int = 1, cutoff: int | None = None) -> Bools:
        """Return (Q, k) whether the document at that rank has at least relevance `rel`."""
        return self.levels[:, :cutoff] >= rel

    def judged(self, cutoff: int | None = None) -> Bools:
        """Return (Q, k) whether the document at that rank was judged, 0 included."""
        return self.levels[:, :cutoff] >= 0

    def num_relevant(self, rel: int = 1) -> Ints:
        """Return (Q,) judged documents of at least relevance `rel`, retrieved or not."""
        return np.count_nonzero(self.ideal >= rel, axis=1)

    def num_nonrelevant(self, rel: int = 1) -> Ints:
        """Return (Q,) judged documents of relevance 0 to below `rel`, retrieved or not."""
        return self.nonrelevant + self.num_relevant(1) - self.num_relevant(rel)

    def tied(self, depth: int = 10) -> Bools:
        """Return (Q,) whether two float32 scores within the first `depth` ranks are equal."""
        top = self.scores[:, :depth]
        real = np.arange(1, top.shape[1]) < self.lengths[:, None]
        return ((top[:, 1:] == top[:, :-1]) & real).any(axis=1)


def rank(
    qrels: Mapping[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    *,
    judged_only: bool = False,
) -> Ranking:
    """Rank the candidates of every judged query by the rule of trec_eval 9.0.8 (`trec_order`).

    Queries of the run that are not judged are ignored; so are those of the qrels without any judgment.

    Args:
        qrels: query id to document id to relevance; negative means unjudged.
        run: query id to document id to score.
        judged_only: drop unjudged candidates before ranking (`trec_eval -J`).

    Raises:
        UserError: there is no judgment, a relevance is not a whole number, or a score is NaN or infinite;
            every such query and document is listed.

    >>> ranking = rank({"q": {"a": 1, "b": 0}}, {"q": {"a": 0.5, "b": 0.5, "c": 0.1}})
    >>> ranking.levels.tolist()
    [[0, 1, -1]]
    """
    qrels = {query: judgments for query, judgments in qrels.items() if judgments}
    problems = _problems(qrels, run)
    if problems:
        raise UserError(problems)
    rows = [run.get(query, _NOTHING) for query in qrels]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    depth = max(1, int(lengths.max()))
    levels = np.full((len(rows), depth), _UNJUDGED, dtype=np.int32)
    scores = np.full((len(rows), depth), -np.inf, dtype=np.float32)
    judgments = list(qrels.values())
    step = max(1, _CELLS // depth)
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        levels[block], scores[block], lengths[block] = _ranked(
            judgments[block], rows[block], depth, judged_only
        )
    ideal, nonrelevant = _judgments(qrels)
    for array in (levels, scores, lengths, ideal, nonrelevant):
        array.setflags(write=False)
    missing = tuple(query for query in qrels if not run.get(query))
    return Ranking(tuple(qrels), levels, scores, lengths, ideal, nonrelevant, missing)


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """Return (Q,) quotient per query; 0 for a divisor of 0, as in trec_eval."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)


def _ranked(
    judgments: Sequence[Mapping[str, int]], rows: Sequence[Mapping[str, float]], depth: int, judged_only: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], Ints]:
    """Return (Q, depth) relevance and score of candidates, best first, and (Q,) their number."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    real = np.arange(depth) < lengths[:, None]  # (Q, depth)
    levels = np.full(real.shape, _UNJUDGED, dtype=np.int32)
    values = (map(judged.get, row, repeat(_UNJUDGED)) for judged, row in zip(judgments, rows, strict=True))
    levels[real] = np.fromiter(chain.from_iterable(values), np.int32, int(lengths.sum()))
    scores = np.full(real.shape, np.nan, dtype=np.float32)  # NaN is sorted last, behind -inf too
    with np.errstate(over="ignore"):
        scores[real] = _flat(rows).astype(np.float32)
    order = trec_orders(rows, scores)
    levels = np.maximum(np.take_along_axis(levels, order, axis=1), _UNJUDGED)
    scores = np.take_along_axis(scores, order, axis=1)
    if judged_only:
        real &= levels >= 0
        lengths = real.sum(axis=1)
        kept = np.argsort(~real, axis=1, kind="stable")
        levels = np.take_along_axis(levels, kept, axis=1)
        scores = np.take_along_axis(scores, kept, axis=1)
        real = np.arange(depth) < lengths[:, None]
    return np.where(real, levels, _UNJUDGED), np.where(real, scores, np.float32(-np.inf)), lengths


def _judgments(qrels: Mapping[str, Mapping[str, int]]) -> tuple[npt.NDArray[np.int32], Ints]:
    """Return (Q, R) positive judgments, descending, and (Q,) the number of zeros."""
    sizes = np.fromiter(map(len, qrels.values()), np.int64, len(qrels))
    rows = np.repeat(np.arange(len(qrels)), sizes)  # (J,) row of every judgment
    levels = np.fromiter(chain.from_iterable(map(_values_of, qrels.values())), np.int32, int(sizes.sum()))
    nonrelevant = np.bincount(rows[levels == 0], minlength=len(qrels))
    rows, levels = rows[levels > 0], levels[levels > 0]
    sizes = np.bincount(rows, minlength=len(qrels))
    ideal = np.zeros((len(qrels), max(1, int(sizes.max()))), dtype=np.int32)
    ideal[np.arange(ideal.shape[1]) < sizes[:, None]] = levels
    return -np.sort(-ideal, axis=1), nonrelevant


def _problems(qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not qrels:
        return ["no query has a judgment: there is nothing to measure"]
    problems = []
    if not _all_relevances(qrels.values()):
        problems += [
            f"query {query!r}, document {document!r}: relevance {relevance!r} is not a whole number "
            f"of at most {LARGEST_RELEVANCE}"
            for query, judgments in qrels.items()
            for document, relevance in judgments.items()
            if not _is_relevance(relevance)
        ]
    judged = {query: run[query] for query in qrels if query in run}
    if not np.isfinite(_flat(judged.values())).all():
        problems += [problem for query, scores in judged.items() for problem in _unfinite(query, scores)]
    return problems


def _flat(rows: Collection[Mapping[str, float]]) -> Floats:
    """Return every score, row after row."""
    return np.fromiter(chain.from_iterable(map(_values_of, rows)), np.float64, sum(map(len, rows)))


def _all_relevances(judgments: Iterable[Mapping[str, int]]) -> bool:
    """Return whether every relevance is valid; plain integers, the usual case, need no call for each."""
    levels = [level for judged in judgments for level in judged.values()]
    if set(map(type, levels)) <= {int}:
        return max(map(abs, levels)) <= LARGEST_RELEVANCE
    return all(map(_is_relevance, levels))


def _unfinite(query: str, scores: Mapping[str, float]) -> list[str]:
    return [
        f"query {query!r}, document {document!r}: score {score} is not finite"
        for document, score in scores.items()
        if not math.isfinite(score)
    ]


def _is_relevance(value: object) -> bool:
    try:
        return abs(operator.index(value)) <= LARGEST_RELEVANCE  # type: ignore[arg-type]
    except TypeError:
        return False


def ideal(ranking: Ranking) -> Ranking:
    """Return the same candidates in the best order, the ceiling of every reranker."""
    return replace(ranking, levels=-np.sort(-ranking.levels, axis=1))


def backwards(ranking: Ranking) -> Ranking:
    """Return every query's candidates in the opposite order, with negated scores."""
    places = ranking.lengths[:, None] - 1 - np.arange(ranking.levels.shape[1])  # (Q, K), negative: padding
    taken = np.maximum(places, 0)
    levels = np.where(places >= 0, np.take_along_axis(ranking.levels, taken, axis=1), -1)
    scores = np.where(places >= 0, -np.take_along_axis(ranking.scores, taken, axis=1), -np.inf)
    return replace(ranking, levels=levels.astype(np.int32), scores=scores.astype(np.float32))


def all_equal(ranking: Ranking) -> Ranking:
    """Return the same candidates with equal scores; their expected values are those of a random order."""
    return replace(ranking, scores=np.where(np.isfinite(ranking.scores), np.float32(0), ranking.scores))
