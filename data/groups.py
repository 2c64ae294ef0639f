"""The values that rows on disk become."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Group:
    """One query with its positives and its hard negatives: the unit of training.

    Attributes:
        query: text of the query.
        positives: relevant passages, at least one.
        negatives: hard negatives, at least one, none of them a positive.
        where: `file:line`, or the query id, for messages.
        grades: relevance of each positive, above 0; empty if all are 1.
        scores: a teacher's scores of each positive and then each negative; empty without a teacher.
        query_prompt: text that the reranker reads before the query.
        passage_prompt: text that it reads before each passage.
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    where: str
    grades: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    query_prompt: str = ""
    passage_prompt: str = ""

    @property
    def prompted(self) -> Group:
        """The group as the reranker reads it, with its prompts before its texts."""
        if not self.query_prompt and not self.passage_prompt:
            return self
        return replace(
            self,
            query=self.query_prompt + self.query,
            positives=tuple(self.passage_prompt + text for text in self.positives),
            negatives=tuple(self.passage_prompt + text for text in self.negatives),
            query_prompt="",
            passage_prompt="",
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """The query, the positives, the negatives."""
        return self.query, *self.positives, *self.negatives


@dataclass(frozen=True)
class Collection:
    """Judged queries over passages: what evaluation ranks.

    Attributes:
        path: its source.
        queries: query id to text; only queries with a judgment.
        passages: document id to text.
        qrels: query id -> document id -> relevance (0 not relevant, negative unjudged).
        pools: query id to the ids of its own candidates (JSONL rows) in the order in which they are cut,
            which must not depend on relevance; or empty (a corpus to search).
        prompted_queries: ids of the queries whose text begins with a prompt of their row.
        prompted_passages: ids of such passages.
        notes: sentences on what was left out when the source was read.
        sampled_from: queries of which these are a sample; 0 if they are all.
    """

    path: str
    queries: dict[str, str]
    passages: dict[str, str]
    qrels: dict[str, dict[str, int]]
    pools: dict[str, list[str]]
    prompted_queries: frozenset[str] = frozenset()
    prompted_passages: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    sampled_from: int = 0


def sample_queries(collection: Collection, count: int | None, seed: int) -> Collection:
    """Return the collection with a seeded sample of its queries, in their order; all if they are no more."""
    if count is None or count >= len(collection.queries):
        return collection
    import numpy as np

    names = list(collection.queries)
    chosen = np.random.default_rng(seed).choice(len(names), size=count, replace=False)
    keep = {names[i] for i in chosen}
    return replace(
        collection,
        queries={query: text for query, text in collection.queries.items() if query in keep},
        qrels={query: row for query, row in collection.qrels.items() if query in keep},
        pools={query: row for query, row in collection.pools.items() if query in keep},
        sampled_from=len(names),
    )


def passage_id(text: str) -> str:
    """Return an id for a passage that came without one.

    A hash of the text, so that breaking ties by id (contract 6) favours neither positives nor
    negatives, and equal passages of several rows are one document.
    """
    return hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def same_text(text: str) -> str:
    """Return a key that passages share if they differ only in case and whitespace."""
    return " ".join(text.casefold().split())


def same_query(text: str) -> str:
    """Return a key that queries share if they differ only in case, whitespace and punctuation."""
    return " ".join(_WORD.findall(text.casefold())) or text  # `?` and `!` have no words and are not equal


def fingerprint(texts: Iterable[str]) -> str:
    """Return `sha256:…` over the texts in order, which names a data set in manifests and reports."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return "sha256:" + digest.hexdigest()


def groups_fingerprint(groups: Iterable[Group]) -> str:
    """Return the fingerprint of texts, their roles and everything else learned from; not of `where`."""
    return fingerprint(text for group in groups for text in _identity(group))


def _identity(group: Group) -> Iterator[str]:
    yield from (group.query, "+", *group.positives, "-", *group.negatives)
    for name in ("grades", "scores", "query_prompt", "passage_prompt"):
        if value := getattr(group, name):
            yield f"{name} {value!r}"


def collection_fingerprint(collection: Collection) -> str:
    """Return the fingerprint of queries, judgments and passages."""

    def texts() -> Iterator[str]:
        yield from (f"{key}\t{text}" for key, text in collection.queries.items())
        for query, row in collection.qrels.items():
            yield from (f"{query}\t{doc}\t{grade}" for doc, grade in row.items())
        yield from (f"{key}\t{text}" for key, text in collection.passages.items())

    return fingerprint(texts())
