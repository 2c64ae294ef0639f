"""Which passages are ranked for each judged query: the same for every system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..configs.errors import UserError
from ..data.groups import Collection
from ..data.read import is_beir
from ..data.trec import read_run, trec_order
from .bm25 import search

ALLOWED = "bm25, groups, judged, or the path of a TREC run file"


@dataclass(frozen=True)
class Candidates:
    """The passages to rank.

    Attributes:
        source: `bm25`, `groups`, `judged`, or the path of a run file.
        depth: candidates a query at most.
        run: query id -> document id -> score of the first stage (0 where there is none).
        first_stage: name of the first stage as a system of the report; empty where there is none.
    """

    source: str
    depth: int
    run: dict[str, dict[str, float]]
    first_stage: str

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (query id, document id), query after query."""
        return [(query, doc) for query, row in self.run.items() for doc in row]


def resolve_source(source: str, depth: int, path: str) -> str:
    """What `auto` means for the data: rows have their own candidates, a corpus is searched.

    Raises:
        UserError: the source is not known, or the depth is below 1.
    """
    problems = []
    if source == "auto":
        source = "bm25" if is_beir(path) else "groups"
    if source not in ("bm25", "groups", "judged") and not Path(source).is_file():
        problems.append(f"candidates {source!r}: no such file; allowed are {ALLOWED}")
    if depth < 1:
        problems.append(f"depth={depth}: allowed are whole numbers from 1")
    if problems:
        raise UserError(problems)
    return source


def first_stage_name(source: str) -> str:
    """What the first stage is called in a report; empty where passages come without an order.

    >>> first_stage_name("bm25"), first_stage_name("runs/dense.run"), first_stage_name("judged")
    ('bm25', 'dense', '')
    """
    return "" if source in ("groups", "judged") else Path(source).stem


def find_candidates(collection: Collection, source: str = "auto", depth: int = 100) -> Candidates:
    """The candidates of every judged query.

    Raises:
        UserError: the source does not fit the data, or its ids are not in the collection.
    """
    source = resolve_source(source, depth, collection.path)
    if source == "bm25":
        if collection.pools:
            raise UserError(
                f"{collection.path}: rows have no corpus to search, so candidates bm25 is not possible",
                advice="Use candidates groups, or give a BEIR folder.",
            )
        run = search(collection.passages, collection.queries, depth=depth)
    elif source in ("groups", "judged"):
        run = _own(collection, source, depth)
    else:
        run = _from_run(collection, Path(source), depth)
    return Candidates(source, depth, run, first_stage_name(source))


def _own(collection: Collection, source: str, depth: int) -> dict[str, dict[str, float]]:
    """Rows' own passages (`groups`) or all judged ones; cut by id order, which knows no relevance."""
    if source == "groups" and not collection.pools:
        raise UserError(
            f"{collection.path}: a BEIR folder has no groups; allowed are bm25, judged or a TREC run file"
        )
    rows = collection.pools if source == "groups" else {q: list(row) for q, row in collection.qrels.items()}
    return {query: dict.fromkeys(sorted(docs)[:depth], 0.0) for query, docs in rows.items()}


def _from_run(collection: Collection, path: Path, depth: int) -> dict[str, dict[str, float]]:
    given = read_run(path)
    problems = sorted(
        f"{path}: document {doc!r} (query {query!r}) is not in the corpus of {collection.path}"
        for query, row in given.items()
        if query in collection.queries
        for doc in row
        if doc not in collection.passages
    )
    if not given.keys() & collection.queries.keys():
        problems.append(f"{path}: none of its {len(given)} queries is judged in {collection.path}")
    if problems:
        raise UserError(problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else []))
    cut = {}
    for query in collection.queries:
        row = given.get(query, {})
        docs = list(row)
        best = trec_order(docs, list(row.values()))[:depth].tolist()
        cut[query] = {docs[i]: row[docs[i]] for i in best}
    return cut
