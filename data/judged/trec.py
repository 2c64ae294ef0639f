"""TREC qrels, TREC runs and BEIR qrels as tables in memory; `trec_lines.py` reads their lines."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ...configs.errors import UserError
from ..groups import Collection
from ..problems import ERROR, Problems
from ..rows import compression
from ..trec_order import trec_order
from .trec_fast import read_columns
from .trec_lines import BEIR_HEADER, LARGEST_RELEVANCE, beir_row, iterate_rows, qrels_row, run_row

log = logging.getLogger(__name__)

Qrels = dict[str, dict[str, int]]
TrecRun = dict[str, dict[str, float]]

_MOST_LISTED = 1000

Value = TypeVar("Value", int, float)


def read_qrels(path: str | Path) -> Qrels:
    """Read TREC qrels (`query iteration document relevance`): query to document to relevance.

    Raises:
        UserError: the file is missing or empty, or lines are wrong; every one is listed as `path:line: …`.
    """
    advice = "Each line of qrels is: query iteration document relevance."
    return _read(Path(path), qrels_row, advice, quick=(4, 3, LARGEST_RELEVANCE, int))


def read_beir_qrels(path: str | Path) -> Qrels:
    """Read BEIR qrels (`query-id<TAB>corpus-id<TAB>score`); ids may contain blanks.

    A first line that is not the header is data.

    Raises:
        UserError: as `read_qrels`.
    """
    advice = "Each line is: query-id, corpus-id and score, separated by one tab."
    return _read(Path(path), beir_row, advice, header=BEIR_HEADER)


def read_run(path: str | Path) -> TrecRun:
    """Read a TREC run (`query Q0 document rank score tag`): query to document to score.

    Raises:
        UserError: as `read_qrels`; a score that is NaN or infinite is a wrong line.
    """
    advice = "Each line of a run is: query Q0 document rank score tag."
    return _read(Path(path), run_row, advice, quick=(6, 4, sys.float_info.max, float))


def trec_collection(path: str | Path) -> Collection:
    """Return the judged queries of a qrels file: without texts, so runs can be measured but not scored.

    Every query has an empty text; there are no passages and no pools.

    Raises:
        UserError: as `read_qrels`.
    """
    qrels = read_qrels(path)
    return Collection(str(path), dict.fromkeys(qrels, ""), {}, qrels, {})


def run_file_names(systems: Iterable[str]) -> dict[str, str]:
    """Return the name of each system's run file in `runs/`, without `.run`; no two systems share one.

    >>> run_file_names(["a/b", "a_b", "bm25"])
    {'a/b': 'a_b', 'a_b': 'a_b_', 'bm25': 'bm25'}
    """
    names: dict[str, str] = {}
    for system in systems:
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in system)
        while name in names.values():
            name += "_"
        names[system] = name
    return names


def write_run(path: str | Path, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a TREC run file, each query in rank order; float32 scores come back bit for bit.

    Raises:
        UserError: an id or the tag is empty or has white space, or a score is not finite; all are listed.
    """
    problems = [] if _is_field(tag) else [f"tag {tag!r} is empty or has white space"]
    known: set[str] = set()  # valid ids: the same ones come again in many queries
    for query, scores in run.items():
        problems += _run_problems(query, scores, known)
    if problems:
        raise UserError(
            [f"{path}: {problem}" for problem in problems],
            advice="A run file separates its fields by white space, so no id may contain any.",
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
    """Format with nine digits, which identify every float32; with all digits beyond its range.

    >>> _score_texts(np.array([0.1, 1e300]))
    ['0.100000001', '1e+300']
    """
    with np.errstate(over="ignore"):
        singles = scores.astype(np.float32).astype(np.float64)
    return [
        repr(score) if math.isinf(single) else f"{single:.9g}"
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
    quick: tuple[int, int, float, type] | None = None,
) -> dict[str, dict[str, Value]]:
    table: dict[str, dict[str, Value]]
    if quick and not compression(path) and (table := read_columns(path, *quick)):
        return table
    table = {}
    problems = Problems()
    for number, query, document, value in iterate_rows(path, parse, problems, header=header):
        documents = table.setdefault(query, {})
        if document in documents:
            same = parse is not run_row and documents[document] == value
            text = f"{path}:{number}: document {document!r} appears again in query {query!r}"
            problems.add("judged twice" if same else "twice", text)
        documents.setdefault(document, value)
    if repeated := problems.of("judged twice"):
        log.warning("%s: %d judgments stand twice and count once, as in %s", path, len(repeated), repeated[0])
    problems = problems.of(ERROR)
    if not table and not problems:
        problems.add("file", f"{path}:1: the file is empty")
    if problems:
        more = len(problems) - _MOST_LISTED
        shown: list[str] = problems[:_MOST_LISTED] + [f"{path}: … and {more} more"] * (more > 0)
        raise UserError(shown, advice=advice)
    return table
