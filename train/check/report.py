"""What `uprank check` found, as tables for a terminal and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

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
        count: how many were found.
        examples: the first ones, each `file:line: what`.
    """

    kind: str
    severity: str
    meaning: str
    count: int
    examples: list[str]


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """All that a check found.

    Attributes:
        version: of this format.
        sources: counts of every path.
        shared: what each two splits share.
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


def make_check_report(
    sources: Sequence[SourceCounts], shared: Sequence[Shared], notes: Sequence[str], findings: Findings
) -> CheckReport:
    """Put together what was found."""
    kinds = [
        ProblemKind(kind, *KINDS[kind], findings.counts[kind], findings.examples.get(kind, []))
        for kind in findings.ordered()
    ]
    return CheckReport(
        VERSION,
        list(sources),
        list(shared),
        kinds,
        list(notes),
        findings.count(ERROR),
        findings.count(WARNING),
    )


def as_json(report: CheckReport) -> dict[str, Any]:
    """The report as JSON holds it."""
    return dataclasses.asdict(report)


def print_check_report(report: CheckReport, console: Console) -> None:
    """Tables, notes, and the problems kind by kind."""
    if report.sources:
        console.print(_counts(report.sources))
    if any(source.lengths for source in report.sources):
        console.print(_lengths(report.sources))
    lines = [_shared_line(shared) for shared in report.shared] + report.notes
    for kind in report.problems:
        if kind.count:
            lines.append(f"{kind.severity}: {kind.count:,} x {kind.meaning} [{kind.kind}]")
            lines += [f"  {example}" for example in kind.examples]
            left = kind.count - len(kind.examples)
            lines += [f"  … and {left:,} more; all with examples=null"] if left else []
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(check_verdict(report.errors, report.warnings), highlight=False)


def check_verdict(errors: int, warnings: int) -> str:
    """The last line: how many problems of each severity."""
    parts = [
        f"{number:,} {name}{'s' if number != 1 else ''}"
        for name, number in ((ERROR, errors), (WARNING, warnings))
        if number
    ]
    return ", ".join(parts) or "no problems"


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, header in enumerate(headers):
        table.add_column(header, justify="right" if place else "left")
    return table


def _counts(sources: Sequence[SourceCounts]) -> Table:
    headers = ("queries", "positives", "negatives", "pos:neg", "pos/group", "neg/group", "repeated")
    table = _table("split", *headers)
    for source in sources:
        table.add_row(
            source.split,
            f"{source.groups:,}",
            f"{source.positives:,}",
            f"{source.negatives:,}",
            f"1:{source.negatives / source.positives:.1f}" if source.positives else "",
            _three(source.positives_per_group),
            _three(source.negatives_per_group),
            f"{source.repeated:,}",
        )
    return table


def _lengths(sources: Sequence[SourceCounts]) -> Table:
    table = _table("tokens 50/95/100 %", "query", "passage", "pair", "cut", "at", "groups measured")
    for source in sources:
        if source.lengths:
            found = source.lengths
            table.add_row(
                source.split,
                *map(_three, (found.query, found.passage, found.pair)),
                f"{100 * found.truncated:.1f} %",
                f"{found.max_tokens}",
                f"{found.groups:,}",
            )
    return table


def _three(values: tuple[int, int, int]) -> str:
    return "/".join(map(str, values))


def _shared_line(shared: Shared) -> str:
    counts = f"{shared.queries:,} queries and {shared.passages:,} passages"
    similar = f"; {shared.similar:,} queries are similar" if shared.similar else ""
    return f"{shared.first} and {shared.second} share {counts}{similar}"
