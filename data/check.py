"""What a data set holds, and what is shared between splits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .groups import Group
from .pairs import PairEncoder

_WORD = re.compile(r"\w+")


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
        pairs = [(group.query, text) for group in groups for text in (*group.positives, *group.negatives)]
        tokens = encoder.full_lengths(pairs)
        middle, high, longest = np.percentile(tokens, (50, 95, 100), method="inverted_cdf")
        lengths = (int(middle), int(high), int(longest))  # of real pairs, not between two
        truncated = float((tokens > encoder.max_tokens).mean())
    return Summary(
        split,
        path,
        len(groups),
        sum(len(group.positives) for group in groups),
        sum(len(group.negatives) for group in groups),
        sum(count - 1 for count in Counter(group.query for group in groups).values()),
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
    queries = {name: {same_query(group.query): group.query for group in splits[name]} for name in names}
    passages = {name: {text for g in splits[name] for text in (*g.positives, *g.negatives)} for name in names}
    return [
        Leak(
            first,
            second,
            [text for key, text in queries[second].items() if key in queries[first]],
            len(passages[first] & passages[second]),
        )
        for place, first in enumerate(names)
        for second in names[place + 1 :]
    ]


def same_query(text: str) -> str:
    """What two queries have in common that are the same but for case, blanks and punctuation."""
    return " ".join(_WORD.findall(text.casefold())) or text  # `?` and `!` have no words and are not equal
