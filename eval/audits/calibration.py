"""How the scores of the candidates are distributed: histogram, and calibration of sigmoid scores."""

from __future__ import annotations

import numpy as np

from ..measures import Bools, Floats, Ranking
from ..results import Calibration, Histogram

HISTOGRAM_BINS = 40
CALIBRATION_BINS = 10


def histogram(ranking: Ranking, bins: int = HISTOGRAM_BINS) -> Histogram | None:
    """Raw scores of the relevant candidates and of all others in equal bins; None without candidates."""
    scores, levels = _candidates(ranking)
    if not len(scores):
        return None
    edges = np.histogram_bin_edges(scores, bins)
    every = np.histogram(scores, edges)[0]
    relevant = np.histogram(scores[levels > 0], edges)[0]
    return Histogram(edges.tolist(), relevant.tolist(), (every - relevant).tolist())


def calibration_of(ranking: Ranking, bins: int = CALIBRATION_BINS) -> Calibration | None:
    """Reliability of sigmoid scores against binary relevance, and the expected calibration error.

    Where the judgments hold documents that are not relevant, only judged candidates count. Where every
    judged candidate is relevant (most BEIR test sets), they alone would say that every score is too low;
    then all candidates count, and an unjudged one as not relevant.

    Naeini, Cooper and Hauskrecht 2015, Obtaining well calibrated probabilities using Bayesian binning, AAAI.

    Returns:
        the bins, or None without candidates.
    """
    scores, levels = _candidates(ranking)
    judged: Bools = levels >= 0
    over = "judged" if (levels == 0).any() and (levels > 0).any() else "all"
    if over == "judged":
        scores, levels = scores[judged], levels[judged]
    if not len(scores):
        return None
    chances = sigmoid(scores)
    places = np.minimum((chances * bins).astype(np.int64), bins - 1)
    counts = np.bincount(places, minlength=bins)
    filled = np.maximum(counts, 1)
    means = np.bincount(places, chances, bins) / filled
    relevant = np.bincount(places, levels > 0, bins) / filled
    error = float((np.abs(means - relevant) * counts).sum() / len(scores))
    return Calibration(over, counts.tolist(), means.tolist(), relevant.tolist(), error)


def sigmoid(scores: Floats) -> Floats:
    """Logits to chances, without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.exp(-np.logaddexp(0.0, -scores))


def _candidates(ranking: Ranking) -> tuple[Floats, np.ndarray]:
    """(N,) scores and relevance of every candidate of every query."""
    real = np.arange(ranking.scores.shape[1]) < ranking.lengths[:, None]  # (Q, K)
    return ranking.scores[real].astype(np.float64), ranking.levels[real]
