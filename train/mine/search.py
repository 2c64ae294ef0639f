"""The queries with their relevant passages, the corpus, and the search over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from ...configs.errors import UserError
from ...configs.schema_data import MineCommand
from ...data.groups import Collection, passage_id, same_query
from ...data.judged import read_run, trec_order
from ...data.problems import Problems
from ...data.rows import read_jsonl_rows
from ...eval.processes import Share
from ...eval.retrieval import LEAST_DEPTH, BiEncoder, BM25Index, DenseIndex, reciprocal_rank_fusion
from .negatives import Retrieved, Wanted

RETRIEVERS = ("bm25", "dense", "hybrid", "random")
SPARE = 10  # copies among the best passages before the window comes out short


@dataclass(frozen=True)
class Sources:
    """Queries and passages of a mining run.

    Attributes:
        queries: queries with a relevant passage, by id.
        passages: everything that is indexed: document id to text.
        extra: ids of relevant passages outside the corpus: indexed for comparison, never found.
        left_out: number of queries without a relevant passage.
    """

    queries: dict[str, Wanted]
    passages: dict[str, str]
    extra: frozenset[str]
    left_out: int


def make_sources(collection: Collection, corpus: Mapping[str, str] | None, *, compared: bool) -> Sources:
    """Bring queries and corpus together.

    Args:
        collection: queries with judgments.
        corpus: document id to text; None searches the collection's passages.
        compared: whether scores of the positives are needed.
    """
    qrels = collection.qrels.items()
    there = collection.passages
    judged = {
        query: [doc for doc, grade in row.items() if grade > 0 and doc in there] for query, row in qrels
    }
    relevant = {doc: collection.passages[doc] for docs in judged.values() for doc in docs}
    passages, extra, names = dict(collection.passages), frozenset[str](), {doc: doc for doc in relevant}
    if corpus is not None:
        wanted_texts = set(relevant.values())
        places = {text: doc for doc, text in corpus.items() if text in wanted_texts}
        names = {doc: places.get(text, f"positive-{passage_id(text)}") for doc, text in relevant.items()}
        absent = {names[doc]: text for doc, text in relevant.items() if names[doc] not in corpus}
        extra = frozenset(absent if compared else ())
        passages = dict(corpus) | (absent if compared else {})
    known: dict[str, dict[str, None]] = defaultdict(dict)  # used as ordered sets
    for query, text in collection.queries.items():
        known[same_query(text)] |= dict.fromkeys(relevant[doc] for doc in judged[query])
    queries = {}
    for number, (query, text) in enumerate(collection.queries.items()):
        if judged[query]:
            positives = {names[doc]: relevant[doc] for doc in judged[query]}
            queries[query] = Wanted(number, text, positives, list(known[same_query(text)]))
    return Sources(queries, passages, extra, len(collection.queries) - len(queries))


def read_corpus(path: Path, problems: Problems) -> dict[str, str]:
    """Return the passages of a JSONL file (`text`, optional `_id` and `title`) or of a BEIR folder.

    The id of a passage without `_id` is a hash of its text; a title stands before the text, as in BEIR.
    """
    file = path / "corpus.jsonl" if path.is_dir() else path
    if not file.is_file():
        problems.add("file", f"corpus={path}: no such file; allowed are JSONL with `text`, or a BEIR folder")
        return {}
    passages: dict[str, str] = {}
    for where, row in read_jsonl_rows(file, problems):
        key, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        if not isinstance(text, str) or not isinstance(title, str) or not (title + text).strip():
            problems.add("row", f"{where}: `text` (and `title`, if given) must be strings that are not empty")
        elif key is not None and (not isinstance(key, str) or not key):
            problems.add("row", f"{where}: `_id` must be a string that is not empty")
        else:
            text = f"{title} {text}".strip() if title else text
            key = key or passage_id(text)
            if passages.setdefault(key, text) != text:
                problems.add("twice", f"{where}: `_id` {key!r} stands twice in this file")
    return passages


class Index(Protocol):
    """A first stage over a corpus: BM25Index or DenseIndex."""

    def search(self, queries: Mapping[str, str], *, depth: int) -> dict[str, dict[str, float]]:
        """Return the best passages of each query with their scores, best first."""

    def similarities(
        self, queries: Mapping[str, str], wanted: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, float]]:
        """Return the scores of given documents."""


class Search:
    """The retriever of a mining run.

    Args:
        settings: of the command.
        sources: queries and passages.
        encoder: for `dense` and `hybrid`.
        share: each rank encodes its part of the corpus.
        progress: called with the number of passages encoded since the last call.
    """

    def __init__(
        self,
        settings: MineCommand,
        sources: Sources,
        encoder: BiEncoder | None,
        share: Share,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.settings, self.sources = settings, sources
        self.indexes: list[Index] = []
        if settings.retriever in ("bm25", "hybrid"):
            self.indexes.append(BM25Index(sources.passages))
        if encoder is not None:
            self.indexes.append(DenseIndex(encoder, sources.passages, share=share, progress=progress))
        self._run = None if settings.retriever in RETRIEVERS else _read_run(settings.retriever, sources)
        relevant = max(len(wanted.positives) + len(wanted.known) for wanted in sources.queries.values())
        self._depth = settings.depth + relevant + SPARE
        self._ids = list(sources.passages) if settings.retriever == "random" else []

    def find(self, queries: Sequence[str]) -> dict[str, Retrieved]:
        """Return the search results of some queries, by query id."""
        texts = {query: self.sources.queries[query].query for query in queries}
        ranked = {
            query: {doc: score for doc, score in row.items() if doc not in self.sources.extra}
            for query, row in self._ranked(texts).items()
        }
        if not compares(self.settings):
            return {query: Retrieved(row) for query, row in ranked.items()}
        wanted = {
            query: list({**row, **self.sources.queries[query].positives}) for query, row in ranked.items()
        }
        compared = self.indexes[-1].similarities(texts, wanted)  # hybrid: the bi-encoder
        return {query: Retrieved(row, compared[query]) for query, row in ranked.items()}

    def _ranked(self, texts: dict[str, str]) -> dict[str, dict[str, float]]:
        if self._run is not None:
            return {query: dict(islice(self._run[query].items(), self._depth)) for query in texts}
        if not self.indexes:
            return {query: self._random(query) for query in texts}
        if len(self.indexes) == 1:
            return self.indexes[0].search(texts, depth=self._depth)
        each = max(self._depth, LEAST_DEPTH)
        runs = [index.search(texts, depth=each) for index in self.indexes]
        return reciprocal_rank_fusion(runs, depth=self._depth)

    def _random(self, query: str) -> dict[str, float]:
        """Draw passages of the corpus by the query's own seed."""
        seed = (self.settings.seed, self.sources.queries[query].number, 1)
        count = min(self._depth, len(self._ids))
        drawn = np.random.default_rng(seed).choice(len(self._ids), size=count, replace=False)
        return {self._ids[place]: 0.0 for place in drawn}


def _read_run(path: str, sources: Sources) -> dict[str, dict[str, float]]:
    """Return the documents of each query in the order of a TREC run.

    Raises:
        UserError: the run cannot be read, lacks all queries, or names documents that are not in the corpus.
    """
    given = read_run(path)
    ranked, unknown = {}, dict[str, str]()
    for query in sources.queries:
        row = given.get(query, {})
        documents, scores = list(row), list(row.values())
        ranked[query] = {documents[i]: scores[i] for i in trec_order(documents, scores).tolist()}
        unknown |= {doc: query for doc in row if doc not in sources.passages}
    if unknown:
        doc, query = next(iter(unknown.items()))
        raise UserError(
            f"retriever={path}: {len(unknown):,} of its documents are not in the corpus, as {doc!r} "
            f"of query {query!r}"
        )
    if not any(ranked.values()):
        raise UserError(f"retriever={path}: has none of the queries to mine")
    return ranked


def compares(settings: MineCommand) -> bool:
    """Return whether negatives are compared with a score."""
    return {settings.absolute_margin, settings.relative_margin, settings.max_score} != {None}
