"""The ranking that every measure reads: judged queries as rows, ranks as columns."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from ..configs.errors import UserError
from ..data.trec import LARGEST_RELEVANCE, trec_order

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_UNJUDGED = -1


@dataclass(frozen=True, eq=False)
class Ranking:
    """Q judged queries, each with its candidates in rank order, padded to the K of the longest.

    Every query that has a judgment is a row, so a mean over rows never forgets one. Arrays are read-only.

    Attributes:
        queries: the Q query ids, in the order of the qrels.
        levels: (Q, K) int32, relevance in rank order; -1 where unjudged, judged negative or padding.
        scores: (Q, K) float32, descending; -inf where padding.
        lengths: (Q,) candidates of each query.
        ideal: (Q, R) int32, positive judgments of each query, descending, then 0.
        nonrelevant: (Q,) judgments that are exactly 0.
        missing: ids of judged queries without candidates in the run; each counts 0.
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
        """Ids of queries without any relevant document; each counts 0."""
        return tuple(q for q, best in zip(self.queries, self.ideal[:, 0], strict=True) if best < 1)

    def gains(self, cutoff: int | None = None) -> npt.NDArray[np.int32]:
        """(Q, k) relevance in rank order, 0 where there is none."""
        return np.maximum(self.levels[:, :cutoff], 0)

    def hits(self, rel: int = 1, cutoff: int | None = None) -> Bools:
        """(Q, k) whether the document at that rank has at least relevance `rel`."""
        return self.levels[:, :cutoff] >= rel

    def judged(self, cutoff: int | None = None) -> Bools:
        """(Q, k) whether the document at that rank was judged, 0 included."""
        return self.levels[:, :cutoff] >= 0

    def num_relevant(self, rel: int = 1) -> Ints:
        """(Q,) judged documents of at least relevance `rel`, retrieved or not."""
        return np.count_nonzero(self.ideal >= rel, axis=1)

    def num_nonrelevant(self, rel: int = 1) -> Ints:
        """(Q,) judged documents of relevance 0 to below `rel`, retrieved or not."""
        return self.nonrelevant + self.num_relevant(1) - self.num_relevant(rel)

    def tied(self, depth: int = 10) -> Bools:
        """(Q,) whether two float32 scores within the first `depth` ranks are equal."""
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
    depth = max(1, max(len(run.get(query, ())) for query in qrels))
    levels = np.full((len(qrels), depth), _UNJUDGED, dtype=np.int32)
    scores = np.full((len(qrels), depth), -np.inf, dtype=np.float32)
    lengths = np.zeros(len(qrels), dtype=np.int64)
    for row, (query, judgments) in enumerate(qrels.items()):
        row_levels, row_scores = _ranked(judgments, run.get(query, {}), judged_only)
        lengths[row] = len(row_levels)
        levels[row, : lengths[row]] = row_levels
        scores[row, : lengths[row]] = row_scores
    ideal, nonrelevant = _judgments(qrels)
    for array in (levels, scores, lengths, ideal, nonrelevant):
        array.setflags(write=False)
    missing = tuple(query for query in qrels if not run.get(query))
    return Ranking(tuple(qrels), levels, scores, lengths, ideal, nonrelevant, missing)


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """(Q,) quotient per query; 0 where there is nothing to divide by, as trec_eval has it."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)


def _ranked(
    judgments: Mapping[str, int], scores: Mapping[str, float], judged_only: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """(n,) relevance and score of one query's candidates, best first."""
    values = _values(scores)
    order = trec_order(list(scores), values)
    levels = np.fromiter(map(judgments.get, scores, repeat(_UNJUDGED)), np.int32, len(scores))[order]
    with np.errstate(over="ignore"):
        singles = values[order].astype(np.float32)
    kept = levels >= 0 if judged_only else slice(None)
    return np.maximum(levels, _UNJUDGED)[kept], singles[kept]


def _judgments(qrels: Mapping[str, Mapping[str, int]]) -> tuple[npt.NDArray[np.int32], Ints]:
    """(Q, R) positive judgments, descending, and (Q,) how many are 0."""
    positive = [sorted((r for r in judged.values() if r > 0), reverse=True) for judged in qrels.values()]
    ideal = np.zeros((len(qrels), max(1, max(map(len, positive)))), dtype=np.int32)
    for row, grades in enumerate(positive):
        ideal[row, : len(grades)] = grades
    zeros = (sum(r == 0 for r in judged.values()) for judged in qrels.values())
    return ideal, np.fromiter(zeros, np.int64, len(qrels))


def _problems(qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not qrels:
        return ["no query has a judgment: there is nothing to measure"]
    problems = []
    for query, judgments in qrels.items():
        for document, relevance in judgments.items():
            if not _is_relevance(relevance):
                problems.append(
                    f"query {query!r}, document {document!r}: relevance {relevance!r} is not a whole number "
                    f"of at most {LARGEST_RELEVANCE}"
                )
        scores = run.get(query, {})
        if not np.isfinite(_values(scores)).all():
            problems += _unfinite(query, scores)
    return problems


def _values(scores: Mapping[str, float]) -> Floats:
    return np.fromiter(scores.values(), np.float64, len(scores))


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
