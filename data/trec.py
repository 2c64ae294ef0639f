"""TREC qrels and run files, the BEIR qrels table, and the order in which TREC reads scores.

Accepted is what trec_eval 9.0.8 accepts: fields apart by blanks or tabs, leading blanks, blank lines, CRLF,
further columns after the tag of a run, a rank column that means nothing. Refused is also what trec_eval reads
without a word and gets wrong: a score or a relevance that is no number. A byte order mark at the start is
dropped, because it would become part of the first query id. There are no comment lines: `#1` is a query id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..configs.errors import UserError

Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]

# Relevance is kept as int32; trec_eval allocates a table of the size of the largest.
LARGEST_RELEVANCE = 2**31 - 1

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_INTEGER = re.compile(rb"[+-]?[0-9]+")
_BEIR_HEADER = re.compile(rb"query[-_]id\tcorpus[-_]id\tscore\s*", re.IGNORECASE)

Value = TypeVar("Value", int, float)


def trec_order(documents: Sequence[str], scores: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Positions of the documents, best first: float32 score descending, then id descending by UTF-8 bytes.

    Every ranking in Uprank is made here; trec_eval 9.0.8 keeps scores as C floats and breaks ties this way.

    Args:
        documents: n ids.
        scores: (n,) numbers, none of them NaN.

    >>> trec_order(["9", "10", "a"], [1.0, 1.0, 2.0]).tolist()
    [2, 0, 1]
    """
    with np.errstate(over="ignore"):  # a large double becomes infinite, and a tie, as in C
        keys = -np.asarray(scores, dtype=np.float64).astype(np.float32)
    order = np.argsort(keys, kind="stable")
    if not (keys[order[1:]] == keys[order[:-1]]).any():
        return order
    # Python compares text by code point, which is the order of its UTF-8 bytes.
    by_id = np.array(sorted(range(len(documents)), key=documents.__getitem__, reverse=True), dtype=np.intp)
    return by_id[np.argsort(keys[by_id], kind="stable")]


def read_qrels(path: str | Path) -> Qrels:
    """Judgments of a TREC qrels file (`query iteration document relevance`), query to document to relevance.

    Raises:
        UserError: the file is missing or empty, or lines are wrong; every one is listed as `path:line: …`.
    """
    return _read(Path(path), _qrels_row, "Each line of qrels is: query iteration document relevance.")


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
    return _read(Path(path), _run_row, "Each line of a run is: query Q0 document rank score tag.")


def write_run(path: str | Path, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a TREC run file, each query in rank order; read back, every float32 score is the same bits.

    Raises:
        UserError: an id or the tag is empty or has white space, or a score is not finite; all are listed.
    """
    problems = [] if _is_field(tag) else [f"tag {tag!r} is empty or has white space"]
    lines: list[str] = []
    for query, scores in run.items():
        found = _run_problems(query, scores)
        problems += found
        if not found and not problems:
            lines += _run_lines(query, scores, tag)
    if problems:
        raise UserError(
            [f"{path}: {problem}" for problem in problems],
            advice="A run file separates its fields by white space: no id may contain any.",
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def _run_problems(query: str, scores: Mapping[str, float]) -> list[str]:
    problems = [] if _is_field(query) else [f"query id {query!r} is empty or has white space"]
    for document, score in scores.items():
        if not _is_field(document):
            problems.append(f"query {query!r}: document id {document!r} is empty or has white space")
        if not np.isfinite(score):
            problems.append(f"query {query!r}: the score of document {document!r} is {score}")
    return problems


def _run_lines(query: str, scores: Mapping[str, float], tag: str) -> Iterator[str]:
    documents = list(scores)
    values = [float(score) for score in scores.values()]
    for rank, place in enumerate(trec_order(documents, values).tolist(), start=1):
        yield f"{query} Q0 {documents[place]} {rank} {_score_text(values[place])} {tag}\n"


def _score_text(score: float) -> str:
    """Nine digits, which identify every float32; all digits if the score is too large for one.

    >>> _score_text(0.1)
    '0.100000001'
    """
    with np.errstate(over="ignore"):
        single = float(np.float32(score))
    return f"{single:.9g}" if np.isfinite(single) else repr(score)


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
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if not line.isspace() and line:
                yield number, line.rstrip(b"\r\n")


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
