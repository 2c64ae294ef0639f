"""Success: whether any relevant document is at the top.

    Success@k = 1 if any document at ranks <= k is relevant, else 0

Also called hit rate.

Craswell and Hawking 2004, Overview of the TREC 2004 web track; `success_k` of trec_eval.
"""

from __future__ import annotations

import numpy as np

from .ranking import Floats, Ranking


def success(ranking: Ranking, cutoff: int, *, rel: int = 1) -> Floats:
    """Return (Q,) 1 for each query with a relevant document within the cutoff, else 0."""
    return np.where(ranking.hits(rel, cutoff).any(axis=1), 1.0, 0.0)
