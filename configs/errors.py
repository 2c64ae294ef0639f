"""The one exception for mistakes that the user can fix."""

from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

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


def collect(
    problems: list[str], check: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs
) -> Found | None:
    """Run a check and append its problems to the list instead of raising. Return None if there were any."""
    try:
        return check(*args, **kwargs)
    except UserError as error:
        problems += error.problems
        if error.advice:  # each check may have its own, so it stays with its problem
            problems[-1] += f". {error.advice}"
        return None
