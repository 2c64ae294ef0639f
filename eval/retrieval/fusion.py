"""Reciprocal rank fusion: one ranking from several.

Cormack, Clarke and Büttcher 2009, Reciprocal rank fusion outperforms Condorcet and individual rank learning
methods, SIGIR.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ...data.judged import trec_order

RANK_CONSTANT = 60  # k of the paper, which found results hardly sensitive to it
LEAST_DEPTH = 100
"""Least depth of each fused stage: documents that both rank low may end high."""


def reciprocal_rank_fusion(
    runs: Sequence[Mapping[str, Mapping[str, float]]], *, depth: int
) -> dict[str, dict[str, float]]:
    """Fuse runs: a document's score is the sum of 1 / (60 + its rank) over the runs that found it.

    Args:
        runs: query id -> document id -> score, each over the same queries.
        depth: most documents per query.

    Returns:
        query id -> document id -> fused score, best first, equal ones by document id descending.

    >>> fused = reciprocal_rank_fusion([{"q": {"a": 9.0, "b": 8.0}}, {"q": {"b": 0.5}}], depth=2)
    >>> {doc: round(score, 5) for doc, score in fused["q"].items()}
    {'b': 0.03252, 'a': 0.01639}
    """
    fused: dict[str, dict[str, float]] = {}
    for query in runs[0]:
        scores: dict[str, float] = defaultdict(float)
        for run in runs:
            docs = list(run[query])
            for rank, place in enumerate(trec_order(docs, list(run[query].values())).tolist(), start=1):
                scores[docs[place]] += 1 / (RANK_CONSTANT + rank)
        docs = list(scores)
        best = trec_order(docs, list(scores.values()))[:depth].tolist()
        fused[query] = {docs[place]: scores[docs[place]] for place in best}
    return fused
