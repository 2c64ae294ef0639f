"""The report of `uprank check`: as JSON, and as tables for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from ...data.checks import Shared, SourceCounts
from ...data.problems import ERROR, KINDS, WARNING, Findings

VERSION = 1  # of the JSON


@dataclasses.dataclass(frozen=True)
class ProblemKind:
    """Problems of one kind.

    Attributes:
        kind: its name.
        severity: `error` or `warning`.
        meaning: what is wrong.
        count: number of problems.
        examples: the first ones, each `file:line: problem`.
    """

    kind: str
    severity: str
    meaning: str
    count: int
    examples: list[str]


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Everything that a check found; its fields are those of the JSON.

    Attributes:
        version: of this format.
        sources: counts of every path.
        shared: overlap of each two splits.
        problems: kind by kind, errors first.
        notes: what to know or to do next.
        errors: number of problems that make training, or its figures, wrong.
        warnings: number of the others.
    """

    version: int
    sources: list[SourceCounts]
    shared: list[Shared]
    problems: list[ProblemKind]
    notes: list[str]
    errors: int
    warnings: int

    @classmethod
    def of(
        cls, sources: list[SourceCounts], shared: list[Shared], notes: list[str], findings: Findings
    ) -> CheckReport:
        """Put a report together."""
        kinds = [
            ProblemKind(kind, *KINDS[kind], findings.counts[kind], findings.examples.get(kind, []))
            for kind in findings.ordered()
        ]
        return cls(VERSION, sources, shared, kinds, notes, findings.count(ERROR), findings.count(WARNING))


def print_check_report(report: CheckReport, console: Console) -> None:
    """Print tables, notes, and the problems kind by kind."""
    if report.sources:
        headers = ("queries", "positives", "negatives", "pos:neg", "pos/group", "neg/group", "repeated")
        console.print(_table(("split", *headers), map(_counts, report.sources)))
    measured = [source for source in report.sources if source.lengths]
    if measured:
        headers = ("tokens 50/95/100 %", "query", "passage", "pair", "cut", "at", "groups measured")
        console.print(_table(headers, map(_lengths, measured)))
    lines = [_shared_line(shared) for shared in report.shared] + report.notes
    for kind in report.problems:
        lines.append(f"{kind.severity}: {kind.count:,} x {kind.meaning} [{kind.kind}]")
        lines += [f"  {example}" for example in kind.examples]
        left = kind.count - len(kind.examples)
        lines += [f"  … and {left:,} more; all with examples=null"] if left else []
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(check_verdict(report.errors, report.warnings), highlight=False)


def check_verdict(errors: int, warnings: int) -> str:
    """Return the last line: the number of problems of each severity."""
    counts = ((errors, ERROR), (warnings, WARNING))
    parts = [f"{number:,} {name}{'s' if number != 1 else ''}" for number, name in counts if number]
    return ", ".join(parts) or "no problems"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, header in enumerate(headers):
        table.add_column(header, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _counts(source: SourceCounts) -> list[str]:
    numbers = (source.groups, source.positives, source.negatives)
    ratio = f"1:{source.negatives / source.positives:.1f}" if source.positives else ""
    spreads = (_three(source.positives_per_group), _three(source.negatives_per_group))
    return [source.split, *(f"{number:,}" for number in numbers), ratio, *spreads, f"{source.repeated:,}"]


def _lengths(source: SourceCounts) -> list[str]:
    lengths = source.lengths
    assert lengths is not None
    three = map(_three, (lengths.query, lengths.passage, lengths.pair))
    cut = f"{100 * lengths.truncated:.1f} %"
    return [source.split, *three, cut, f"{lengths.max_tokens}", f"{lengths.groups:,}"]


def _three(values: tuple[int, int, int]) -> str:
    return "/".join(map(str, values))


def _shared_line(shared: Shared) -> str:
    counts = f"{shared.queries:,} queries and {shared.passages:,} passages"
    similar = f"; {shared.similar:,} queries are similar" if shared.similar else ""
    return f"{shared.first} and {shared.second} share {counts}{similar}"
