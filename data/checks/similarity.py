"""Near-duplicate texts by exact Jaccard similarity of their 5-character pieces.

MinHash would only estimate it. Within one group, and between the queries of two splits, arrays of hashes are
faster than its signatures and miss nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..groups import Group

PIECE = 5  # characters
NEAR = 0.8  # similarity from which two texts are near-duplicates
_SLACK = 0.2  # the share of pieces found counts those that a text repeats, the similarity does not
_SLOT_BITS = 24
_ODD, _BASE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x9FB21C651E98DF25)
_WORD = re.compile(r"\w+")

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def text_key(text: str) -> str:
    """Return a text without case, blanks, punctuation and the width of characters.

    >>> text_key("P53-mediated,  Repair!") == text_key("p53 mediated repair")
    True
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(_WORD.findall(plain)) or " ".join(plain.split())


def text_similarity(first: str, second: str, least: float = 0.0) -> float:
    """Return the Jaccard similarity of the 5-character pieces of two texts, of their `text_key`.

    Returns 0 early if it cannot reach `least`.

    >>> [text_similarity("abcdefg", other) for other in ("ABC defg!", "abcdefx", "uvwxyz")]
    [1.0, 0.5, 0.0]
    """
    a, b = _distinct(first), _distinct(second)
    if min(len(a), len(b)) < least * max(len(a), len(b)):
        return 0.0
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


@dataclass(frozen=True)
class Pieces:
    """The pieces of N texts, laid end to end.

    Attributes:
        hashes: hash of every piece, (P,); equal pieces have equal hashes.
        starts: the pieces of text n are `hashes[starts[n]:starts[n + 1]]`, (N + 1,).
        keys: a hash of `text_key` of each text, (N,).
    """

    hashes: Hashes
    starts: Places
    keys: Hashes

    def owners(self) -> Places:
        """Return the text that each piece belongs to, (P,)."""
        return np.repeat(np.arange(len(self.keys)), np.diff(self.starts))


def pieces_of(texts: Sequence[str]) -> Pieces:
    """Cut many texts into pieces at once; a text shorter than a piece is one piece."""
    plain = [
        text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold() for text in texts
    ]
    signs = [place for place, text in enumerate(plain) if not _WORD.search(text)]  # they are their own key
    for place in signs:
        plain[place] = " ".join(plain[place].split())
    codes = np.frombuffer("".join(plain).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    ends = np.cumsum(np.fromiter(map(len, plain), np.int64, len(plain)))
    kept = _word_characters()[codes]
    for place in signs:
        kept[ends[place] - len(plain[place]) : ends[place]] = True
    before = np.concatenate(([0], np.cumsum(kept)))
    codes, starts = codes[kept].astype(np.uint64), before[np.concatenate(([0], ends))]
    return _hashed(codes, starts)


def _hashed(codes: Hashes, starts: Places) -> Pieces:
    """Hash the pieces and keys of texts whose characters are laid end to end."""
    sizes = np.diff(starts)
    padded = np.concatenate((codes, np.zeros(PIECE, np.uint64)))
    left = np.repeat(starts[1:], sizes) - np.arange(len(codes))  # characters from here to the text's end
    hashes = np.zeros(len(codes), np.uint64)
    for place in range(PIECE):  # the polynomial of `_distinct`
        hashes = hashes * _ODD + np.where(left > place, padded[place : place + len(codes)] + np.uint64(1), 0)
    first = np.arange(len(codes)) == np.repeat(starts[:-1], sizes)
    whole = (left >= PIECE) | first
    before = np.concatenate(([0], np.cumsum(whole)))
    powers = np.multiply.accumulate(np.full(int(sizes.max(initial=0)) + 1, _BASE))
    offsets = np.arange(len(codes)) - np.repeat(starts[:-1], sizes)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(codes * powers[offsets], dtype=np.uint64)))
    keys = mixed((sums[starts[1:]] - sums[starts[:-1]]) ^ sizes.astype(np.uint64))
    return Pieces(hashes[whole], before[starts], keys)


def mixed(values: Hashes) -> Hashes:
    """Spread differences over all bits, so that sums and sets of hashes are hashes."""
    values = (values ^ (values >> np.uint64(32))) * _ODD
    values = (values ^ (values >> np.uint64(29))) * _BASE
    return values ^ (values >> np.uint64(32))


def near_negatives(
    groups: Sequence[Group], pieces: Pieces, starts: Places
) -> Iterator[tuple[Group, str, str, float]]:
    """Yield negatives that nearly equal a positive of their group: group, positive, negative, similarity.

    Args:
        groups: some groups.
        pieces: pieces of their texts, group after group, each `query, *positives, *negatives`.
        starts: index of the first text of each group, and the end.
    """
    texts = np.repeat(np.arange(len(groups)), np.diff(starts))  # group of each text
    place = np.arange(len(texts)) - starts[texts]
    positives = np.fromiter((len(group.positives) for group in groups), np.int64, len(groups))[texts]
    is_positive = (place > 0) & (place <= positives)
    owners = pieces.owners()
    slots = mixed(pieces.hashes ^ mixed(texts[owners].astype(np.uint64))) >> np.uint64(64 - _SLOT_BITS)
    table = np.zeros(1 << _SLOT_BITS, dtype=bool)
    table[slots[is_positive[owners]]] = True
    found = np.concatenate(([0], np.cumsum(table[slots])))[pieces.starts]
    share = np.diff(found) / np.maximum(np.diff(pieces.starts), 1)
    for text in np.flatnonzero((place > positives) & (share >= NEAR - _SLACK)).tolist():
        group = groups[texts[text]]
        negative = group.texts[place[text]]
        alike = [(text_similarity(positive, negative, NEAR), positive) for positive in group.positives]
        best, positive = max(alike)
        if best >= NEAR:
            yield group, positive, negative, best


@lru_cache(maxsize=4096)
def _distinct(text: str) -> Hashes:
    """Hash the distinct pieces of one text, ascending; `pieces_of` is faster for many texts."""
    codes = np.frombuffer(text_key(text).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    count = max(1, len(codes) - PIECE + 1)
    hashes = np.zeros(count, dtype=np.uint64)
    for place in range(min(PIECE, len(codes))):  # wraps at 64 bits: a polynomial with a large odd factor
        hashes = hashes * _ODD + codes[place : place + count] + np.uint64(1)  # no character is nothing
    return np.unique(hashes)


@lru_cache(maxsize=1)
def _word_characters() -> npt.NDArray[np.bool_]:
    """Return a mask of the code points that are part of a word."""
    known = np.zeros(0x110000, dtype=bool)
    for found in _WORD.finditer("".join(map(chr, range(0x110000)))):
        known[found.start() : found.end()] = True
    return known
