"""The one exception that means: the user can mend this."""

from collections.abc import Iterable


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
