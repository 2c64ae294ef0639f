"""Rprec: precision at the rank where all relevant documents could have been found.

    Rprec = relevant documents at ranks <= R / R,    R = number of relevant documents

Buckley and Voorhees 2005, Retrieval system evaluation, in TREC: Experiment and Evaluation in Information
Retrieval, MIT Press.
"""

from __future__ import annotations

import numpy as np

from .ranking import Floats, Ranking, ratio


def r_precision(ranking: Ranking, *, rel: int = 1) -> Floats:
    """Return (Q,) R-precision of each query; 0 for a query without relevant documents."""
    hits = ranking.hits(rel)  # (Q, K)
    relevant = ranking.num_relevant(rel)
    within = np.arange(hits.shape[1]) < relevant[:, None]
    return ratio((hits & within).sum(axis=1), relevant)
