"""What is wrong with data: the kinds of problems, a collector that keeps their order, and one that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from ..configs.errors import UserError

MOST = 100_000  # texts in memory
LONGEST = 2000  # characters of a text: an id may be a gigabyte long
SHOWN = 20  # problems on the terminal; `uprank check` prints all
NOT_UTF8 = (
    "not UTF-8; convert the file with `iconv -f ENCODING -t UTF-8` (Chinese files are often GB18030, Western "
    "ones CP1252)"
)

ERROR, WARNING = "error", "warning"

# Each kind of problem: its severity, and its meaning in a report. After an error, training or its figures
# would be wrong; after a warning, they may be worse than they could be.
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
    "shared passages": (WARNING, "split whose relevant passages are also those of another"),
    "different grades": (WARNING, "grade of a passage differs between rows of one query"),
    "near-duplicate": (WARNING, "negative is nearly the same text as a positive of its group"),
    "duplicate row": (WARNING, "row stands more than once"),
    "duplicate passage": (WARNING, "passage stands more than once in its row"),
    "broken characters": (WARNING, "characters that were decoded wrongly"),
    "control characters": (WARNING, "control characters"),
    "long text": (WARNING, "absurdly long text"),
    "label noise": (WARNING, "negative that the model ranks over a positive"),
    "unknown id": (WARNING, "judgment whose query or document is not there"),
    "empty document": (WARNING, "document without text, which is left out"),
    "judged twice": (WARNING, "the same judgment stands more than once"),
    "columns": (WARNING, "columns that were taken by their order, or are not read"),
    "dropped": (WARNING, "row left out by data.on_error=skip"),
}


class Problems(Sequence[str]):
    """Collector of problems: texts, mostly `file:line: problem`, in the order they were found, with kinds.

    Readers get one and go on after a problem, so that all are reported at once, see `require`.

    >>> problems = Problems()
    >>> problems.add("empty text", "rows.jsonl:3: `query` is an empty text")
    >>> list(problems), problems.kinds
    (['rows.jsonl:3: `query` is an empty text'], ['empty text'])

    Memory is bounded: a text is cut in its middle, and beyond `MOST` problems only their number is kept.

    Attributes:
        kinds: the kind of each text, one of `KINDS`.
        uncounted: kind to the number of further problems whose texts are not kept.
    """

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        """Collect problems; `items` are kinds and texts to begin with."""
        self.uncounted: Counter[str] = Counter()
        self.kinds: list[str] = []
        self._texts: list[str] = []
        for kind, text in items:
            self.add(kind, text)

    def add(self, kind: str, text: str) -> None:
        """Add one problem; `kind` must be one of `KINDS`."""
        assert kind in KINDS, f"unknown kind of problem: {kind!r}"
        if len(self._texts) >= MOST:
            self.uncounted[kind] += 1
            return
        self.kinds.append(kind)
        self._texts.append(text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-200:]}")

    def extend(self, texts: Iterable[str], kind: str = "row", *, where: str = "") -> None:
        """Add several.

        Args:
            texts: another collector, whose kinds are kept, or plain texts.
            kind: the kind of plain texts.
            where: `file:line` to put before each.
        """
        pairs = texts.items() if isinstance(texts, Problems) else ((kind, text) for text in texts)
        for each, text in pairs:
            self.add(each, f"{where}: {text}" if where else text)
        if isinstance(texts, Problems):
            self.uncounted += texts.uncounted

    def __iadd__(self, texts: Iterable[str]) -> Problems:
        self.extend(texts)
        return self

    def items(self) -> list[tuple[str, str]]:
        """Kind and text of each problem."""
        return list(zip(self.kinds, self._texts, strict=True))

    def of(self, which: str) -> Problems:
        """The problems of a kind, or of a severity (`ERROR`, `WARNING`)."""
        found = Problems((kind, text) for kind, text in self.items() if which in (kind, severity(kind)))
        found.uncounted += Counter(
            {kind: count for kind, count in self.uncounted.items() if which in (kind, severity(kind))}
        )
        return found

    def clear(self) -> None:
        """Forget all."""
        self.uncounted.clear()
        self.kinds.clear()
        self._texts.clear()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """One text, or a list of some."""
        return self._texts[index]

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __eq__(self, other: object) -> bool:
        return self._texts == (other._texts if isinstance(other, Problems) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._texts)


def require(
    problems: Sequence[str], *, advice: str = "", rest: str = "; `uprank check examples=null` prints all"
) -> None:
    """Raise all problems together, if there are any; a long list is cut, `rest` says where to see all.

    Raises:
        UserError: there are problems.
    """
    if not problems:
        return
    shown = list(problems[:SHOWN])
    count = len(problems) + (problems.uncounted.total() if isinstance(problems, Problems) else 0)
    if count > SHOWN:
        shown.append(f"… and {count - SHOWN} more{rest}")
    raise UserError(shown, advice=advice)


def severity(kind: str) -> str:
    """`error` or `warning`."""
    return KINDS[kind][0]


@dataclass
class Findings:
    """Problems counted by kind, with a few examples of each: memory does not grow with the data.

    Attributes:
        limit: examples kept of each kind; None keeps all.
        counts: number of problems of each kind.
        examples: the first problems of each kind.
    """

    limit: int | None = 5
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, text: str) -> None:
        """Count a problem; `kind` must be one of `KINDS`."""
        self.count_more(kind, 1)
        kept = self.examples.setdefault(kind, [])
        if self.limit is None or len(kept) < self.limit:
            kept.append(text)

    def extend(self, problems: Problems, kind: str | None = None) -> None:
        """Count several, all of them as `kind` if it is given."""
        for own, text in problems.items():
            self.add(kind or own, text)
        for own, number in problems.uncounted.items():
            self.count_more(kind or own, number)

    def count_more(self, kind: str, number: int) -> None:
        """Count problems without keeping them as examples."""
        assert kind in KINDS, f"unknown kind of problem: {kind!r}"
        if number:
            self.counts[kind] = self.counts.get(kind, 0) + number

    def count(self, severity: str) -> int:
        """Number of problems of a severity."""
        return sum(count for kind, count in self.counts.items() if KINDS[kind][0] == severity)

    def ordered(self) -> list[str]:
        """The kinds found, in the order of `KINDS`: errors first."""
        return [kind for kind in KINDS if kind in self.counts]

    def as_facts(self) -> dict[str, Any]:
        """Return counts and examples for JSON."""
        return {"counts": dict(self.counts), "examples": {k: list(v) for k, v in self.examples.items()}}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Findings:
        """Read what `as_facts` returned."""
        examples = {kind: list(kept) for kind, kept in facts["examples"].items()}
        return cls(counts=dict(facts["counts"]), examples=examples)
