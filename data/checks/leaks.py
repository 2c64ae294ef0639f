"""Queries that two data sets share: equal, spelt differently, or similar."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from rapidfuzz.distance import OSA

from ..groups import same_query
from .similarity import NEAR, Hashes, Pieces, Places, mixed, pieces_of, text_key, text_similarity

KINDS = ("leak", "misspelt leak", "similar query")
ARTICLES = frozenset(("a", "an", "the"))
LONG_WORD = 5  # letters of a word from which one wrong letter is taken for a misspelling
SLOT_BITS = 20
SHARED_PIECES = 5  # that make a candidate: more look at more pieces, fewer at more candidates
CANDIDATE = 0.6  # similarity from which two words may be misspelt
MISSPELT_WORDS = 2
_CHARACTER_SCRIPTS = "\u2e80"  # from here on one character is a word or a syllable, and changes the meaning
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Match:
    """Two queries that are alike.

    Attributes:
        place: index of the query that was looked up.
        known: index of the query in the `QueryIndex`.
        kind: `leak` (equal but for case, blanks and punctuation), `misspelt leak`, or `similar query`.
        similarity: Jaccard similarity of their 5-character pieces.
    """

    place: int
    known: int
    kind: str
    similarity: float


class QueryIndex:
    """Index of queries in which others are looked up: exact, about 200 bytes a query.

    Candidates have the same words but for one, or share some of the rarest pieces of a known query. Two sets
    of similarity t share at least t of each: of any `(1 - t)` of the pieces and n more, at least n are shared
    (the prefix filter of set similarity joins).
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        pieces = pieces_of(self.texts)
        self._words = _Table(*_but_one(self.texts))
        rarest, owners, self._least = _rarest(pieces.hashes, pieces.starts)
        self._pieces = _Table(rarest, owners)

    def matches(self, texts: Sequence[str], pieces: Pieces | None = None) -> Iterator[Match]:
        """Yield the best match of each query that has one in the index.

        Args:
            texts: a few thousand queries.
            pieces: their pieces, if they are known.
        """
        pieces = pieces or pieces_of(texts)
        hashes, owners = _but_one(texts)
        shared, times = np.unique(
            self._pieces.look_up(pieces.hashes, pieces.owners()), axis=0, return_counts=True
        )
        pairs = np.concatenate(
            [
                self._words.look_up(hashes, owners),
                shared[times >= self._least[shared[:, 1]]],
            ]
        )
        most: dict[int, Match] = {}
        for place, known in np.unique(pairs, axis=0).tolist():
            kind, value = compare_queries(texts[place], self.texts[known])
            if kind:
                match = Match(place, known, kind, value)
                most[place] = min(most.get(place, match), match, key=_rank)
        yield from most.values()


def compare_queries(first: str, second: str) -> tuple[str, float]:
    """Return the kind of `Match` of two queries (empty if they are not alike), and their similarity.

    >>> compare_queries("Does BM25 rank?", "does bm25 rank")[0]
    'leak'
    >>> compare_queries("the best reranker", "best rerankr")[0]
    'misspelt leak'

    A whole word that differs often turns the meaning round: such queries are similar, but no leak.

    >>> compare_queries("It increases the risk of strokes", "It decreases the risk of strokes")[0]
    ''
    """
    if same_query(first) == same_query(second):
        return "leak", 1.0
    value = text_similarity(first, second)
    words = MISSPELT_WORDS if value >= CANDIDATE else 1
    if text_key(first) == text_key(second) or misspelt(first, second, words):
        return "misspelt leak", value
    return ("similar query" if value >= NEAR else ""), value


def _rank(match: Match) -> tuple[int, float]:
    return KINDS.index(match.kind), -match.similarity


def misspelt(first: str, second: str, words: int = 1) -> bool:
    """Return True if two texts differ only by articles and by one letter in up to `words` long words.

    The letter is never the first one (`typical`, `atypical`), and words with digits never count (`IL-1`).
    In Chinese, Japanese and Korean a character too few or too many is no misspelling.
    """
    a, b = _words(first), _words(second)
    if len(a) != len(b) or not a:
        return False
    different = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    words = 0 if len(a) == 1 else words  # a word alone may be another word
    return len(different) <= words and all(_one_letter(x, y) for x, y in different)


def _one_letter(first: str, second: str) -> bool:
    """Return True if one letter was added, left out or replaced, or two neighbours were swapped."""
    if min(len(first), len(second)) < LONG_WORD or first[0] != second[0]:
        return False
    if not all(word.isalpha() and max(word) < _CHARACTER_SCRIPTS for word in (first, second)):
        return False
    return OSA.distance(first, second, score_cutoff=1) == 1


class _Table:
    """Hash table from hashes to the known queries that have them."""

    def __init__(self, hashes: Hashes, places: Places) -> None:
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._places = hashes[order], places[order]
        self._slots = np.zeros(1 << SLOT_BITS, dtype=bool)  # most hashes are not here, as this says at once
        self._slots[_slots(hashes)] = True

    def look_up(self, hashes: Hashes, owners: Places) -> Places:
        """Return pairs of an owner of a hash and a known query with the same hash, shape (N, 2)."""
        here = self._slots[_slots(hashes)]
        hashes, owners = hashes[here], owners[here]
        first, end = (np.searchsorted(self._hashes, hashes, side=side) for side in ("left", "right"))
        counts = end - first
        places = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        return np.stack([np.repeat(owners, counts), self._places[places]], axis=1)


def _slots(hashes: Hashes) -> Hashes:
    return mixed(hashes) >> np.uint64(64 - SLOT_BITS)


def _words(text: str) -> list[str]:
    """Return the words of a text without articles."""
    plain = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return [word for word in _WORD.findall(plain) if word not in ARTICLES]


def _but_one(texts: Sequence[str]) -> tuple[Hashes, Places]:
    """Return order-free hashes of the words of each text, all of them and all but each one, with owners."""
    words = [_words(text) for text in texts]
    counts = np.fromiter(map(len, words), np.int64, len(words))
    owners = np.repeat(np.arange(len(words)), counts)
    # Python's own hashes differ between processes, which matters only to what is kept.
    hashes = np.fromiter(map(hash, chain.from_iterable(words)), np.int64, len(owners)).view(np.uint64)
    hashes = mixed(hashes)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)))
    ends = np.cumsum(counts)
    totals = sums[ends] - sums[ends - counts]
    several = counts[owners] > 1  # without its only word, a text is like any other
    return (
        np.concatenate((totals, (totals[owners] - hashes)[several])),
        np.concatenate((np.arange(len(words)), owners[several])),
    )


def _rarest(hashes: Hashes, starts: Places) -> tuple[Hashes, Places, Places]:
    """Return the rarest distinct pieces of each text, and how many of them every similar text shares."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    frequency = counts[inverse.ravel()]
    found: list[Hashes] = [np.zeros(0, np.uint64)]
    least: list[int] = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        own, first = np.unique(hashes[start:end], return_index=True)
        shared = math.ceil(CANDIDATE * len(own))
        least.append(min(shared, SHARED_PIECES))
        order = np.argsort(frequency[start + first], kind="stable")
        found.append(own[order][: len(own) - shared + least[-1]])
    owners = np.repeat(np.arange(len(least)), [len(part) for part in found[1:]])
    return np.concatenate(found), owners, np.array(least, dtype=np.int64)
