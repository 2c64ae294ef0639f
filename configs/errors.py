"""The one exception for mistakes that the user can fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ParamSpec, Protocol, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


class UserError(Exception):
    """A mistake in the user's input: printed without a traceback, exit code 2.

    Attributes:
        problems: every problem found, in order; data problems begin with ``file:line``.
        advice: one sentence on what to set or run, shown last.
    """

    def __init__(self, problems: str | Iterable[str], *, advice: str = "") -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.advice = advice
        super().__init__("\n".join(self.problems + ([advice] if advice else [])))


class Collector(Protocol):
    """Anything that texts can be added to: a list, or `data.problems.Problems`."""

    def extend(self, texts: Iterable[str], /) -> None:
        """Add the texts."""


def collect(
    problems: Collector, check: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs
) -> Found | None:
    """Run a check and add its problems to a collector instead of raising. Return None if there were any."""
    try:
        return check(*args, **kwargs)
    except UserError as error:
        texts = list(error.problems)
        if error.advice:  # each check may have its own, so it stays with its problem
            texts[-1] += f". {error.advice}"
        problems.extend(texts)
        return None
