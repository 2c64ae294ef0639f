"""What a data set holds, and what is shared between splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .groups import Group, same_query
from .pairs import PairEncoder
from .store import hash_texts, shared_queries

CHUNK = 1024  # groups whose pairs are measured at a time


@dataclass(frozen=True)
class Summary:
    """Counts of one split.

    Attributes:
        split: `train`, `dev` or `test`.
        path: where it was read.
        queries: queries with at least one relevant passage.
        positives: relevant passages, over all queries.
        negatives: negatives, over all queries.
        duplicates: queries that stand more than once.
        lengths: tokens of the pairs (median, 95 %, longest); None without a tokenizer.
        truncated: share of pairs above the budget; None without a tokenizer.
    """

    split: str
    path: str
    queries: int
    positives: int
    negatives: int
    duplicates: int
    lengths: tuple[int, int, int] | None
    truncated: float | None


@dataclass(frozen=True)
class Leak:
    """What two splits share.

    Attributes:
        first: one split.
        second: the other.
        queries: texts of queries in both, equal but for case, blanks and punctuation.
        passages: how many passages are in both (normal where both search one corpus).
    """

    first: str
    second: str
    queries: list[str]
    passages: int


def summarise(split: str, path: str, groups: Sequence[Group], encoder: PairEncoder | None) -> Summary:
    """Count a split; token lengths need an encoder."""
    lengths, truncated = None, None
    if encoder is not None and groups:
        tokens = np.concatenate([encoder.full_lengths(pairs) for pairs in _pairs(groups)])
        middle, high, longest = np.percentile(tokens, (50, 95, 100), method="inverted_cdf")
        lengths = (int(middle), int(high), int(longest))  # of real pairs, not between two
        truncated = float((tokens > encoder.max_tokens).mean())
    counts = np.zeros(2, dtype=np.int64)
    for group in groups:
        counts += len(group.positives), len(group.negatives)
    return Summary(
        split,
        path,
        len(groups),
        int(counts[0]),
        int(counts[1]),
        len(groups) - len(np.unique(_names(group.query for group in groups))),
        lengths,
        truncated,
    )


def find_leaks(splits: Mapping[str, Sequence[Group]]) -> list[Leak]:
    """What each pair of splits shares.

    >>> a, b = Group("Is it so?", ("yes",), ("no",), "a:1"), Group("is it  so", ("yes",), ("maybe",), "b:1")
    >>> find_leaks({"train": [a], "dev": [b]})
    [Leak(first='train', second='dev', queries=['is it  so'], passages=1)]
    """
    names = list(splits)
    passages = {name: np.unique(_names(_passages(groups))) for name, groups in splits.items()}
    return [
        Leak(
            first,
            second,
            _shared(splits[first], splits[second]),
            len(np.intersect1d(passages[first], passages[second], assume_unique=True)),
        )
        for place, first in enumerate(names)
        for second in names[place + 1 :]
    ]


def _shared(first: Sequence[Group], second: Sequence[Group]) -> list[str]:
    shared = shared_queries(first, (group.query for group in second))
    return list({same_query(text): text for text in shared}.values())


def _passages(groups: Sequence[Group]) -> Iterator[str]:
    for group in groups:
        yield from group.positives
        yield from group.negatives


def _names(texts: Iterator[str]) -> np.ndarray:
    """16 bytes for each text, shape (T,): millions of texts are compared by these."""
    return hash_texts(texts).view("S16").ravel()


def _pairs(groups: Sequence[Group]) -> Iterator[list[tuple[str, str]]]:
    for start in range(0, len(groups), CHUNK):
        chunk = groups[start : start + CHUNK]
        yield [(group.query, text) for group in chunk for text in (*group.positives, *group.negatives)]
