"""Score candidates with a model, on one process or shared out over several."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..data.groups import Collection
from ..model.reranker import Reranker
from .candidates import Candidates


@dataclass(frozen=True)
class Scored:
    """Scores of one model on the candidates.

    Attributes:
        run: query id -> document id -> raw float32 logit.
        pairs: pairs scored.
        truncated: pairs that were cut to the token budget.
        seconds: wall time.
    """

    run: dict[str, dict[str, float]]
    pairs: int
    truncated: int
    seconds: float


@dataclass(frozen=True)
class Share:
    """Which pairs this process scores, and how the parts come together.

    Attributes:
        index: number of this process.
        count: number of processes.
        total: adds an array over all processes, element by element.
    """

    index: int = 0
    count: int = 1
    total: Callable[[np.ndarray], np.ndarray] = lambda array: array


def score_candidates(
    reranker: Reranker,
    collection: Collection,
    candidates: Candidates,
    *,
    share: Share | None = None,
    progress: Callable[[int], object] | None = None,
) -> Scored:
    """Score every candidate pair once.

    Each process fills its own cells of one array, every count-th pair, then the arrays are
    added: no rows to trim or to reorder, whatever the number of processes.
    """
    share = share or Share()
    start = time.perf_counter()
    ids = candidates.pairs
    own = range(share.index, len(ids), share.count)
    texts = [(collection.queries[ids[i][0]], collection.passages[ids[i][1]]) for i in own]
    cells = np.zeros(len(ids) + 1, dtype=np.float64)  # the last cell counts what was cut
    if texts:
        cells[: len(ids)][share.index :: share.count] = reranker.score(texts, progress=progress)
        cells[-1] = int((reranker.pairs.full_lengths(texts) > reranker.pairs.max_tokens).sum())
    cells = share.total(cells)
    run: dict[str, dict[str, float]] = {query: {} for query in candidates.run}
    for (query, doc), score in zip(ids, cells, strict=False):
        run[query][doc] = float(score)
    return Scored(run, len(ids), int(cells[-1]), time.perf_counter() - start)
