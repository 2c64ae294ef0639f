"""Lines of TREC qrels and run files and of the BEIR qrels table, one at a time.

Accepted is what trec_eval 9.0.8 accepts: fields apart by blanks or tabs, leading blanks, blank lines, CRLF,
further columns after the tag of a run, a rank column that means nothing. Refused is also what trec_eval reads
without a word and gets wrong: a score or a relevance that is no number. A byte order mark at the start is
dropped, because it would become part of the first query id. There are no comment lines: `#1` is a query id.
Files whose names end in `.gz` or `.zst` are decompressed as they are read.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...configs.errors import UserError
from ..problems import Problems
from ..rows import compression, read_lines

# Relevance is kept as int32; trec_eval allocates a table of the size of the largest.
LARGEST_RELEVANCE = 2**31 - 1
BEIR_HEADER = re.compile(rb"query[-_]id\tcorpus[-_]id\tscore\s*", re.IGNORECASE)

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GZIP = b"\x1f\x8b"
_SNIFFED = 20
_INTEGER = re.compile(rb"[+-]?[0-9]+")

Value = TypeVar("Value", int, float, str)


def iterate_rows(
    path: Path,
    parse: Callable[[bytes], tuple[str, str, Value]],
    problems: Problems,
    *,
    header: re.Pattern[bytes] | None = None,
    limit: int = sys.maxsize,
) -> Iterator[tuple[int, str, str, Value]]:
    """Line number, query, document and value of every line that `parse` reads; note every other one.

    Args:
        path: the file.
        parse: `qrels_row`, `beir_row`, `run_row` or `triple_row`.
        problems: receives `path:line: …` of each wrong line.
        header: a first line of this form is no row.
        limit: how long `problems` may become.

    Raises:
        UserError: the file is missing, no UTF-8 text, or a damaged archive; or more than `limit` is wrong.
    """
    for number, line in _text_lines(path):
        if number == 1 and header and header.fullmatch(line):
            continue
        try:
            query, document, value = parse(line)
        except ValueError as error:
            problems.add("row", f"{path}:{number}: {error}")
            if len(problems) > limit:
                raise UserError(f"{path}: … and more; the rest was not read") from None
        else:
            yield number, query, document, value


def is_qrels(path: str | Path) -> bool:
    """Whether a file looks like TREC qrels: one of its first lines has four columns.

    A BEIR table (a header, or exactly two tabs a line in a `.tsv`) and JSONL rows do not; neither does what
    is no file. What is wrong in other lines is for `read_qrels` to say.
    """
    path = Path(path)
    suffix = path.with_suffix("").suffix if compression(path) else path.suffix
    if not path.is_file() or suffix in (".jsonl", ".json", ".csv", ".parquet", ".arrow"):
        return False
    for number, line in islice(_text_lines(path), _SNIFFED):
        if line.lstrip().startswith(b"{") or (number == 1 and BEIR_HEADER.fullmatch(line)):
            return False
        fields = line.split()
        if len(fields) == 4:
            return not (suffix == ".tsv" and line.count(b"\t") == 2)
    return False


def _text_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank, without its line end."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    for number, line in enumerate(read_lines(path), start=1):
        if number == 1:
            _require_text(path, line)
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.isspace() and line:
            yield number, line.rstrip(b"\r\n")


def _require_text(path: Path, line: bytes) -> None:
    """Refuse what would else be as many problems as it has lines."""
    if line.startswith(_UTF_16):
        raise UserError(f"{path}:1: the file is UTF-16", advice="Save it as UTF-8.")
    if line.startswith(_GZIP):
        raise UserError(f"{path}:1: the file is compressed", advice="Unpack it: gzip -d FILE.")


def qrels_row(line: bytes) -> tuple[str, str, int]:
    """`query iteration document relevance`: query, document, relevance."""
    # Bytes, because text would also be split at no-break and other Unicode spaces, which ids may contain.
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"{len(fields)} columns, qrels have 4")
    return _text(fields[0]), _text(fields[2]), _relevance(fields[3])


def beir_row(line: bytes) -> tuple[str, str, int]:
    """`query-id<TAB>corpus-id<TAB>score`: query, document, relevance."""
    fields = line.split(b"\t")
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} columns apart by tabs, BEIR qrels have 3")
    if not fields[0].strip() or not fields[1].strip():
        raise ValueError("an id is empty")
    return _text(fields[0]), _text(fields[1]), _relevance(fields[2].strip())


def run_row(line: bytes) -> tuple[str, str, float]:
    """`query Q0 document rank score tag`: query, document, score."""
    if b"\r" in line:  # else a whole file with old Mac line ends would pass as one line with more columns
        raise ValueError("a carriage return within the line; lines must end with LF or CRLF")
    fields = line.split(maxsplit=5)
    if len(fields) < 6:
        raise ValueError(f"{len(fields)} columns, a run has 6")
    return _text(fields[0]), _text(fields[2]), _score(fields[4])


def triple_row(line: bytes) -> tuple[str, str, str]:
    """`query-id<TAB>positive-id<TAB>negative-id`: the three ids."""
    fields = line.split(b"\t")
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} columns apart by tabs, triples of ids have 3")
    query, positive, negative = (_text(field.strip()) for field in fields)
    if not (query and positive and negative):
        raise ValueError("an id is empty")
    return query, positive, negative


def _text(field: bytes) -> str:
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"id {field!r} is not UTF-8") from None


def _relevance(field: bytes) -> int:
    if not _INTEGER.fullmatch(field):
        raise ValueError(f"relevance {_shown(field)} is not a whole number")
    # Bounded before int(), which refuses a number of thousands of digits in its own words.
    if len(field) > 20 or abs(int(field)) > LARGEST_RELEVANCE:
        raise ValueError(f"relevance {_shown(field)} is beyond {LARGEST_RELEVANCE}")
    return int(field)


def _score(field: bytes) -> float:
    try:
        score = float(field)
    except ValueError:
        raise ValueError(f"score {_shown(field)} is not a number") from None
    if b"_" in field:  # Python's own notation, 1_000
        raise ValueError(f"score {_shown(field)} is not a number")
    if not np.isfinite(score):
        raise ValueError(f"score {_shown(field)} is not finite")
    return score


def _shown(field: bytes) -> str:
    return repr(field.decode("utf-8", "replace")[:40])
