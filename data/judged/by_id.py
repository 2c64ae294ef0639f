"""Groups whose texts are named by ids: judgments, a run or triples, joined with the texts of two files.

Memory does not grow with any of the files: lines are brought together by query on disk (`group_by.py`), and
texts are looked up in memory-mapped stores (`texts.py`).
"""

from __future__ import annotations

import logging
import marshal
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ..groups import Group, same_text
from ..problems import ERROR, Problems
from ..rows import compression
from ..store import keep_groups, merged
from ..trec_order import trec_order
from .texts import MOST_PROBLEMS, CorpusStore, in_order, open_texts, text_format
from .trec_lines import BEIR_HEADER, beir_row, is_qrels, iterate_rows, qrels_row, run_row, triple_row

log = logging.getLogger(__name__)

VERSION = 3  # of the groups made of the files
_UNPACKED = 5  # a compressed file of ids grows about this many times

Place = tuple[Path, int]  # file and line
FileProblems = Mapping[Path, Problems]
Row = tuple[int, str, str, Any]  # line, query, document, value
Table = dict[str, tuple[int, float]]  # document -> line, value


@dataclass(frozen=True)
class Files:
    """Judgments or triples, and the texts that their ids name.

    Attributes:
        name: of all of it, in messages.
        queries: texts of the queries by id.
        corpus: texts of the passages by id.
        qrels: judgments, TREC or BEIR; or `triples` are given.
        run: a first stage's ranking, from which negatives are taken.
        triples: `query<TAB>positive<TAB>negative`, each an id.
        depth: documents of a query to look at, from the top of the run; or negatives of a query to take,
            from its first triples. None: all.
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
        """All files; the first is the one whose lines are the groups' `where`."""
        return [path for path in (self.qrels, self.triples, self.run, self.queries, self.corpus) if path]


@dataclass(frozen=True)
class Named:
    """A group of ids.

    Attributes:
        query: id of the query.
        first: place where the query is first named.
        positives: relevant documents with their grades, above 0.
        negatives: the others, in order, none of them a positive.
        judged: negatives that were judged.
        places: place where each document is named.
    """

    query: str
    first: Place
    positives: dict[str, int]
    negatives: list[str]
    judged: frozenset[str]
    places: dict[str, Place]


