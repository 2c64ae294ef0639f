"""Numbers as words: counts, shares, estimates, differences and p-values."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .results import Comparison, Estimate

NAMED = 5


def count_of(count: int, word: str) -> str:
    """Return a count with its noun.

    >>> count_of(1, "query"), count_of(1200, "query"), count_of(2, "pair")
    ('1 query', '1,200 queries', '2 pairs')
    """
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count:,} {word if count == 1 else plural}"


def percent(share: float, of: float = 1.0) -> str:
    """Return a share of a whole, which is not 0.

    >>> percent(32, 1000), percent(0.5)
    ('3.2 %', '50.0 %')
    """
    return f"{100 * share / of:.1f} %"


def some(names: Sequence[str]) -> str:
    """Return the first few names and the number of the others.

    >>> some(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d, e and 1 more'
    """
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


_UNBREAKABLE = re.compile(r"\[[^\]]*\]|p [=<] (?=\d)|(?<=\d) (?=%)")


def format_estimate(estimate: Estimate) -> str:
    """Format mean and interval.

    >>> format_estimate(Estimate(mean=0.712, low=0.681, high=0.742))
    '0.712 [0.681, 0.742]'
    """
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def format_difference(comparison: Comparison) -> str:
    """Format signed difference and interval, such as ``+0.042 [+0.018, +0.066]``."""
    return f"{comparison.difference:+.3f} [{comparison.low:+.3f}, {comparison.high:+.3f}]"


def format_p(p: float) -> str:
    """Format a p-value so that it never reads as zero.

    >>> format_p(0.0312), format_p(0.0001)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def format_tests(comparison: Comparison) -> str:
    """Format p, and p after Holm's correction if several systems are compared."""
    p, corrected = comparison.p, comparison.p_holm
    if corrected is None or corrected == p:
        return format_p(p)
    return f"{format_p(p)}, Holm {format_p(corrected).removeprefix('p = ').removeprefix('p ')}"


def unbreakable(text: str) -> str:
    """Put no-break spaces inside intervals, p-values and percentages."""
    return _UNBREAKABLE.sub(lambda found: found.group().replace(" ", "\u00a0"), text)
