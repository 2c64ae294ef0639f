"""Distribution of the candidates' scores: histogram, and calibration of sigmoid scores."""

from __future__ import annotations

import numpy as np

from ..measures import Floats, Ranking
from ..results import Calibration, Histogram

HISTOGRAM_BINS = 40
CALIBRATION_BINS = 10


def histogram(ranking: Ranking, bins: int = HISTOGRAM_BINS) -> Histogram | None:
    """Count raw scores of relevant candidates and of all others in equal bins; None without candidates."""
    scores, levels = _candidates(ranking)
    if not len(scores):
        return None
    edges = np.histogram_bin_edges(scores, bins)
    every = np.histogram(scores, edges)[0]
    relevant = np.histogram(scores[levels > 0], edges)[0]
    return Histogram(edges.tolist(), relevant.tolist(), (every - relevant).tolist())


def calibration_of(ranking: Ranking, bins: int = CALIBRATION_BINS) -> Calibration | None:
    """Compare sigmoid scores with binary relevance, bin by bin; None without candidates.

    If some candidates are judged not relevant, only judged candidates count. If every judged candidate is
    relevant (most BEIR test sets), they alone would make every score look too low: then all candidates count,
    unjudged ones as not relevant.

    Naeini, Cooper and Hauskrecht 2015, Obtaining well calibrated probabilities using Bayesian binning, AAAI.
    """
    scores, levels = _candidates(ranking)
    over = "judged" if (levels == 0).any() and (levels > 0).any() else "all"
    if over == "judged":
        judged = levels >= 0
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
    """Turn logits into chances, without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.exp(-np.logaddexp(0.0, -scores))


def _candidates(ranking: Ranking) -> tuple[Floats, np.ndarray]:
    """Return (N,) scores and relevance of every candidate of every query."""
    real = np.arange(ranking.scores.shape[1]) < ranking.lengths[:, None]  # (Q, K)
    return ranking.scores[real].astype(np.float64), ranking.levels[real]
