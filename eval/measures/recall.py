"""R: recall.

    R@k = relevant documents at ranks <= k / number of relevant documents

Not capped: with more than k relevant documents even the best ranking stays below 1. Without a cutoff it is
the recall of the candidates, the ceiling of any reranker.

van Rijsbergen 1979, Information Retrieval, chapter 7; `recall_k` of trec_eval.
"""

from __future__ import annotations

from .ranking import Floats, Ranking, ratio


def recall(ranking: Ranking, cutoff: int | None = None, *, rel: int = 1) -> Floats:
    """Return (Q,) recall of each query; 0 for a query without relevant documents."""
    return ratio(ranking.hits(rel, cutoff).sum(axis=1), ranking.num_relevant(rel))
