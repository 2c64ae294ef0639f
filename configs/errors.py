"""The one exception that means: the user can mend this."""

from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


class UserError(Exception):
    """A mistake in what the user gave: printed without a traceback, exit code 2.

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
    """Call a check and add its problems to the list instead of raising them; None if there were any."""
    try:
        return check(*args, **kwargs)
    except UserError as error:
        problems += error.problems
        if error.advice:  # several checks may each have one, so it goes to the problem it belongs to
            problems[-1] += f". {error.advice}"
        return None
