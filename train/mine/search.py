"""What is mined from: the queries with their relevant passages, the corpus, and the search over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...configs.schema_data import MineCommand
from ...data.groups import Collection, passage_id, same_query
from ...data.problems import Problems
from ...data.rows import read_jsonl_rows
from ...eval.processes import Share
from ...eval.retrieval import LEAST_DEPTH, BiEncoder, BM25Index, DenseIndex, reciprocal_rank_fusion
from .negatives import Retrieved, Wanted

RETRIEVERS = ("bm25", "dense", "hybrid", "random")
SPARE = 10  # copies that may stand among the best before the window is a little short


@dataclass(frozen=True)
class Sources:
    """Everything that is read before the search.

    Attributes:
        queries: query id to what it needs; only queries with a relevant passage.
        passages: document id to text of everything that is indexed.
        extra: ids of relevant passages that are not in the corpus: indexed to be compared with, never found.
        left_out: queries without a relevant passage.
    """

    queries: dict[str, Wanted]
    passages: dict[str, str]
    extra: frozenset[str]
    left_out: int


def make_sources(collection: Collection, corpus: Mapping[str, str] | None, *, compared: bool) -> Sources:
    """Bring queries and corpus together.

    Args:
        collection: queries with judgments.
        corpus: document id to text; the collection's own passages when None.
        compared: whether scores of the positives are needed.
    """
    own = {query: [doc for doc, grade in row.items() if grade > 0] for query, row in collection.qrels.items()}
    relevant = {doc: collection.passages[doc] for docs in own.values() for doc in docs}
    passages, extra, names = dict(collection.passages), frozenset[str](), {doc: doc for doc in relevant}
    if corpus is not None:
        wanted_texts = set(relevant.values())
        places = {text: doc for doc, text in corpus.items() if text in wanted_texts}
        names = {doc: places.get(text, f"positive-{passage_id(text)}") for doc, text in relevant.items()}
        absent = {names[doc]: text for doc, text in relevant.items() if names[doc] not in corpus}
        extra = frozenset(absent if compared else ())
        passages = dict(corpus) | (absent if compared else {})
    known: dict[str, dict[str, None]] = defaultdict(dict)
    for query, text in collection.queries.items():
        known[same_query(text)] |= dict.fromkeys(relevant[doc] for doc in own[query])
    queries = {
        query: Wanted(
            number, text, {names[doc]: relevant[doc] for doc in own[query]}, list(known[same_query(text)])
        )
        for number, (query, text) in enumerate(collection.queries.items())
        if own[query]
    }
    return Sources(queries, passages, extra, len(collection.queries) - len(queries))


def read_corpus(path: Path, problems: Problems) -> dict[str, str]:
    """Passages of a JSONL file (`text`, and `_id` and `title` if there are) or of a BEIR folder.

    A passage without `_id` is called by a hash of its text; a title stands before the text, as in BEIR.
    """
    file = path / "corpus.jsonl" if path.is_dir() else path
    if not file.is_file():
        problems.add("file", f"corpus={path}: no such file; allowed are JSONL with `text`, or a BEIR folder")
        return {}
    passages: dict[str, str] = {}
    for where, row in read_jsonl_rows(file, problems):
        key, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        if not isinstance(text, str) or not isinstance(title, str) or not (title + text).strip():
            problems.add(
                "row", f"{where}: `text` (and `title`, if given) have to be strings that are not empty"
            )
        elif key is not None and (not isinstance(key, str) or not key):
            problems.add("row", f"{where}: `_id` has to be a string that is not empty")
        else:
            text = f"{title} {text}".strip() if title else text
            key = key or passage_id(text)
            if passages.setdefault(key, text) != text:
                problems.add("twice", f"{where}: `_id` {key!r} stands twice in this file")
    return passages


class Index(Protocol):
    """A first stage over a corpus: BM25Index or DenseIndex."""

    def search(self, queries: Mapping[str, str], *, depth: int) -> dict[str, dict[str, float]]:
        """The best passages of each query with their scores, best first."""

    def similarities(
        self, queries: Mapping[str, str], wanted: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, float]]:
        """Scores of named documents."""


class Search:
    """The retriever of a mining run.

    Args:
        settings: of the command.
        sources: what is searched.
        encoder: for `dense` and `hybrid`.
        share: with several processes each encodes its part of the corpus.
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
        relevant = max(len(wanted.positives) + len(wanted.known) for wanted in sources.queries.values())
        self._depth = settings.depth + relevant + SPARE
        self._ids = list(sources.passages) if settings.retriever == "random" else []

    def find(self, queries: Sequence[str]) -> dict[str, Retrieved]:
        """What the retriever finds for some of the queries, by query id."""
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
        compared = self.indexes[-1].similarities(texts, wanted)  # of hybrid the bi-encoder
        return {query: Retrieved(row, compared[query]) for query, row in ranked.items()}

    def _ranked(self, texts: dict[str, str]) -> dict[str, dict[str, float]]:
        if not self.indexes:
            return {query: self._random(query) for query in texts}
        if len(self.indexes) == 1:
            return self.indexes[0].search(texts, depth=self._depth)
        each = max(self._depth, LEAST_DEPTH)
        runs = [index.search(texts, depth=each) for index in self.indexes]
        return reciprocal_rank_fusion(runs, depth=self._depth)

    def _random(self, query: str) -> dict[str, float]:
        """Passages of the corpus without any order, for a query's own seed."""
        seed = (self.settings.seed, self.sources.queries[query].number, 1)
        count = min(self._depth, len(self._ids))
        drawn = np.random.default_rng(seed).choice(len(self._ids), size=count, replace=False)
        return {self._ids[place]: 0.0 for place in drawn}


def compares(settings: MineCommand) -> bool:
    """Whether negatives are held against a score."""
    return any(
        value is not None
        for value in (settings.absolute_margin, settings.relative_margin, settings.max_score)
    )
