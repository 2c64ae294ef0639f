"""Rows of CSV and TSV files: the first line names the columns; an empty cell is null.

CSV is read strictly by RFC 4180: an opened quote must be closed before the next comma. In TSV, quotes are
mostly plain characters: a line with as many cells as there are columns is one row, in which only a cell that
is quoted as a whole is unquoted; any other line may be quoted as in CSV. A wrong row costs its first line:
the next line is read as a row again, whatever quotes are open.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ..problems import NOT_UTF8, Problems
from .columns import is_role
from .fields import NOTHING
from .lines import read_lines

AS_UTF8 = (
    "save it as CSV UTF-8 (in a spreadsheet: Save as), or convert it with `iconv -f ENCODING -t UTF-8`: "
    "Chinese tables are often GB18030, Western ones CP1252"
)
LONGEST = 1 << 24  # characters of a cell; bounds a quote that is never closed
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_HEADER_CELL = re.compile(r"[^\W\d]\w*([ \-./:]{1,2}\w+){0,3}")
SEPARATORS = (",", ";", "\t", "|")


def is_triples(path: Path) -> bool:
    """Return True for a file named like MS MARCO's triples, which have no header.

    >>> is_triples(Path("triples.train.small.tsv.gz")), is_triples(Path("train.tsv"))
    (True, False)
    """
    return re.match(r"triples\b.*\.tsv\b", path.name, re.IGNORECASE) is not None


class _Lines:
    """Iterator over decoded lines; lines may be given back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = read_lines(path)
        self._again: deque[str] = deque()
        self.number = 0  # the line returned last

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.popleft()
        else:
            raw = next(self._lines)
            if self.number == 0:
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise UserError(f"{self._path}: is UTF-16; {AS_UTF8}")
                raw = raw.removeprefix(b"\xef\xbb\xbf")
                if not _is_utf8(raw):
                    raise UserError(f"{self._path}: its first line is not UTF-8; {AS_UTF8}")
            line = raw.decode("utf-8", "surrogateescape")
        self.number += 1
        return line

    def give_back(self, lines: list[str]) -> None:
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)


def read_csv_rows(path: Path, name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file, `(name:line, column to text)`; a wrong row is a problem.

    Raises:
        UserError: the file cannot be read: its first line names no columns, or it is damaged.
    """
    lines = _Lines(path)
    separator = _separator(lines, "\t" if re.search(r"\.tsv\b", path.name, re.IGNORECASE) else ",")
    csv.field_size_limit(LONGEST)
    columns: list[str] = []
    for where, fields in _records(lines, separator, name, problems, columns):
        if not columns:
            columns += _columns(where, fields, path)
            if is_triples(path) and columns != fields:
                yield where, dict(zip(columns, fields, strict=True))
            continue
        if wrong := _damage(fields):
            problems.add("encoding", f"{where}: {wrong}")
        else:
            cells = (None if cell in NOTHING else cell or None for cell in fields)
            yield where, dict(zip(columns, cells, strict=True))


def _separator(lines: _Lines, usual: str) -> str:
    """Return the separator that the first line shows: spreadsheets of many countries write semicolons."""
    first = next(lines, "")
    stated = re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE)
    if stated:
        return stated[1]
    lines.give_back([first] if first else [])
    for separator in (usual, *SEPARATORS):
        cells = [cell.strip('" ') for cell in first.rstrip("\r\n").split(separator)]
        if len(cells) > 1 and _is_header(cells):
            return separator
    return usual


def _is_header(cells: list[str]) -> bool:
    """Return True if all cells are names; the first one may be empty, as pandas writes its index."""
    return any(cells) and all(_HEADER_CELL.fullmatch(cell) for cell in cells[not cells[0] :])


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _records(
    lines: _Lines, separator: str, name: str, problems: Problems, columns: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield place and cells of each row that is not blank."""
    for line in lines:
        first = lines.number
        if not line.strip("\r\n"):
            continue
        plain = line.rstrip("\r\n").split("\t") if separator == "\t" else []
        if plain and len(plain) == (len(columns) or len(plain)):
            yield f"{name}:{first}", [_unquoted(cell) for cell in plain]
            continue
        used = [line]
        try:
            record = next(csv.reader(_following(line, lines, used), delimiter=separator, strict=True))
            count = len(columns) or len(record)
            wrong = "" if len(record) == count else f"{len(record)} cells, the first line has {count}"
        except csv.Error as error:
            record, wrong = [], f"a quote stands where none may, or is not closed ({error})"
        if wrong:
            lines.give_back(used[1:])  # the first line is wrong; its quote may have taken good rows
            problems.add("broken row", f"{name}:{first}: {wrong}")
        else:
            yield f"{name}:{first}", record


def _following(line: str, lines: _Lines, used: list[str]) -> Iterator[str]:
    yield line.replace("\x00", "\udc00")  # Python 3.10 refuses it
    for more in lines:
        used.append(more)
        yield more.replace("\x00", "\udc00")


def _columns(where: str, fields: list[str], path: Path) -> list[str]:
    """Return the columns that the first line names, or those of MS MARCO's triples."""
    named = [field.strip() for field in fields]
    header = all(map(is_role, named)) if is_triples(path) else _is_header(named)
    if header:
        twice = sorted({field for field in named if named.count(field) > 1})
        if twice:
            raise UserError(f"{where}: columns stand twice: {', '.join(twice)}")
        return named
    if is_triples(path) and len(fields) == 3:
        return ["query", "positive", "negative"]
    digits = len(fields) == 3 and all(field.strip().isdigit() for field in fields)
    advice = (
        "; ids of queries and passages: give data.train={triples: FILE, queries: FILE, corpus: FILE}"
        if digits
        else f"; it has to name the columns, as in query,positive,negative: {', '.join(named)[:80]}"
    )
    raise UserError(f"{where}: the first line is no header{advice}")


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell


def _damage(fields: list[str]) -> str:
    for cell in fields:
        if "\x00" in cell or "\udc00" in cell:
            return "has a NUL byte"
        if not cell.isascii() and any("\udc80" <= letter <= "\udcff" for letter in cell):
            return NOT_UTF8
    return ""
