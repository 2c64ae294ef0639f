"""Prompts of a model: texts that it reads before every query and before every passage.

They are tokenised with the text and count towards the token budgets. A row with its own prompts
(`query_prompt`, `passage_prompt`) keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .groups import Collection, Group

Pair = tuple[str, str]


@dataclass(frozen=True)
class Prompts:
    """Texts put before queries and passages; false if both are empty.

    Attributes:
        query: before every query.
        passage: before every passage.
    """

    query: str = ""
    passage: str = ""

    def __bool__(self) -> bool:
        return bool(self.query or self.passage)

    def pair(self, query: str, passage: str) -> Pair:
        """Return a pair as the model reads it.

        >>> Prompts("query: ").pair("who?", "me")
        ('query: who?', 'me')
        """
        return self.query + query, self.passage + passage

    def pairs(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Return pairs as the model reads them."""
        return [self.pair(query, passage) for query, passage in pairs]

    def group(self, group: Group) -> Group:
        """Return a group with these prompts unless its row gives its own; `prompted` applies them."""
        if not self:
            return group
        return replace(
            group,
            query_prompt=group.query_prompt or self.query,
            passage_prompt=group.passage_prompt or self.passage,
        )

    def collection(self, collection: Collection) -> Collection:
        """Return a collection as the model reads it; texts with their row's own prompt stay as they are."""
        if not self:
            return collection
        return replace(
            collection,
            queries=_before(self.query, collection.queries, collection.prompted_queries),
            passages=_before(self.passage, collection.passages, collection.prompted_passages),
        )

    def stated(self) -> dict[str, str]:
        """Return what a model is saved with, beside its token budgets."""
        texts = {"query_prompt": self.query, "passage_prompt": self.passage}
        return {key: text for key, text in texts.items() if text}


NO_PROMPTS = Prompts()


def choose_prompts(query: str | None, passage: str | None, stated: Mapping[str, Any] | None) -> Prompts:
    """Return the user's prompts, else those that a model was saved with; an empty string switches one off.

    >>> choose_prompts(None, "", {"query_prompt": "query: ", "passage_prompt": "passage: "})
    Prompts(query='query: ', passage='')
    """
    saved = stated or {}
    return Prompts(
        str(saved.get("query_prompt") or "") if query is None else query,
        str(saved.get("passage_prompt") or "") if passage is None else passage,
    )


def _before(prompt: str, texts: dict[str, str], as_they_are: frozenset[str]) -> dict[str, str]:
    if not prompt:
        return texts
    return {key: text if key in as_they_are else prompt + text for key, text in texts.items()}
