"""BM25 first stage over a corpus, for languages with and without spaces (bm25s does the work).

Lù 2024, BM25S: Orders of magnitude faster lexical search via eager sparse scoring, arXiv:2407.03618.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Runs of Han, Hiragana, Katakana and Hangul have no spaces to split at: they become bigrams,
# the usual baseline without a dictionary. Everything else is split into words.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_PARTS = re.compile(rf"[{_CJK}]+|[^\W{_CJK}]+")
_IS_CJK = re.compile(rf"[{_CJK}]")


class BM25Index:
    """A corpus to search; words are lower-cased, English stop words removed and stems taken (Snowball).

    Args:
        passages: document id to text.
    """

    def __init__(self, passages: Mapping[str, str]) -> None:
        import bm25s

        self.ids = list(passages)
        self._analyse = _Analyser()
        self._place = {doc: place for place, doc in enumerate(self.ids)}
        self._index: Any = bm25s.BM25()  # k1 = 1.5, b = 0.75, idf as in Lucene
        terms = [self._analyse(text) for text in passages.values()]
        if any(terms):
            self._index.index(terms, show_progress=False)
        else:  # bm25s cannot index a corpus without a word
            self._index = None

    def search(self, queries: Mapping[str, str], *, depth: int) -> dict[str, dict[str, float]]:
        """Return the best passages of each query.

        Args:
            queries: query id to text.
            depth: most documents per query; documents that share no word with it are left out.

        Returns:
            query id -> document id -> score, best first; a query that matches nothing has an empty row.
        """
        run: dict[str, dict[str, float]] = {}
        for query, text in queries.items():
            scores = self._scores(text)
            found = np.flatnonzero(scores > 0)
            if len(found) > depth:  # keep all that tie with the last one, then cut stably
                found = found[scores[found] >= np.partition(scores[found], -depth)[-depth]]
            best = found[np.argsort(-scores[found], kind="stable")[:depth]]
            run[query] = {self.ids[i]: float(scores[i]) for i in best}
        return run

    def similarities(
        self, queries: Mapping[str, str], wanted: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, float]]:
        """Return the score of each query's named documents, however low they rank; 0 if no word is shared."""
        run: dict[str, dict[str, float]] = {}
        for query, text in queries.items():
            scores = self._scores(text)
            run[query] = {doc: float(scores[self._place[doc]]) for doc in wanted.get(query, ())}
        return run

    def _scores(self, text: str) -> npt.NDArray[np.float32]:
        """Return (N,) the score of every document."""
        if self._index is None:
            return np.zeros(len(self.ids), dtype=np.float32)
        words = [word for word in self._analyse(text) if word in self._index.vocab_dict]
        if not words:
            return np.zeros(len(self.ids), dtype=np.float32)
        scores: npt.NDArray[np.float32] = self._index.get_scores(words)
        return scores


def search_bm25(
    passages: Mapping[str, str], queries: Mapping[str, str], *, depth: int
) -> dict[str, dict[str, float]]:
    """Return the best passages of each query; see `BM25Index.search`."""
    return BM25Index(passages).search(queries, depth=depth)


class _Analyser:
    """Maps a text to its index terms."""

    def __init__(self) -> None:
        import Stemmer
        from bm25s.stopwords import STOPWORDS_EN

        self._stop = frozenset(STOPWORDS_EN)
        self._stem = Stemmer.Stemmer("english").stemWord

    def __call__(self, text: str) -> list[str]:
        return list(self._terms(text.lower()))

    def _terms(self, text: str) -> Iterator[str]:
        for part in _PARTS.findall(text):
            if not _IS_CJK.match(part):
                if part not in self._stop:
                    yield self._stem(part)
            elif len(part) == 1:
                yield part
            else:
                yield from (part[i : i + 2] for i in range(len(part) - 1))
