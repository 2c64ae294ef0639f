"""Dense first stage: exact search for the passages whose vectors are most similar to the query's.

Every similarity is computed, block by block of the corpus, so that memory does not grow with it. There is
no approximate index: reranking needs a first stage that gives the same candidates everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..processes import Share
from .embeddings import BiEncoder, Floats, Vectors

QUERIES = 256  # in one product; fixed with PASSAGES, so a similarity has the same bits in every block
PASSAGES = 8192


class DenseIndex:
    """A corpus to search.

    Args:
        encoder: bi-encoder.
        passages: document id to text.
        share: share of this rank, which encodes its part of the corpus.
        progress: called with the number of passages encoded since the last call.
    """

    def __init__(
        self,
        encoder: BiEncoder,
        passages: Mapping[str, str],
        *,
        share: Share | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.encoder = encoder
        # Of equal similarities the first one wins: ids descending, as in trec_eval.
        self.ids = sorted(passages, reverse=True)
        texts = [passages[doc] for doc in self.ids]
        self.vectors = encoder.embed(texts, "passage", share=share, progress=progress) if texts else None
        self._place = {doc: place for place, doc in enumerate(self.ids)}

    def search(self, queries: Mapping[str, str], *, depth: int) -> dict[str, dict[str, float]]:
        """Return the best passages of each query.

        Args:
            queries: query id to text.
            depth: most documents per query.

        Returns:
            query id -> document id -> similarity (cosine, or dot product if the model says so), best
            first, equal ones by document id descending.
        """
        if self.vectors is None or not queries:
            return {query: {} for query in queries}
        vectors = self.encoder.embed(list(queries.values()), "query")
        run: dict[str, dict[str, float]] = {}
        names = list(queries)
        for start in range(0, len(names), QUERIES):
            places, scores = _best(vectors.take(start, start + QUERIES), self.vectors, depth)
            for row, query in enumerate(names[start : start + QUERIES]):
                run[query] = {
                    self.ids[place]: score
                    for place, score in zip(places[row].tolist(), scores[row].tolist(), strict=True)
                }
        return run

    def similarities(
        self, queries: Mapping[str, str], wanted: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, float]]:
        """Return the similarity of each query to the named documents, however low they rank."""
        pairs = [(row, doc) for row, query in enumerate(queries) for doc in wanted.get(query, ())]
        run: dict[str, dict[str, float]] = {query: {} for query in queries}
        if not pairs or self.vectors is None:
            return run
        names = list(queries)
        vectors = self.encoder.embed(list(queries.values()), "query")
        for start in range(0, len(pairs), QUERIES):
            block = pairs[start : start + QUERIES]
            asked = np.concatenate([vectors.take(row, row + 1) for row, _ in block])
            places = [self._place[doc] for _, doc in block]
            named = np.concatenate([self.vectors.take(place, place + 1) for place in places])
            for (row, doc), score in zip(block, np.einsum("nd,nd->n", asked, named).tolist(), strict=True):
                run[names[row]][doc] = score
        return run


def search_dense(
    encoder: BiEncoder, passages: Mapping[str, str], queries: Mapping[str, str], *, depth: int
) -> dict[str, dict[str, float]]:
    """Return the best passages of each query by similarity; see `DenseIndex.search`."""
    return DenseIndex(encoder, passages).search(queries, depth=depth)


def _best(queries: Floats, passages: Vectors, depth: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return places and similarities of the best passages, (Q, min(depth, N)) each, best first."""
    asked = np.zeros((QUERIES, queries.shape[1]), dtype=np.float32)
    asked[: len(queries)] = queries
    best = np.empty((len(queries), 0), dtype=np.int64)
    least = np.full((len(queries), 1), -np.inf, dtype=np.float32)
    block = np.zeros((PASSAGES, queries.shape[1]), dtype=np.float32)
    for start in range(0, len(passages), PASSAGES):
        count = min(PASSAGES, len(passages) - start)
        block[:count] = passages.take(start, start + count)
        scores = (asked @ block.T)[: len(queries), :count] + np.float32(0)  # -0.0 becomes 0.0, its equal
        rows, columns = np.nonzero(scores > least)  # of equals the earlier place stays
        best = _merged(best, rows, _sort_keys(scores[rows, columns], start + columns), depth)
        if best.shape[1] == depth:
            least = _scores(best.min(axis=1, keepdims=True))
    best = -np.sort(-best, axis=1)
    return _places(best), _scores(best)


def _merged(
    best: npt.NDArray[np.int64], rows: npt.NDArray[np.intp], keys: npt.NDArray[np.int64], depth: int
) -> npt.NDArray[np.int64]:
    """Return (Q, at most depth) the largest keys of each row, old and new ones together, in any order.

    Keys are distinct, so the result is unique. `rows` ascends and gives the row of each new key.
    """
    counts = np.bincount(rows, minlength=len(best))
    starts = np.cumsum(counts) - counts
    new = np.full((len(best), counts.max()), np.iinfo(np.int64).min)
    new[rows, np.arange(len(rows)) - starts[rows]] = keys
    both = np.concatenate([best, new], axis=1)
    return both if both.shape[1] <= depth else np.partition(both, -depth, axis=1)[:, -depth:]


def _sort_keys(scores: Floats, places: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Return (n,) integers that encode (score, place) and sort by score, then earlier place.

    The upper half is the score: the bits of floats sort like integers once those of negative floats are
    flipped. The lower half falls with the place.
    """
    bits = scores.view(np.int32)
    high = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    return (high << 32) | (0xFFFFFFFF - places)


def _places(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def _scores(keys: npt.NDArray[np.int64]) -> Floats:
    high = (keys >> 32).astype(np.int32)
    return np.where(high < 0, high ^ 0x7FFFFFFF, high).astype(np.int32).view(np.float32)
