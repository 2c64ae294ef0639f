"""Judgments, runs and triples of ids, brought together by query; see `by_id.py` for their texts."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from .corpus import MOST_PROBLEMS
from .findings import Problem
from .lines import compression
from .merge import merged
from .order import trec_order
from .trec_rows import BEIR_HEADER, beir_row, is_qrels, iterate_rows, qrels_row, run_row, triple_row

_UNPACKED = 5  # times that a compressed file of ids is larger, about
_JUDGED, _RANKED = b"J", b"R"
_PLACE = struct.Struct("<qd")  # line; relevance or score, both exact as a double
_LINE = struct.Struct("<q")

Place = tuple[Path, int]  # file and line
Packed = Iterator[tuple[bytes, bytes]]  # query id, and what a line says about it


@dataclass(frozen=True)
class Named:
    """A group of ids.

    Attributes:
        query: id of the query.
        first: where the query is first named.
        positives: relevant documents with their grades, above 0.
        negatives: the others, in order, none of them a positive.
        judged: those of the negatives that somebody judged.
        places: where each document is named.
    """

    query: str
    first: Place
    positives: dict[str, int]
    negatives: list[str]
    judged: frozenset[str]
    places: dict[str, Place]


def read_judged(
    qrels: Path, run: Path | None, found: Mapping[Path, list[str]], *, depth: int | None
) -> Iterator[Named]:
    """Each judged query; its negatives are the best of the run but the relevant, then what is judged 0.

    Args:
        qrels: TREC judgments, or a BEIR table.
        run: a TREC run.
        found: a list for the problems of each file.
        depth: how many documents from the top of the run.

    Raises:
        UserError: see `iterate_rows`.
    """
    parse, header = (qrels_row, None) if is_qrels(qrels) else (beir_row, BEIR_HEADER)
    limit, size = MOST_PROBLEMS, _size(qrels)
    rows = iterate_rows(qrels, parse, found[qrels], header=header, limit=limit)
    packed = _packed(rows, _JUDGED, qrels, found[qrels])
    if run is not None:
        rows_of_run = iterate_rows(run, run_row, found[run], limit=limit)
        packed = chain(packed, _packed(rows_of_run, _RANKED, run, found[run]))
        size += _size(run)
    for query, lines in merged(packed, size):
        judged, ranked = _by_document(query.decode(), lines, {_JUDGED: qrels, _RANKED: run or qrels}, found)
        if judged:
            yield _judged_group(query.decode(), judged, ranked, qrels, run, depth)


def read_triples(path: Path, problems: list[str], *, depth: int | None) -> Iterator[Named]:
    """Each query of `query<TAB>positive<TAB>negative`; its passages in the order of their first triples.

    Args:
        path: the triples, in any order.
        problems: receives what is wrong.
        depth: how many negatives of a query.

    Raises:
        UserError: see `iterate_rows`.
    """
    rows = iterate_rows(path, triple_row, problems, limit=MOST_PROBLEMS)
    packed = _nothing_empty(
        (
            (query.encode(), _LINE.pack(line) + f"{positive}\t{negative}".encode())
            for line, query, positive, negative in rows
        ),
        path,
        problems,
    )
    for query, lines in merged(packed, _size(path)):
        positives, negatives = dict[str, int](), dict[str, int]()  # to their first lines
        for payload in lines:
            (line,) = _LINE.unpack_from(payload)
            positive, _, negative = payload[_LINE.size :].decode().partition("\t")
            positives.setdefault(positive, line)
            negatives.setdefault(negative, line)
        both = [document for document in positives if document in negatives]
        for document in both:
            places = sorted((positives[document], negatives.pop(document)))
            problem = f"document {document!r} is a positive and a negative of query {query.decode()!r}"
            problems.append(Problem(f"{path}:{places[1]}: {problem}, see line {places[0]}", "contradiction"))
        chosen = list(negatives)[:depth]
        first = _LINE.unpack_from(lines[0])[0]
        places_of = {document: (path, positives[document]) for document in positives}
        places_of |= {document: (path, negatives[document]) for document in chosen}
        yield Named(
            query.decode(), (path, first), dict.fromkeys(positives, 1), chosen, frozenset(), places_of
        )


def _judged_group(
    query: str,
    judged: Mapping[str, tuple[int, float]],
    ranked: Mapping[str, tuple[int, float]],
    qrels: Path,
    run: Path | None,
    depth: int | None,
) -> Named:
    positives = {document: int(value) for document, (_, value) in judged.items() if value > 0}
    ids = list(ranked)
    order = trec_order(ids, [ranked[document][1] for document in ids])[:depth]
    top = [document for document in (ids[place] for place in order) if document not in positives]
    refused = [document for document, (_, value) in judged.items() if value == 0]
    negatives = list(dict.fromkeys([*top, *refused]))
    places = {document: (run or qrels, ranked[document][0]) for document in top}
    places |= {document: (qrels, judged[document][0]) for document in (*positives, *refused)}
    first = min(line for line, _ in judged.values())
    return Named(query, (qrels, first), positives, negatives, frozenset(refused), places)


def _by_document(
    query: str, lines: list[bytes], files: Mapping[bytes, Path], found: Mapping[Path, list[str]]
) -> tuple[dict[str, tuple[int, float]], dict[str, tuple[int, float]]]:
    """Line and value of each document, judged and ranked; one that stands twice is a problem."""
    tables: dict[bytes, dict[str, tuple[int, float]]] = {_JUDGED: {}, _RANKED: {}}
    for payload in lines:
        role = payload[:1]
        line, value = _PLACE.unpack_from(payload, 1)
        document = payload[1 + _PLACE.size :].decode()
        if document in tables[role]:
            problem = f"{files[role]}:{line}: document {document!r} appears again in query {query!r}"
            found[files[role]].append(Problem(problem, "twice"))
        tables[role].setdefault(document, (line, value))
    return tables[_JUDGED], tables[_RANKED]


def _packed(
    rows: Iterator[tuple[int, str, str, Any]], role: bytes, path: Path, problems: list[str]
) -> Packed:
    lines = (
        (query.encode(), role + _PLACE.pack(line, value) + document.encode())
        for line, query, document, value in rows
    )
    return _nothing_empty(lines, path, problems)


def _nothing_empty(lines: Packed, path: Path, problems: list[str]) -> Packed:
    """The lines, and a problem if there is neither a line nor one yet."""
    empty = True
    for line in lines:
        empty = False
        yield line
    if empty and not problems:
        problems.append(Problem(f"{path}:1: the file is empty", "file"))


def _size(path: Path) -> int:
    """About how many bytes its lines have."""
    return path.stat().st_size * (_UNPACKED if compression(path) else 1)
