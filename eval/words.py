"""Numbers in sentences."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 5


def count_of(count: int, word: str) -> str:
    """A count with its noun.

    >>> count_of(1, "query"), count_of(1200, "query"), count_of(2, "pair")
    ('1 query', '1,200 queries', '2 pairs')
    """
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count:,} {word if count == 1 else plural}"


def percent(share: float, of: float = 1.0) -> str:
    """A share of a whole; 0 of 0 is 0.

    >>> percent(32, 1000), percent(0.5)
    ('3.2 %', '50.0 %')
    """
    return f"{100 * share / (of or 1):.1f} %"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> some(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d, e and 1 more'
    """
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
