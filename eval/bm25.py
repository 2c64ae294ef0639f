"""BM25 first stage over a corpus, for languages with and without spaces (bm25s does the work).

Lù 2024, BM25S: Orders of magnitude faster lexical search via eager sparse scoring, arXiv:2407.03618.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

# Runs of Han, Hiragana, Katakana and Hangul have no spaces to split at: they become bigrams,
# the usual baseline without a dictionary. Everything else is split into words.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_PARTS = re.compile(rf"[{_CJK}]+|[^\W{_CJK}]+")
_IS_CJK = re.compile(rf"[{_CJK}]")


def search(
    passages: Mapping[str, str], queries: Mapping[str, str], *, depth: int
) -> dict[str, dict[str, float]]:
    """The best passages of each query.

    Words are lower-cased, English stop words removed and stems taken (Snowball).

    Args:
        passages: document id to text.
        queries: query id to text.
        depth: documents a query at most; those that share no word with it are left out.

    Returns:
        query id -> document id -> score, best first; a query that matches nothing has an empty row.
    """
    import bm25s

    analyse = _Analyser()
    index = bm25s.BM25()  # k1 = 1.5, b = 0.75, idf as in Lucene
    ids = list(passages)
    terms = [analyse(text) for text in passages.values()]
    if not any(terms):  # bm25s cannot index a corpus without a word
        return {query: {} for query in queries}
    index.index(terms, show_progress=False)
    run: dict[str, dict[str, float]] = {}
    for query, text in queries.items():
        words = [word for word in analyse(text) if word in index.vocab_dict]
        scores = index.get_scores(words) if words else np.zeros(len(ids), dtype=np.float32)
        best = np.argsort(-scores, kind="stable")[:depth]
        run[query] = {ids[i]: float(scores[i]) for i in best if scores[i] > 0}
    return run


class _Analyser:
    """Text to index terms."""

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
