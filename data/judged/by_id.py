"""Groups whose texts are named by ids: judgments, a run or triples, joined with the texts of two files.

Memory does not grow with any of the files: lines are brought together by query on disk (`merge.py`), and
texts are looked up in memory-mapped stores (`corpus.py`).

Judgments, runs and triples of ids, brought together by query; see `by_id.py` for their texts.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ..groups import Group, same_text
from ..problems import Problems
from ..rows import compression
from ..store import keep_groups, merged
from ..trec_order import trec_order
from .texts import MOST_PROBLEMS, CorpusStore, in_order, open_texts, text_format
from .trec_lines import BEIR_HEADER, beir_row, is_qrels, iterate_rows, qrels_row, run_row, triple_row

log = logging.getLogger(__name__)

VERSION = 2  # of what is made of the files


@dataclass(frozen=True)
class Files:
    """Where judgments or triples lie, and the texts that their ids name.

    Attributes:
        name: of all of it, in messages.
        queries: texts of the queries by id.
        corpus: texts of the passages by id.
        qrels: judgments, TREC or BEIR; or `triples` are given.
        run: a first stage's ranking, from which negatives are taken.
        triples: `query<TAB>positive<TAB>negative`, each an id.
        depth: how many documents of a query are looked at, from the top of the run; or how many negatives
            of a query are taken, from its first triples. None: all.
    """

    name: str
    queries: Path
    corpus: Path
    qrels: Path | None = None
    run: Path | None = None
    triples: Path | None = None
    depth: int | None = None

    @property
    def used(self) -> list[Path]:
        """All of them, first the one whose lines are the groups' `where`."""
        return [path for path in (self.qrels, self.triples, self.run, self.queries, self.corpus) if path]


def join_groups(
    files: Files, problems: Problems, *, need_negatives: bool = True, skipped: Problems | None = None
) -> Sequence[Group]:
    """One group a query, from the cache if it was made before; see `keep_groups`.

    Judgments above 0 are positives with their grades. Negatives are the documents of the run in rank order
    that are not judged relevant, and then what is judged 0. A negative with the text of a positive (under
    another id) is a problem if it was judged, and is left out if it comes from a run or a triple. `where`
    of a group is file and line of the query's first judgment or triple.
    """
    absent = [f"{path}: no such file" for path in files.used if not path.is_file()]
    problems.extend(absent, "file")
    if absent:
        return []
    kinds = "-".join(f"{text_format(path)}{compression(path)}" for path in files.used)
    roles = f"{'q' if files.qrels else 't'}{'r' if files.run else ''}"
    use = "train" if need_negatives else "judged"
    form = f"ids-{roles}-{kinds}-{files.depth}-{use}-v{VERSION}"
    make = partial(_groups, files, need_negatives=need_negatives)
    return keep_groups(form, files.used, make, problems, skipped=skipped)


def _groups(files: Files, problems: Problems, *, need_negatives: bool) -> Iterator[Group]:
    """The groups; their problems come when all are made, by file and line."""
    found = {path: Problems() for path in files.used}
    other = Problems()
    try:
        join = _Join(files, found, need_negatives)
        for named in _named(files, found):
            group = join.group(named)
            if group is not None:
                yield group
            if sum(map(len, found.values())) > MOST_PROBLEMS:
                other.add("file", f"{files.used[0]}: too many problems; the rest was not read")
                break
        if not any(found.values()):
            other.extend(join.nothing(), "file")
        join.log()
    finally:
        for path in files.used:
            problems += in_order(found[path], path)
        problems += other


def _named(files: Files, found: Mapping[Path, Problems]) -> Iterator[Named]:
    if files.triples:
        return read_triples(files.triples, found[files.triples], depth=files.depth)
    assert files.qrels is not None  # one of the two is given
    return join_judged(files.qrels, files.run, found, depth=files.depth)


