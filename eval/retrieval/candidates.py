"""Choose the passages to rank for each judged query: the same for every system."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ...configs.errors import UserError, collect
from ...configs.schema import DenseSettings
from ...data.groups import Collection, same_query
from ...data.judged import given_files, read_run, trec_order
from ...data.read import is_beir
from .bm25 import search_bm25

SEARCHED = ("bm25", "dense", "hybrid")
OWN = ("groups", "judged")
ALLOWED = "bm25, dense, hybrid, groups, judged, or the path of a TREC run file"


@dataclass(frozen=True)
class Candidates:
    """The passages to rank.

    Attributes:
        source: `bm25`, `dense`, `hybrid`, `groups`, `judged`, or the path of a run file.
        depth: most candidates per query, not counting added positives.
        run: query id -> document id -> score of the first stage (0 if there is none).
        first_stage: name of the first stage as a system of the report; empty if there is none.
        added: number of relevant passages that were not found and were appended.
        own: number of queries that are documents of the corpus, which were left out of their candidates.
    """

    source: str
    depth: int
    run: dict[str, dict[str, float]]
    first_stage: str
    added: int = 0
    own: int = 0

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (query id, document id), query after query."""
        return [(query, doc) for query, row in self.run.items() for doc in row]

    @property
    def missing(self) -> list[str]:
        """Ids of queries without candidates: each counts 0 and the report lists it."""
        return [query for query, row in self.run.items() if not row]


def resolve_source(source: str, depth: int, path: str, dense: DenseSettings | None = None) -> str:
    """Resolve `auto`: rows have their own candidates, a corpus is searched.

    For an mteb task it stays `auto`: only loading shows whether the task has candidates of its own.

    Args:
        source: source as the user gave it.
        depth: candidates per query.
        path: path of the judged queries.
        dense: bi-encoder; if given, checked as far as possible without loading it.

    Raises:
        UserError: the source is unknown, the depth is below 1, or there is no such bi-encoder.
    """
    problems: list[str] = []
    if source == "auto" and not path.startswith("mteb://"):
        roles = given_files(path)
        source = "bm25" if isinstance(roles, dict) or is_beir(path) else "groups"
        source = roles.get("run", source) if isinstance(roles, dict) else source
    if source not in ("auto", *SEARCHED, *OWN) and not Path(source).is_file():
        problems.append(f"candidates {source!r}: no such file; allowed are {ALLOWED}")
    if depth < 1:
        problems.append(f"depth={depth}: allowed are whole numbers from 1")
    if dense is not None and source in ("dense", "hybrid"):
        from .embeddings import locate_bi_encoder

        collect(problems, locate_bi_encoder, dense)
        if dense.batch_size < 1:
            problems.append(f"dense.batch_size={dense.batch_size}: allowed are whole numbers from 1")
    if problems:
        raise UserError(problems)
    return source


def first_stage_name(source: str) -> str:
    """Return the first stage's name in a report; empty for `auto` and for passages without scores.

    >>> first_stage_name("bm25"), first_stage_name("runs/dense.run"), first_stage_name("judged")
    ('bm25', 'dense', '')
    """
    return "" if source in ("auto", *OWN) else Path(source).stem


def find_candidates(
    collection: Collection,
    source: str = "auto",
    depth: int = 100,
    *,
    add_missing_positives: bool = False,
    dense: DenseSettings | None = None,
) -> Candidates:
    """Return the candidates of every judged query; none for a query without results.

    Args:
        collection: judged queries.
        source: `auto`, `bm25`, `dense`, `hybrid` (both fused), `groups`, `judged`, or a TREC run file.
        depth: most candidates per query, the best ones.
        add_missing_positives: append relevant passages that the first stage did not find.
        dense: bi-encoder of `dense` and `hybrid`.

    Raises:
        UserError: the source does not fit the data, or its ids are not in the collection.
    """
    source = resolve_source(source, depth, collection.path, dense or DenseSettings())
    if source == "auto":
        source = "groups" if collection.pools else "bm25"
    own = own_documents(collection)
    if source in SEARCHED:
        run = _searched(collection, source, depth + bool(own), dense or DenseSettings())
    elif source in OWN:
        run = _own(collection, source, depth)
    else:
        run = _from_run(collection, Path(source), depth + bool(own))
    if own:
        run = {query: dict(islice(row.items(), depth)) for query, row in without_own(run, own).items()}
    added = _add_positives(run, collection) if add_missing_positives else 0
    return Candidates(source, depth, run, first_stage_name(source), added, len(own))


