"""TREC qrels and run files, and the BEIR qrels table.

Accepted is what trec_eval 9.0.8 accepts: fields apart by blanks or tabs, leading blanks, blank lines, CRLF,
further columns after the tag of a run, a rank column that means nothing. Refused is also what trec_eval reads
without a word and gets wrong: a score or a relevance that is no number. A byte order mark at the start is
dropped, because it would become part of the first query id. There are no comment lines: `#1` is a query id.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..configs.errors import UserError
from .columns import read_columns
from .groups import Collection
from .order import trec_order

Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]

# Relevance is kept as int32; trec_eval allocates a table of the size of the largest.
LARGEST_RELEVANCE = 2**31 - 1

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GZIP = b"\x1f\x8b"
_MOST_LISTED = 1000
_SNIFFED = 20
_INTEGER = re.compile(rb"[+-]?[0-9]+")
_BEIR_HEADER = re.compile(rb"query[-_]id\tcorpus[-_]id\tscore\s*", re.IGNORECASE)

Value = TypeVar("Value", int, float)


def read_qrels(path: str | Path) -> Qrels:
    """Judgments of a TREC qrels file (`query iteration document relevance`), query to document to relevance.

    Raises:
        UserError: the file is missing or empty, or lines are wrong; every one is listed as `path:line: …`.
    """
    advice = "Each line of qrels is: query iteration document relevance."
    return read_columns(Path(path), 4, 3, LARGEST_RELEVANCE, int) or _read(Path(path), _qrels_row, advice)


def read_beir_qrels(path: str | Path) -> Qrels:
    """Judgments of a BEIR qrels table (`query-id<TAB>corpus-id<TAB>score`); ids may contain blanks.

    A first line that is not the header is read as data, not dropped.

    Raises:
        UserError: as `read_qrels`.
    """
    advice = "Each line is: query-id, corpus-id and score, apart by one tab."
    return _read(Path(path), _beir_row, advice, header=_BEIR_HEADER)


def read_run(path: str | Path) -> Run:
    """Scores of a TREC run file (`query Q0 document rank score tag`), query to document to score.

    Raises:
        UserError: as `read_qrels`; a score that is NaN or infinite is a wrong line.
    """
    advice = "Each line of a run is: query Q0 document rank score tag."
    return read_columns(Path(path), 6, 4, sys.float_info.max, float) or _read(Path(path), _run_row, advice)


def is_qrels(path: str | Path) -> bool:
    """Whether a file looks like TREC qrels: one of its first lines has four columns.

    A BEIR table (a header, or exactly two tabs a line in a `.tsv`) and JSONL rows do not; neither does what
    is no file. What is wrong in other lines is for `read_qrels` to say.
    """
    path = Path(path)
    if not path.is_file() or path.suffix in (".jsonl", ".json", ".csv", ".parquet", ".arrow"):
        return False
    for number, line in islice(_lines(path), _SNIFFED):
        if line.lstrip().startswith(b"{") or (number == 1 and _BEIR_HEADER.fullmatch(line)):
            return False
        fields = line.split()
        if len(fields) == 4:
            return not (path.suffix == ".tsv" and line.count(b"\t") == 2)
    return False


def trec_collection(path: str | Path) -> Collection:
    """The judged queries of a qrels file alone: no texts, so runs can be measured but nothing can be scored.

    Every query has an empty text; there are no passages and no pools.

    Raises:
        UserError: as `read_qrels`.
    """
    qrels = read_qrels(path)
    return Collection(str(path), dict.fromkeys(qrels, ""), {}, qrels, {})


def write_run(path: str | Path, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a TREC run file, each query in rank order; read back, every float32 score is the same bits.

    Raises:
        UserError: an id or the tag is empty or has white space, or a score is not finite; all are listed.
    """
    problems = [] if _is_field(tag) else [f"tag {tag!r} is empty or has white space"]
    known: set[str] = set()  # ids that are fields: the same ones come again in many queries
    for query, scores in run.items():
        problems += _run_problems(query, scores, known)
    if problems:
        raise UserError(
            [f"{path}: {problem}" for problem in problems],
            advice="A run file separates its fields by white space: no id may contain any.",
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for query, scores in run.items():
            stream.writelines(_run_lines(query, scores, tag))


def _run_problems(query: str, scores: Mapping[str, float], known: set[str]) -> list[str]:
    problems = [] if _is_field(query) else [f"query id {query!r} is empty or has white space"]
    new = scores.keys() - known
    if all(map(_is_field, new)) and np.isfinite(_values(scores)).all():
        known |= new
        return problems
    for document, score in scores.items():
        if not _is_field(document):
            problems.append(f"query {query!r}: document id {document!r} is empty or has white space")
        if not np.isfinite(score):
            problems.append(f"query {query!r}: the score of document {document!r} is {score}")
    return problems


def _values(scores: Mapping[str, float]) -> npt.NDArray[np.float64]:
    return np.fromiter(scores.values(), np.float64, len(scores))


def _run_lines(query: str, scores: Mapping[str, float], tag: str) -> Iterator[str]:
    documents, values = list(scores), _values(scores)
    order = trec_order(documents, values)
    places, texts = order.tolist(), _score_texts(values[order])
    for rank, (place, text) in enumerate(zip(places, texts, strict=True), start=1):
        yield f"{query} Q0 {documents[place]} {rank} {text} {tag}\n"


def _score_texts(scores: npt.NDArray[np.float64]) -> list[str]:
    """Nine digits each, which identify every float32; all digits if the score is too large for one.

    >>> _score_texts(np.array([0.1, 1e300]))
    ['0.100000001', '1e+300']
    """
    with np.errstate(over="ignore"):
        singles = scores.astype(np.float32).astype(np.float64)
    if np.isfinite(singles).all():
        return [f"{single:.9g}" for single in singles.tolist()]
    return [
        f"{single:.9g}" if np.isfinite(single) else repr(score)
        for single, score in zip(singles.tolist(), scores.tolist(), strict=True)
    ]


def _is_field(text: str) -> bool:
    return text.split() == [text]


def _read(
    path: Path,
    parse: Callable[[bytes], tuple[str, str, Value]],
    advice: str,
    *,
    header: re.Pattern[bytes] | None = None,
) -> dict[str, dict[str, Value]]:
    table: dict[str, dict[str, Value]] = {}
    problems: list[str] = []
    for number, line in _lines(path):
        if number == 1 and header and header.fullmatch(line):
            continue
        try:
            query, document, value = parse(line)
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        documents = table.setdefault(query, {})
        if document in documents:
            problems.append(f"{path}:{number}: document {document!r} appears again in query {query!r}")
        documents.setdefault(document, value)
    if not table and not problems:
        problems.append(f"{path}:1: the file is empty")
    if len(problems) > _MOST_LISTED:
        problems[_MOST_LISTED:] = [f"{path}: … and {len(problems) - _MOST_LISTED} more"]
    if problems:
        raise UserError(problems, advice=advice)
    return table


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank, without its line end."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
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


def _qrels_row(line: bytes) -> tuple[str, str, int]:
    # Bytes, because text would also be split at no-break and other Unicode spaces, which ids may contain.
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"{len(fields)} columns, qrels have 4")
    return _text(fields[0]), _text(fields[2]), _relevance(fields[3])


def _beir_row(line: bytes) -> tuple[str, str, int]:
    fields = line.split(b"\t")
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} columns apart by tabs, BEIR qrels have 3")
    if not fields[0].strip() or not fields[1].strip():
        raise ValueError("an id is empty")
    return _text(fields[0]), _text(fields[1]), _relevance(fields[2].strip())


def _run_row(line: bytes) -> tuple[str, str, float]:
    if b"\r" in line:  # else a whole file with old Mac line ends would pass as one line with more columns
        raise ValueError("a carriage return within the line; lines must end with LF or CRLF")
    fields = line.split(maxsplit=5)
    if len(fields) < 6:
        raise ValueError(f"{len(fields)} columns, a run has 6")
    return _text(fields[0]), _text(fields[2]), _score(fields[4])


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