class _Join:
    """Puts texts in the place of ids, and counts what is left out."""

    def __init__(self, files: Files, found: dict[Path, Problems], need_negatives: bool) -> None:
        self._files, self._found, self._need_negatives = files, found, need_negatives
        self._queries = open_texts(files.queries, found[files.queries])
        self._passages = open_texts(files.corpus, found[files.corpus])
        self._counts = Counter[str]()

    def group(self, named: Named) -> Group | None:
        """The group of one query; None if it has no positive, or lacks the negatives that are needed."""
        self._counts["queries"] += 1
        query = self._texts(self._queries, self._files.queries, "query", {named.query: named.first}).get(
            named.query
        )
        texts = self._texts(self._passages, self._files.corpus, "document", named.places)
        grades: dict[str, int] = {}  # by text: one that has two ids is one passage
        for document, grade in named.positives.items():
            if document in texts:
                grades.setdefault(texts[document], grade)
        negatives = self._negatives(named, texts, {same_text(text) for text in grades})
        self._counts["without a relevant passage"] += not grades
        if query is None or not grades:
            return None
        self._counts["without a negative"] += not negatives
        if self._need_negatives and not negatives:
            return None
        self._counts["groups"] += 1
        path, line = named.first
        own = tuple(grades.values()) if any(grade != 1 for grade in grades.values()) else ()
        return Group(query, tuple(grades), tuple(negatives), f"{path}:{line}", own)

    def _negatives(self, named: Named, texts: Mapping[str, str], positives: set[str]) -> list[str]:
        chosen: dict[str, None] = {}
        for document in named.negatives:
            text = texts.get(document)
            if text is None or same_text(text) not in positives:
                chosen |= {text: None} if text is not None else {}
            elif document in named.judged:
                path, line = named.places[document]
                problem = f"{path}:{line}: a positive is also a negative: document {document!r}"
                self._found[path].add("contradiction", problem)
            else:
                self._counts["negatives"] += 1
        return list(chosen)

    def _texts(
        self, known: CorpusStore, file: Path, kind: str, places: Mapping[str, tuple[Path, int]]
    ) -> dict[str, str]:
        texts = dict(zip(places, known.look_up(list(places)), strict=True))
        if len(known):  # else the file has problems of its own
            for key in [key for key, text in texts.items() if text is None]:
                path, line = places[key]
                self._found[path].add("row", f"{path}:{line}: {kind} id {key!r} is not in {file.name}")
        return {key: text for key, text in texts.items() if text is not None}

    def nothing(self) -> list[str]:
        """A problem if no group came out of files in which nothing is wrong."""
        name, counts = self._files.name, self._counts
        if counts["groups"]:
            return []
        if counts["without a relevant passage"] == counts["queries"]:
            problem = f"{name}: no query has a relevant passage (a score above 0)"
        elif self._files.run:
            problem = f"{self._files.run}: has no negatives for any judged query of {self._files.qrels}"
        else:
            problem = (
                f"{name}: no query has judged negatives; find hard ones first: "
                f"uprank mine data.train={name} output=train.jsonl"
            )
        return [problem]

    def log(self) -> None:
        """Say what was left out without being wrong."""
        name, counts = self._files.name, self._counts
        for kind in ("without a relevant passage", "without a negative"):
            if counts[kind] and (kind != "without a negative" or self._need_negatives):
                log.warning(
                    "%s: %s of %s queries are left out: %s", name, counts[kind], counts["queries"], kind
                )
        if counts["negatives"]:
            log.info("%s: %s negatives with the text of a positive are left out", name, counts["negatives"])


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


def join_judged(
    qrels: Path, run: Path | None, found: Mapping[Path, Problems], *, depth: int | None
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


def read_triples(path: Path, problems: Problems, *, depth: int | None) -> Iterator[Named]:
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
            problems.add("contradiction", f"{path}:{places[1]}: {problem}, see line {places[0]}")
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
    query: str, lines: list[bytes], files: Mapping[bytes, Path], found: Mapping[Path, Problems]
) -> tuple[dict[str, tuple[int, float]], dict[str, tuple[int, float]]]:
    """Line and value of each document, judged and ranked; one that stands twice is a problem."""
    tables: dict[bytes, dict[str, tuple[int, float]]] = {_JUDGED: {}, _RANKED: {}}
    for payload in lines:
        role = payload[:1]
        line, value = _PLACE.unpack_from(payload, 1)
        document = payload[1 + _PLACE.size :].decode()
        if document in tables[role]:
            problem = f"{files[role]}:{line}: document {document!r} appears again in query {query!r}"
            found[files[role]].add("twice", problem)
        tables[role].setdefault(document, (line, value))
    return tables[_JUDGED], tables[_RANKED]


def _packed(rows: Iterator[tuple[int, str, str, Any]], role: bytes, path: Path, problems: Problems) -> Packed:
    lines = (
        (query.encode(), role + _PLACE.pack(line, value) + document.encode())
        for line, query, document, value in rows
    )
    return _nothing_empty(lines, path, problems)


def _nothing_empty(lines: Packed, path: Path, problems: Problems) -> Packed:
    """The lines, and a problem if there is neither a line nor one yet."""
    empty = True
    for line in lines:
        empty = False
        yield line
    if empty and not problems:
        problems.add("file", f"{path}:1: the file is empty")


def _size(path: Path) -> int:
    """About how many bytes its lines have."""
    return path.stat().st_size * (_UNPACKED if compression(path) else 1)
