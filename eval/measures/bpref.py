"""bpref: binary preference, for judgments known to be incomplete.

    bpref = (sum over retrieved relevant documents of 1 - min(n, R) / min(N, R)) / R

R is the number of relevant documents, N of those judged not relevant, n how many of the latter are ranked
above. Unjudged documents (and those judged negative) are passed over.

Buckley and Voorhees 2004, Retrieval evaluation with incomplete information, SIGIR; min(N, R) as in trec_eval.
"""

from __future__ import annotations

import numpy as np

from .ranking import Floats, Ranking, ratio


def binary_preference(ranking: Ranking, *, rel: int = 1) -> Floats:
    """Return (Q,) bpref of each query; 0 for a query without relevant documents."""
    hits = ranking.hits(rel)  # (Q, K)
    relevant = ranking.num_relevant(rel)
    # With no judged non-relevant document nothing is ever above, and 1 only keeps the division defined.
    bound = np.maximum(np.minimum(ranking.num_nonrelevant(rel), relevant), 1)
    above = (ranking.judged() & ~hits).cumsum(axis=1)
    preferred = 1.0 - np.minimum(above, relevant[:, None]) / bound[:, None]
    return ratio(preferred.sum(axis=1, where=hits), relevant)
