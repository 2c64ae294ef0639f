"""MRR: mean reciprocal rank.

    RR@k = 1 / rank of the first relevant document if that is <= k, else 0

trec_eval has no cutoff for it; here the cut is made in the same order.

Voorhees 1999, The TREC-8 question answering track report, TREC-8.
"""

from __future__ import annotations

import numpy as np

from .ranking import Floats, Ranking


def reciprocal_rank(ranking: Ranking, cutoff: int | None = None, *, rel: int = 1) -> Floats:
    """Return (Q,) reciprocal rank of each query; 0 if nothing relevant is within the cutoff."""
    hits = ranking.hits(rel, cutoff)  # (Q, k)
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0)