def join_groups(
    files: Files, problems: Problems, *, need_negatives: bool = True, skipped: Problems | None = None
) -> Sequence[Group]:
    """Return one group a query, from the cache if it was made before; see `keep_groups`.

    Judgments above 0 are positives with their grades. Negatives are the run's documents in rank order
    that are not judged relevant, then those judged 0. A negative with the text of a positive (under
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
    """Yield the groups; their problems follow at the end, by file and line."""
    by_file, other = {path: Problems() for path in files.used}, Problems()
    try:
        join = _Join(files, by_file, need_negatives)
        for named in _read_triples(files, by_file) if files.triples else _join_judged(files, by_file):
            group = join.group(named)
            if group is not None:
                yield group
            if sum(map(len, by_file.values())) > MOST_PROBLEMS:
                other.add("file", f"{files.used[0]}: too many problems; the rest was not read")
                break
        if not any(found.of(ERROR) for found in by_file.values()):
            other.extend(join.nothing(), "file")
        join.log()
    finally:
        for path in files.used:
            problems += in_order(by_file[path], path)
        problems += other


class _Join:
    """Replace ids by texts, and count what is left out."""

    def __init__(self, files: Files, problems: FileProblems, need_negatives: bool) -> None:
        self._files, self._problems, self._need_negatives = files, problems, need_negatives
        self._queries = open_texts(files.queries, problems[files.queries])
        self._passages = open_texts(files.corpus, problems[files.corpus])
        self._counts = Counter[str]()

    def group(self, named: Named) -> Group | None:
        """Return the group of a query; None if it has no positive, or lacks the negatives it needs."""
        self._counts["queries"] += 1
        query = self._texts(self._queries, "query", {named.query: named.first}).get(named.query)
        texts = self._texts(self._passages, "document", named.places)
        grades: dict[str, int] = {}  # by text: one text with two ids is one passage
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
        graded = tuple(grades.values()) if set(grades.values()) != {1} else ()
        return Group(query, tuple(grades), tuple(negatives), f"{path}:{line}", graded)

    def _negatives(self, named: Named, texts: Mapping[str, str], positives: set[str]) -> list[str]:
        chosen: dict[str, None] = {}
        for document in named.negatives:
            text = texts.get(document)
            if text is None:
                continue
            if same_text(text) not in positives:
                chosen[text] = None
            elif document in named.judged:
                path, line = named.places[document]
                problem = f"{path}:{line}: a positive is also a negative: document {document!r}"
                self._problems[path].add("contradiction", problem)
            else:
                self._counts["negatives"] += 1
        return list(chosen)

    def _texts(self, store: CorpusStore, kind: str, places: Mapping[str, Place]) -> dict[str, str]:
        texts = dict(zip(places, store.look_up(list(places)), strict=True))
        file = self._files.queries if kind == "query" else self._files.corpus
        if len(store):  # else the file has problems of its own
            for key in [key for key, text in texts.items() if text is None]:
                path, line = places[key]
                severe = "row" if self._need_negatives else "unknown id"  # harmless when judging
                self._problems[path].add(severe, f"{path}:{line}: {kind} id {key!r} is not in {file.name}")
        return {key: text for key, text in texts.items() if text is not None}

    def nothing(self) -> list[str]:
        """Return a problem if files without defects gave no group."""
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
        """Log what was left out without being wrong."""
        name, counts = self._files.name, self._counts
        for kind in ("without a relevant passage", "without a negative"):
            if counts[kind] and (kind != "without a negative" or self._need_negatives):
                log.warning(
                    "%s: %s of %s queries are left out: %s", name, counts[kind], counts["queries"], kind
                )
        if counts["negatives"]:
            log.info("%s: %s negatives with the text of a positive are left out", name, counts["negatives"])


def _join_judged(files: Files, problems: FileProblems) -> Iterator[Named]:
    """Yield each judged query; its negatives are the best of the run, then those judged 0.

    Raises:
        UserError: see `iterate_rows`.
    """
    qrels, run = files.qrels, files.run
    assert qrels is not None  # or there would be triples
    parse, header = (qrels_row, None) if is_qrels(qrels) else (beir_row, BEIR_HEADER)
    rows = iterate_rows(qrels, parse, problems[qrels], header=header, limit=MOST_PROBLEMS)
    packed, size = _packed(rows, 0, qrels, problems[qrels]), _size(qrels)
    if run is not None:
        ranked_rows = iterate_rows(run, run_row, problems[run], limit=MOST_PROBLEMS)
        packed = chain(packed, _packed(ranked_rows, 1, run, problems[run]))
        size += _size(run)
    paths = (qrels, run or qrels)
    for key, lines in merged(packed, size):
        query = key.decode()
        judged, ranked = tables = Table(), Table()
        for role, line, document, value in map(marshal.loads, lines):
            if document in tables[role]:
                problem = f"{paths[role]}:{line}: document {document!r} appears again in query {query!r}"
                same = not role and tables[role][document][1] == value
                problems[paths[role]].add("judged twice" if same else "twice", problem)
            tables[role].setdefault(document, (line, value))
        if judged:
            yield _judged_group(query, judged, ranked, paths, files.depth)


def _judged_group(
    query: str,
    judged: Table,
    ranked: Table,
    paths: tuple[Path, Path],
    depth: int | None,
) -> Named:
    positives = {document: int(value) for document, (_, value) in judged.items() if value > 0}
    ids = list(ranked)
    order = trec_order(ids, [ranked[document][1] for document in ids])[:depth]
    top = [document for document in (ids[place] for place in order) if document not in positives]
    refused = [document for document, (_, value) in judged.items() if value == 0]
    places = {document: (paths[1], ranked[document][0]) for document in top}
    places |= {document: (paths[0], judged[document][0]) for document in (*positives, *refused)}
    first = min(line for line, _ in judged.values())
    negatives = list(dict.fromkeys([*top, *refused]))
    return Named(query, (paths[0], first), positives, negatives, frozenset(refused), places)


def _read_triples(files: Files, problems: FileProblems) -> Iterator[Named]:
    """Yield each query of the triples, in any order; its passages in the order of their first triples.

    Raises:
        UserError: see `iterate_rows`.
    """
    path = files.triples
    assert path is not None
    rows = iterate_rows(path, triple_row, problems[path], limit=MOST_PROBLEMS)
    for key, lines in merged(_packed(rows, 0, path, problems[path]), _size(path)):
        query = key.decode()
        positives, negatives = dict[str, int](), dict[str, int]()  # their first lines
        for _, line, positive, negative in map(marshal.loads, lines):
            positives.setdefault(positive, line)
            negatives.setdefault(negative, line)
        first = min(positives.values())
        for document in [document for document in positives if document in negatives]:
            before, after = sorted((positives[document], negatives.pop(document)))
            problem = f"document {document!r} is a positive and a negative of query {query!r}"
            problems[path].add("contradiction", f"{path}:{after}: {problem}, see line {before}")
        chosen = list(negatives)[: files.depth]
        places = {document: (path, line) for document, line in positives.items()}
        places |= {document: (path, negatives[document]) for document in chosen}
        yield Named(query, (path, first), dict.fromkeys(positives, 1), chosen, frozenset(), places)


def _packed(rows: Iterable[Row], role: int, path: Path, problems: Problems) -> Iterator[tuple[bytes, bytes]]:
    """Yield the query id and the rest of each row; note a problem if there is neither a row nor one yet."""
    empty = True
    for line, query, document, value in rows:
        empty = False
        yield query.encode(), marshal.dumps((role, line, document, value))
    if empty and not problems:
        problems.add("file", f"{path}:1: the file is empty")


def _size(path: Path) -> int:
    """Return roughly how many bytes the file's lines have."""
    return path.stat().st_size * (_UNPACKED if compression(path) else 1)
