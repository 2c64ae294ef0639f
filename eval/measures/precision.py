"""P: precision.

    P@k = relevant documents at ranks <= k / k

The divisor is k even where fewer documents were retrieved (as in trec_eval).

van Rijsbergen 1979, Information Retrieval, chapter 7; `P_k` of trec_eval.
"""

from __future__ import annotations

from .ranking import Floats, Ranking, ratio


def precision(ranking: Ranking, cutoff: int, *, rel: int = 1) -> Floats:
    """Return (Q,) precision of each query at the cutoff."""
    return ratio(ranking.hits(rel, cutoff).sum(axis=1), cutoff)
