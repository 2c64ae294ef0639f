"""One table and its writers: Markdown, LaTeX (booktabs) and the terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import rich.table
from rich import box
from rich.text import Text

WIDEST_NAME = 28
_MARKDOWN = re.compile(r"([\\`*_{}<>|~$]|\](?=[(\[:]))")  # intervals are brackets and remain legible
_LATEX = {letter: f"\\{letter}" for letter in "{}&%$#_"} | {
    "\\": r"\textbackslash{}",
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
        header: names of the columns; the first column is text, the others are figures.
        rows: as many cells each; on a terminal a cell may have several lines.
        caption: whole sentences below the table; the terminal leaves them out.
        label: name by which LaTeX refers to the table.
        styles: colour on a terminal of all lines of a figure but the first, the value.
        ruled: separate the rows by lines on a terminal.
    """

    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    label: str = ""
    styles: list[list[str]] = field(default_factory=list)
    ruled: bool = False

    def markdown(self) -> str:
        """Return the table with its caption below."""
        alignment = "| " + " | ".join(["---"] + ["---:"] * (len(self.header) - 1)) + " |"
        header, *rows = (
            "| " + " | ".join(map(escape_markdown, cells)) + " |" for cells in (self.header, *self.rows)
        )
        return "\n".join([header, alignment, *rows, "", escape_markdown(self.caption)])

    def latex(self) -> str:
        """Return a `table` environment."""
        header, *rows = (" & ".join(map(_latex_cell, cells)) + r" \\" for cells in (self.header, *self.rows))
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(self.caption)}}}"]
        lines += [rf"\label{{tab:{self.label}}}", rf"\begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}"]
        lines += [r"\toprule", header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        return "\n".join(lines) + "\n"

    def rich(self) -> rich.table.Table:
        """Return the table for a terminal: names fold, figures are never broken."""
        drawn = rich.table.Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        drawn.add_column(Text(self.header[0]), overflow="fold", max_width=WIDEST_NAME)
        for name in self.header[1:]:
            drawn.add_column(Text(name), no_wrap=True)
        for cells, styles in zip(self.rows, self.styles, strict=True):
            values = (cell.partition("\n") for cell in cells[1:])
            figures = [
                Text(value).append(end + rest, style)
                for (value, end, rest), style in zip(values, styles, strict=True)
            ]
            drawn.add_row(Text(cells[0], "bold"), *figures, end_section=self.ruled)
        return drawn


def markdown(title: str, tables: list[Table], sentences: list[str] | None = None) -> str:
    """Write tables under a heading, then sentences as a list."""
    parts = [f"# {escape_markdown(title)}", *(table.markdown() for table in tables)]
    if sentences:
        parts.append("\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences))
    return "\n\n".join(parts) + "\n"


def latex(tables: list[Table]) -> str:
    """Write `table` environments, which need the package booktabs."""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(table.latex() for table in tables)


def escape_markdown(text: str) -> str:
    r"""Escape text so that Markdown shows it as it is.

    >>> print(escape_markdown("a_b|c"))
    a\_b\|c
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    r"""Escape text so that LaTeX shows it as it is.

    >>> print(escape_latex("50 % of a_b, p < 0.1, -0.5"))
    50 \% of a\_b, p $<$ 0.1, $-$0.5
    """
    escaped = "".join(_LATEX.get(letter, letter) for letter in _MINUS.sub("−", text))
    return " ".join(escaped.split())


def _latex_cell(text: str) -> str:
    # A row that begins with `[` would be read as an argument of the `\\` before it.
    cell = escape_latex(text)
    return f"{{{cell}}}" if cell.startswith("[") else cell
