"""The report as tables for a paper or a readme: Markdown and LaTeX (booktabs).

The summary of several collections as tables: one a measure, a column for each collection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..audits import added_text
from ..results import Comparison, Estimate, Report
from ..statistics import ALPHA, outcome
from ..words import count_of, format_difference, format_estimate, format_p
from .sentences import notes
from .summary import CollectionResult, Summary

_MARKDOWN = re.compile(r"([\\`*_{}<>|~$]|\](?=[(\[:]))")  # intervals are brackets and remain legible
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "−": r"$-$",
    "Δ": r"$\Delta$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
}
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")


@dataclass(frozen=True)
class Table:
    """A table before it is written in a format.

    Attributes:
        caption: what is shown; whole sentences.
        label: what LaTeX refers to it by.
        header: one name a column; the first column is text, the others figures.
        rows: as many cells each.
    """

    caption: str
    label: str
    header: list[str]
    rows: list[list[str]]


def report_tables(report: Report) -> list[Table]:
    """The results, and the differences where there are any."""
    return [results(report), *([difference_table(report)] if report.comparisons else [])]


def results(report: Report) -> Table:
    """One row a system, one column a measure, marked where the difference is significant after Holm."""
    rows = []
    for system in report.systems:
        cells = [system.name]
        for measure in report.measures:
            found = system.results.get(measure)
            mark = significance(report.comparison(system.name, measure))
            cells.append(f"{format_estimate(found)}{mark}" if found else "–")
        rows.append(cells)
    caption = f"Mean over {count_of(report.queries, 'query')} with 95 % bootstrap intervals."
    if report.comparisons:
        caption += (
            f" † better, ‡ worse than {report.baseline} (paired randomisation test, "
            f"p < {ALPHA} after Holm's correction, and an interval of the difference without 0)."
        )
    return Table(f"{caption} {basis(report)}", "results", ["System", *report.measures], rows)


def difference_table(report: Report) -> Table:
    """One row a comparison: difference, tests, queries won and lost, and what could have been found."""
    rows = [
        [
            c.system,
            c.measure,
            format_difference(c),
            bare_p(c.p),
            "–" if c.p_holm is None else bare_p(c.p_holm),
            f"{c.wins} / {c.ties} / {c.losses}",
            "–" if c.detectable is None else f"{c.detectable:.3f}",
        ]
        for c in report.comparisons
    ]
    header = ["System", "Measure", "Difference", "p", "p (Holm)", "Won / tied / lost", "Detectable"]
    caption = (
        f"Paired differences to {report.baseline} with 95 % bootstrap intervals. Detectable is the smallest "
        "true difference that so many queries find with a probability of 0.8."
    )
    return Table(f"{caption} {basis(report)}", "differences", header, rows)


def basis(report: Report) -> str:
    """What the figures rest on, said under every table."""
    text = f"Candidates: {report.candidates}, at most {report.depth} a query." if report.candidates else ""
    if report.added_positives:
        text += f" Note: {added_text(report.added_positives)}."
    return text.strip() or "Each run ranks its own documents."


def significance(comparison: Comparison | None) -> str:
    """`†` better, `‡` worse, and nothing where it is undecided."""
    return "" if comparison is None else {"better": "†", "worse": "‡", "undecided": ""}[outcome(comparison)]


def bare_p(p: float) -> str:
    """A p-value for a column that is called p."""
    return format_p(p).removeprefix("p = ").removeprefix("p ")


def markdown(title: str, tables: list[Table], sentences: list[str] | None = None) -> str:
    """Tables under a heading, each with its caption below, then sentences as a list."""
    parts = [f"# {escape_markdown(title)}"]
    for table in tables:
        lines = [_row(table.header), _row(["---"] + ["---:"] * (len(table.header) - 1), raw=True)]
        lines += [_row(row) for row in table.rows]
        parts += ["\n".join(lines), escape_markdown(table.caption)]
    if sentences:
        parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences))
    return "\n\n".join(parts) + "\n"


def latex(tables: list[Table]) -> str:
    """`table` environments; they need the package booktabs."""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(_latex_table(table) for table in tables)


def audit_sentences(report: Report) -> list[str]:
    """The audits as sentences, loud ones marked."""
    return [f"Note: {note.text}" if note.loud else note.text for note in notes(report)]


def escape_markdown(text: str) -> str:
    r"""Text that Markdown shows as it is.

    >>> print(escape_markdown("a_b|c"))
    a\_b\|c
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    r"""Text that LaTeX shows as it is.

    >>> print(escape_latex("50 % of a_b, p < 0.1, -0.5"))
    50 \% of a\_b, p $<$ 0.1, $-$0.5
    """
    escaped = "".join(_LATEX.get(letter, letter) for letter in _MINUS.sub("−", text))
    return " ".join(escaped.split())


def _row(cells: list[str], *, raw: bool = False) -> str:
    return "| " + " | ".join(cells if raw else map(escape_markdown, cells)) + " |"


def _latex_table(table: Table) -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(table.caption)}}}"]
    lines += [rf"\label{{tab:{table.label}}}", rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}"]
    lines += [r"\toprule", _latex_row(table.header), r"\midrule", *map(_latex_row, table.rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _latex_row(cells: list[str]) -> str:
    # A row that begins with `[` would be read as an argument of the `\\` before it.
    return (
        " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in map(escape_latex, cells))
        + r" \\"
    )


MACRO = "macro average"


def summary_tables(summary: Summary) -> list[Table]:
    """One table a measure: rows are systems, columns the headline, the guards and the macro average."""
    return [summary_table(summary, measure) for measure in summary.measures]


def summary_table(summary: Summary, measure: str) -> Table:
    """The results on one measure, with the differences to the baseline and their significance."""
    header = ["System", *(column_name(result) for result in summary.collections), MACRO]
    rows = []
    for system in summary.systems:
        cells = [
            cell(result.results.get(system, {}).get(measure), result.comparison(system, measure))
            for result in summary.collections
        ]
        macro = cell(summary.macro.get(system, {}).get(measure), summary.comparison(system, measure))
        rows.append([system, *cells, macro])
    to = summary.baseline or "the baseline of each collection"
    caption = (
        f"{measure}: mean and difference to {to} with its 95 % bootstrap interval. † better, ‡ worse "
        f"(p < {ALPHA} after Holm's correction, and an interval without 0). The first collection is the "
        "headline, the others are guards; the macro average gives each the same weight."
    )
    return Table(f"{caption}{_added(summary)}", f"summary-{measure.lower()}", header, rows)


def column_name(result: CollectionResult) -> str:
    """The collection, said to be a guard where it is one."""
    return result.name if result.role == "headline" else f"{result.name} (guard)"


def cell(estimate: Estimate | None, comparison: Comparison | None) -> str:
    """Mean, then the difference with its interval and mark."""
    if estimate is None:
        return "–"
    if comparison is None:
        return f"{estimate.mean:.3f}"
    return f"{estimate.mean:.3f} {format_difference(comparison)}{significance(comparison)}"


def loud_sentences(reports: Mapping[str, Report]) -> list[str]:
    """What limits the results, collection by collection."""
    return [f"{name}: {note.text}" for name, report in reports.items() for note in notes(report) if note.loud]


def _added(summary: Summary) -> str:
    return "".join(
        f" Note, {result.name}: {added_text(result.added_positives)}."
        for result in summary.collections
        if result.added_positives
    )
