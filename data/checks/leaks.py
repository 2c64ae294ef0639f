"""Queries of one data set that are also in another: the same, spelt differently, or similar."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

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
        place: of the query that was looked up.
        known: place of the one in the index.
        kind: `leak` (equal but for case, blanks and punctuation), `misspelt leak`, or `similar query`.
        similarity: Jaccard similarity of their 5-character pieces.
    """

    place: int
    known: int
    kind: str
    similarity: float


class QueryIndex:
    """Queries to look others up in: exact, with about 200 bytes a query.

    Candidates are those with the same words but for one, and those that share some of the rarest pieces of a
    known query: sets of similarity t share at least t of each, so that at least n are shared of any `(1 - t)`
    of its pieces and n more (the prefix filter of set similarity joins).
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        pieces = pieces_of(self.texts)
        self._words = _Table(*_but_one(self.texts))
        rarest, owners, self._least = _rarest(pieces.hashes, pieces.starts)
        self._pieces = _Table(rarest, owners)

    def matches(self, texts: Sequence[str], pieces: Pieces | None = None) -> Iterator[Match]:
        """Those of these queries, a few thousand, that are like one in the index; the one most alike.

        Args:
            texts: of the queries.
            pieces: of these texts, where they are known.
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
    """How two queries are alike: the kind of `Match`, or nothing, and their similarity.

    >>> compare("Does BM25 rank?", "does bm25 rank")[0], compare("the best reranker", "best rerankr")[0]
    ('leak', 'misspelt leak')

    What differs by a whole word often means the opposite: it is similar, but no leak.

    >>> compare("The drug increases the risk of strokes", "The drug decreases the risk of strokes")[0]
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
    """Whether two texts are the same but for articles and one letter in so many long words.

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
    """Whether one letter was added, left out or replaced, or two neighbours changed places."""
    if min(len(first), len(second)) < LONG_WORD or first[0] != second[0]:
        return False
    if not all(word.isalpha() and max(word) < _CHARACTER_SCRIPTS for word in (first, second)):
        return False
    shorter = min(len(first), len(second))
    start = next((place for place in range(shorter) if first[place] != second[place]), shorter)
    end = next(
        (place for place in range(shorter - start) if first[-1 - place] != second[-1 - place]),
        shorter - start,
    )
    x, y = first[start : len(first) - end], second[start : len(second) - end]
    return max(len(x), len(y)) == 1 or (len(x) == len(y) == 2 and x == y[::-1])


class _Table:
    """From hashes to the places of the known queries that have them."""

    def __init__(self, hashes: Hashes, places: Places) -> None:
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._places = hashes[order], places[order]
        self._slots = np.zeros(1 << SLOT_BITS, dtype=bool)  # most hashes are not here, as this says at once
        self._slots[_slots(hashes)] = True

    def look_up(self, hashes: Hashes, owners: Places) -> Places:
        """Pairs of an owner of a hash and a known query that has it, shape (N, 2)."""
        here = self._slots[_slots(hashes)]
        hashes, owners = hashes[here], owners[here]
        first, end = (np.searchsorted(self._hashes, hashes, side=side) for side in ("left", "right"))
        counts = end - first
        places = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        return np.stack([np.repeat(owners, counts), self._places[places]], axis=1)


def _slots(hashes: Hashes) -> Hashes:
    return mixed(hashes) >> np.uint64(64 - SLOT_BITS)


def _words(text: str) -> list[str]:
    """The words of a text but for articles."""
    plain = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return [word for word in _WORD.findall(plain) if word not in ARTICLES]


def _but_one(texts: Sequence[str]) -> tuple[Hashes, Places]:
    """Hashes of the words of each text, whatever their order: all of them, and all but each one."""
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
    """Of each text the rarest of its distinct pieces, and how many of them every similar text has, too."""
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
