"""Other orders of the same candidates, against which a ranking is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .ranking import Ranking


def ideal(ranking: Ranking) -> Ranking:
    """The same candidates in the best order there is: no reranker gets above it."""
    return replace(ranking, levels=-np.sort(-ranking.levels, axis=1))


def backwards(ranking: Ranking) -> Ranking:
    """Every query's candidates in the opposite order, with negated scores."""
    places = ranking.lengths[:, None] - 1 - np.arange(ranking.levels.shape[1])  # (Q, K), negative: padding
    taken = np.maximum(places, 0)
    levels = np.where(places >= 0, np.take_along_axis(ranking.levels, taken, axis=1), -1)
    scores = np.where(places >= 0, -np.take_along_axis(ranking.scores, taken, axis=1), -np.inf)
    return replace(ranking, levels=levels.astype(np.int32), scores=scores.astype(np.float32))


def all_equal(ranking: Ranking) -> Ranking:
    """The same candidates with one score for all: what a random order is the expectation of."""
    return replace(ranking, scores=np.where(np.isfinite(ranking.scores), np.float32(0), ranking.scores))
