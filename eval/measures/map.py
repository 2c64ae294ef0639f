"""MAP: mean average precision.

    AP@k = (sum over relevant documents at ranks i <= k of P@i) / number of relevant documents

The divisor is every relevant document of the query, retrieved or not, not capped at k (as in trec_eval).

Buckley and Voorhees 2000, Evaluating evaluation measure stability, SIGIR.
"""

from __future__ import annotations

import numpy as np

from .ranking import Floats, Ranking, ratio


def average_precision(ranking: Ranking, cutoff: int | None = None, *, rel: int = 1) -> Floats:
    """Return (Q,) average precision of each query; 0 for a query without relevant documents."""
    hits = ranking.hits(rel, cutoff)  # (Q, k)
    precision = hits.cumsum(axis=1, dtype=np.float64)
    precision /= np.arange(1, hits.shape[1] + 1)
    return ratio(precision.sum(axis=1, where=hits), ranking.num_relevant(rel))