def own_documents(collection: Collection) -> frozenset[str]:
    """Return the queries that are documents of the corpus themselves: of the same id and with their text.

    ArguAna and Quora have such queries. BEIR's evaluation leaves out every document with the id of the query
    (`ignore_identical_ids`); where queries and documents are both numbered from 1, that is another document,
    so here the document must also consist of the query's text, but for a title. A document that was judged
    relevant stays.
    """
    return frozenset(
        query
        for query, text in collection.queries.items()
        if query in collection.passages
        and collection.qrels.get(query, {}).get(query, 0) <= 0
        and _consists_of(same_query(collection.passages[query]), same_query(text))
    )


def _consists_of(document: str, query: str) -> bool:
    return 2 * len(query) >= len(document) and f" {query} " in f" {document} "


def without_own(run: Mapping[str, Mapping[str, float]], own: Container[str]) -> dict[str, dict[str, float]]:
    """Return a run in which no query ranks its own document; see `own_documents`."""
    return {
        query: {doc: score for doc, score in row.items() if doc != query or query not in own}
        for query, row in run.items()
    }


def _searched(
    collection: Collection, source: str, depth: int, settings: DenseSettings
) -> dict[str, dict[str, float]]:
    """Return the best passages of the whole corpus."""
    if collection.pools:
        raise UserError(
            f"{collection.path}: rows have no corpus to search, so candidates {source} is not possible",
            advice="Use candidates groups, or give a BEIR folder.",
        )
    passages, queries = collection.passages, collection.queries
    if source == "bm25":
        return search_bm25(passages, queries, depth=depth)
    from . import dense
    from .embeddings import load_bi_encoder
    from .fusion import LEAST_DEPTH, reciprocal_rank_fusion

    encoder = load_bi_encoder(settings)
    if source == "dense":
        return dense.search_dense(encoder, passages, queries, depth=depth)
    each = max(depth, LEAST_DEPTH)
    lexical = search_bm25(passages, queries, depth=each)
    return reciprocal_rank_fusion(
        [lexical, dense.search_dense(encoder, passages, queries, depth=each)], depth=depth
    )


def _add_positives(run: dict[str, dict[str, float]], collection: Collection) -> int:
    """Append the missing relevant passages behind the last one of their query; return their number."""
    added = 0
    there = collection.passages
    for query, judged in collection.qrels.items():
        row = run.setdefault(query, {})
        new = [doc for doc, grade in judged.items() if grade > 0 and doc not in row and doc in there]
        lowest = np.float32(min(row.values(), default=0.0))
        # The next float below: subtracting 1 from a large score would change nothing.
        row.update(dict.fromkeys(new, float(np.nextafter(lowest, np.float32(-np.inf)))))
        added += len(new)
    return added


def _own(collection: Collection, source: str, depth: int) -> dict[str, dict[str, float]]:
    """Return the rows' own passages (`groups`) or all judged ones, without scores.

    Pools are cut in their reader's order: by id for rows, by the task's own ranking for mteb. Judged passages
    are cut by id, which is independent of relevance.
    """
    if source == "groups" and not collection.pools:
        raise UserError(
            f"{collection.path}: queries over a corpus have no groups; "
            f"allowed are {', '.join(SEARCHED)}, judged or a TREC run file"
        )
    there = collection.passages
    judged = {query: sorted(row.keys() & there.keys()) for query, row in collection.qrels.items()}
    rows = collection.pools if source == "groups" else judged
    return {query: dict.fromkeys(docs[:depth], 0.0) for query, docs in rows.items()}


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
