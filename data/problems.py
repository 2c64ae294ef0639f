"""What a check finds: problems by kind, each kind with its severity, counted and with a few examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..configs.errors import UserError

SHOWN = 20  # problems on the terminal; `uprank check` prints all


def require(
    problems: list[str], *, advice: str = "", rest: str = "; `uprank check examples=null` prints all"
) -> None:
    """Raise what was found wrong, if anything; long lists are cut, with their count and where the rest is."""
    if not problems:
        return
    shown = problems[:SHOWN]
    if len(problems) > SHOWN:
        shown.append(f"… and {len(problems) - SHOWN} more{rest}")
    raise UserError(shown, advice=advice)


ERROR, WARNING = "error", "warning"

# Each kind of problem: its severity, and what a report says it is. An error means that training or the
# figures that come of it would be wrong, a warning that they may be worse than they could be.
KINDS = {
    "file": (ERROR, "source that cannot be read"),
    "row": (ERROR, "row that is no group"),
    "broken row": (ERROR, "row that cannot be read"),
    "missing or wrong type": (ERROR, "column missing, or of the wrong type"),
    "scores and grades": (ERROR, "scores, grades or labels that do not fit"),
    "encoding": (ERROR, "not UTF-8, or half of a character"),
    "empty text": (ERROR, "empty or blank text"),
    "no negatives": (ERROR, "group without negatives"),
    "twice": (ERROR, "id stands more than once"),
    "contradiction": (ERROR, "passage is both positive and negative of one query"),
    "leak": (ERROR, "query of one split is also in another"),
    "misspelt leak": (ERROR, "query of one split is also in another, spelt differently"),
    "similar query": (WARNING, "query of one split is similar to one of another"),
    "different grades": (WARNING, "grade of a passage differs between rows of one query"),
    "near-duplicate": (WARNING, "negative is nearly the same text as a positive of its group"),
    "duplicate row": (WARNING, "row stands more than once"),
    "duplicate passage": (WARNING, "passage stands more than once in its row"),
    "broken characters": (WARNING, "characters that were decoded wrongly"),
    "control characters": (WARNING, "control characters"),
    "long text": (WARNING, "absurdly long text"),
    "label noise": (WARNING, "negative that the model ranks over a positive"),
    "columns": (WARNING, "columns that were taken by their order, or are not read"),
    "dropped": (WARNING, "row left out by data.on_error=skip"),
}


class Problem(str):
    """A problem in words, `file:line: what`, that knows its kind; usable wherever a string is.

    >>> problem = Problem("rows.jsonl:3: `query` is an empty text", "empty text")
    >>> problem.kind
    'empty text'
    """

    kind: str

    def __new__(cls, text: str, kind: str = "row") -> Problem:
        """A problem of one of `KINDS`."""
        problem = super().__new__(cls, text)
        problem.kind = kind
        return problem

    def __reduce__(self) -> tuple[type[Problem], tuple[str, str]]:
        """What a copy, or another process, makes the same one of."""
        return Problem, (str(self), self.kind)


def kind_of(problem: str) -> str:
    """Kind of a problem; `row` of a plain string."""
    return getattr(problem, "kind", "row")


def severity(kind: str) -> str:
    """`error` or `warning`."""
    return KINDS.get(kind, KINDS["row"])[0]


@dataclass
class Findings:
    """Problems counted by kind, of which the first few are kept: memory does not grow with the data.

    Attributes:
        limit: problems of a kind that are kept as examples; all when None.
        counts: how often each kind was found.
        examples: the first problems of each kind.
    """

    limit: int | None = 5
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, problem: str, kind: str | None = None) -> None:
        """Count a problem; its kind is the problem's own when not given."""
        kind = kind or kind_of(problem)
        kind = kind if kind in KINDS else "row"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        kept = self.examples.setdefault(kind, [])
        if self.limit is None or len(kept) < self.limit:
            kept.append(str(problem))

    def extend(self, problems: Iterable[str], kind: str | None = None) -> None:
        """Count several problems."""
        for problem in problems:
            self.add(problem, kind)

    def count_more(self, kind: str, number: int) -> None:
        """Count problems that are no examples."""
        if number:
            self.counts[kind] = self.counts.get(kind, 0) + number

    def count(self, severity: str) -> int:
        """How many problems of a severity were found."""
        return sum(count for kind, count in self.counts.items() if KINDS[kind][0] == severity)

    def ordered(self) -> list[str]:
        """Kinds that were found, in the order of `KINDS`: errors first."""
        return [kind for kind in KINDS if kind in self.counts]

    def as_facts(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"counts": dict(self.counts), "examples": {k: list(v) for k, v in self.examples.items()}}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Findings:
        """What `as_facts` wrote."""
        examples = {kind: list(kept) for kind, kept in facts["examples"].items()}
        return cls(counts=dict(facts["counts"]), examples=examples)
