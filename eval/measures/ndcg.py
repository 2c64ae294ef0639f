"""nDCG: normalised discounted cumulative gain.

    DCG@k = sum over ranks i <= k of gain(i) / log2(i + 1),    nDCG@k = DCG@k / DCG@k of the ideal ranking

The gain is the relevance itself (linear, as in trec_eval); `nDCG_exp` takes 2^relevance - 1. The ideal
ranking is of all judged documents, retrieved or not.

Järvelin and Kekäläinen 2002, Cumulated gain-based evaluation of IR techniques, ACM TOIS 20(4);
exponential gain: Burges et al. 2005, Learning to rank using gradient descent, ICML.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .ranking import Floats, Ranking, ratio

Gains = npt.NDArray[np.int32] | Floats


def ndcg(ranking: Ranking, cutoff: int | None = None, *, exponential: bool = False) -> Floats:
    """Return (Q,) nDCG of each query; 0 for a query without relevant documents."""
    gains, ideal = gains_of(ranking, cutoff, exponential=exponential)
    return ratio(dcg(gains, cutoff), dcg(ideal, cutoff))


def gains_of(
    ranking: Ranking, cutoff: int | None = None, *, exponential: bool = False
) -> tuple[Gains, Gains]:
    """Return (Q, k) gains in rank order and (Q, R) ideal ones, up to a factor of each query."""
    gains, ideal = ranking.gains(cutoff), ranking.ideal
    if not exponential:
        return gains, ideal
    # Both are divided by 2^best, which the ratio cancels: no relevance is large enough to overflow.
    best = ideal[:, :1]  # (Q, 1)
    scaled = (np.ldexp(1.0, grades - best) - np.ldexp(1.0, -best) for grades in (gains, ideal))
    return next(scaled), next(scaled)


def dcg(gains: Gains, cutoff: int | None = None) -> Floats:
    """Return (Q, K) gains in rank order to (Q,)."""
    gains = gains[:, :cutoff]
    discounts = 1.0 / np.log2(np.arange(2, gains.shape[1] + 2))
    return np.asarray(gains @ discounts, dtype=np.float64)
