"""Lines of TREC qrels, TREC runs, BEIR qrels and triples, one at a time.

Accepts what trec_eval 9.0.8 accepts: fields separated by blanks or tabs, leading blanks, blank lines, CRLF,
further columns after the tag of a run, a rank column without meaning. Refuses what trec_eval silently gets
wrong: a score or a relevance that is no number. Drops a byte order mark, which would become part of the first
query id. There are no comment lines: `#1` is a query id. `.gz` and `.zst` files are decompressed.
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
    """Yield line number, query, document and value of every line that `parse` reads; note every other one.

    Args:
        path: the file.
        parse: `qrels_row`, `beir_row`, `run_row` or `triple_row`.
        problems: receives `path:line: …` of each wrong line.
        header: skip a first line of this form.
        limit: most entries of `problems`.

    Raises:
        UserError: the file is missing, not UTF-8, or a damaged archive; or more than `limit` lines are wrong.
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
    """Return whether a file looks like TREC qrels: one of its first lines has four columns.

    A BEIR table (a header, or exactly two tabs a line in a `.tsv`), JSONL rows and folders do not.
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
    """Yield number and bytes of every line that is not blank, without its line end."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    for number, line in enumerate(read_lines(path), start=1):
        if number == 1:
            # Else there would be as many problems as lines.
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise UserError(f"{path}:1: the file is UTF-16", advice="Save it as UTF-8.")
            if line.startswith(_GZIP):
                raise UserError(f"{path}:1: the file is compressed", advice="Unpack it: gzip -d FILE.")
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.isspace() and line:
            yield number, line.rstrip(b"\r\n")


def qrels_row(line: bytes) -> tuple[str, str, int]:
    """Parse `query iteration document relevance`; return query, document, relevance."""
    # Bytes: text would also be split at Unicode spaces, which ids may contain.
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"{len(fields)} columns, qrels have 4")
    return _text(fields[0]), _text(fields[2]), _relevance(fields[3])


def beir_row(line: bytes) -> tuple[str, str, int]:
    """Parse `query-id<TAB>corpus-id<TAB>score`; return query, document, relevance."""
    query, document, score = _three(line, "BEIR qrels")
    if not query.strip() or not document.strip():
        raise ValueError("an id is empty")
    return _text(query), _text(document), _relevance(score.strip())


def run_row(line: bytes) -> tuple[str, str, float]:
    """Parse `query Q0 document rank score tag`; return query, document, score."""
    if b"\r" in line:  # else a file with old Mac line ends would pass as one line with more columns
        raise ValueError("a carriage return within the line; lines must end with LF or CRLF")
    fields = line.split(maxsplit=5)
    if len(fields) < 6:
        raise ValueError(f"{len(fields)} columns, a run has 6")
    if len(fields[5].split()) > 1 and not _INTEGER.fullmatch(fields[3]):
        raise ValueError(f"more than 6 columns, and the rank is {_shown(fields[3])}: an id with a blank?")
    return _text(fields[0]), _text(fields[2]), _score(fields[4])


def triple_row(line: bytes) -> tuple[str, str, str]:
    """Parse `query-id<TAB>positive-id<TAB>negative-id`."""
    query, positive, negative = (_text(field.strip()) for field in _three(line, "triples of ids"))
    if not (query and positive and negative):
        raise ValueError("an id is empty")
    return query, positive, negative


def _three(line: bytes, kind: str) -> list[bytes]:
    fields = line.split(b"\t")
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} columns separated by tabs, {kind} have 3")
    return fields


def _text(field: bytes) -> str:
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"id {field!r} is not UTF-8") from None


def _relevance(field: bytes) -> int:
    if not _INTEGER.fullmatch(field):
        raise ValueError(f"relevance {_shown(field)} is not a whole number")
    # Checked before int(), which has its own message for thousands of digits.
    if len(field) > 20 or abs(int(field)) > LARGEST_RELEVANCE:
        raise ValueError(f"relevance {_shown(field)} is beyond {LARGEST_RELEVANCE}")
    return int(field)


def _score(field: bytes) -> float:
    try:
        score = float(field.replace(b"_", b"?"))  # 1_000 is a number only for Python
    except ValueError:
        raise ValueError(f"score {_shown(field)} is not a number") from None
    if not np.isfinite(score):
        raise ValueError(f"score {_shown(field)} is not finite")
    return score


def _shown(field: bytes) -> str:
    return repr(field.decode("utf-8", "replace")[:40])
