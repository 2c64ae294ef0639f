"""The pair encoder: query and passage to the token ids that the model was trained on (contract 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..configs.errors import UserError

QUERY_TOKENS, MAX_TOKENS = 128, 512  # budgets where neither the user nor the model states one
CHUNK = 2048  # texts a tokenizer call: enough to keep its threads busy, little memory


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of one pair.

    Attributes:
        ids: token ids with special tokens, shape (L,), int32.
        types: token type (segment) ids, shape (L,), int8.
        truncated: whether a token of the query or the passage had to go.
    """

    ids: np.ndarray
    types: np.ndarray
    truncated: bool


def choose_budgets(
    tokenizer: Any,
    query_tokens: int | None,
    max_tokens: int | None,
    *,
    positions: int | None = None,
    stated: Mapping[str, int] | None = None,
) -> tuple[int, int]:
    """Token budgets of the query and of the pair, never more than the model has positions for.

    Args:
        tokenizer: states the longest pair where the user does not.
        query_tokens: what the user asked for, if anything.
        max_tokens: what the user asked for, if anything.
        positions: of the model; None where unknown or unlimited.
        stated: `query_tokens` and `max_tokens` that a model trained by Uprank was saved with.
    """
    own = stated or {}
    longest = max_tokens or own.get("max_tokens") or min(MAX_TOKENS, tokenizer.model_max_length)
    longest = longest if positions is None else min(longest, positions)
    # A default must not be the reason why a short model fails.
    return query_tokens or own.get("query_tokens") or min(QUERY_TOKENS, longest // 2), longest


class PairEncoder:
    """Encodes pairs as the model's own tokenizer does, but tokenises each distinct text once.

    Ids equal those of `tokenizer(query, passage)` for every pair that fits into `max_tokens`.
    A longer pair loses the end of its passage; a query is cut only where it is longer than
    `query_tokens` and the passage would otherwise get less than the rest.
    Special tokens written in a text (`</s>`) are text: their characters are encoded.

    Args:
        tokenizer: a transformers tokenizer that knows pairs.
        query_tokens: tokens a query may keep when the pair is too long.
        max_tokens: longest pair, special tokens included.

    Raises:
        UserError: the budgets leave no room for a passage.
    """

    def __init__(self, tokenizer: Any, *, query_tokens: int, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.query_tokens = query_tokens
        self.max_tokens = max_tokens
        self._template = _PairTemplate(tokenizer)
        self.room = max_tokens - self._template.specials
        if query_tokens < 1 or self.room <= query_tokens:
            raise UserError(
                f"model.query_tokens={query_tokens} and model.max_tokens={max_tokens} leave no room "
                f"for a passage: max_tokens has to be above query_tokens + "
                f"{self._template.specials} special tokens"
            )
        self._spelled = _spelled_special_tokens(tokenizer)
        self._texts: dict[str, np.ndarray] = {}

    def add(self, texts: Iterable[str]) -> None:
        """Tokenise the texts that are not known yet, many in one call."""
        new = list(dict.fromkeys(text for text in texts if text not in self._texts))
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            encoded = self.tokenizer(
                chunk,
                add_special_tokens=False,
                split_special_tokens=True,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,  # texts above the model's length are expected here and cut below
            )["input_ids"]
            for text, ids in zip(chunk, encoded, strict=True):
                self._texts[text] = np.asarray(self._without_specials(ids), dtype=np.int32)

    def forget(self) -> None:
        """Drop the cached texts."""
        self._texts.clear()

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Tokens of each pair after cutting, shape (N,), without building them."""
        self.add(text for pair in pairs for text in pair)
        return np.fromiter(
            (sum(self._kept(*pair)) + self._template.specials for pair in pairs), np.int64, len(pairs)
        )

    def full_lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Tokens of each pair before cutting, shape (N,)."""
        self.add(text for pair in pairs for text in pair)
        texts, specials = self._texts, self._template.specials
        return np.fromiter((len(texts[q]) + len(texts[p]) + specials for q, p in pairs), np.int64, len(pairs))

    def encode(self, query: str, passage: str) -> EncodedPair:
        """Token ids of one pair."""
        if query not in self._texts or passage not in self._texts:
            self.add((query, passage))
        query_kept, passage_kept = self._kept(query, passage)
        query_ids, passage_ids = self._texts[query], self._texts[passage]
        ids, types = self._template.join(query_ids[:query_kept], passage_ids[:passage_kept])
        cut = query_kept < len(query_ids) or passage_kept < len(passage_ids)
        return EncodedPair(ids, types, cut)

    def _kept(self, query: str, passage: str) -> tuple[int, int]:
        """How many tokens of each remain: the passage is cut first."""
        query_length, passage_length = len(self._texts[query]), len(self._texts[passage])
        query_kept = min(query_length, max(self.query_tokens, self.room - passage_length))
        return query_kept, min(passage_length, self.room - query_kept)

    def _without_specials(self, ids: list[int]) -> list[int]:
        """Spell out special tokens: unigram vocabularies hold `</s>` as an ordinary piece, too."""
        if self._spelled.keys().isdisjoint(ids):
            return ids
        return [piece for token in ids for piece in self._spelled.get(token, (token,))]


class _PairTemplate:
    """Where the special tokens stand, read off one encoded pair of the tokenizer itself."""

    def __init__(self, tokenizer: Any) -> None:
        first, second = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one", "two words")
        )
        pair = tokenizer("one", "two words", return_token_type_ids=True)
        ids, types = pair["input_ids"], pair.get("token_type_ids") or [0] * len(pair["input_ids"])
        middle = _find(ids, first, 0)
        end = _find(ids, second, middle + len(first))
        if not first or not second or middle < 0 or end < 0:
            raise UserError(
                "this tokenizer does not join a query and a passage; a cross-encoder needs one that does"
            )
        after_first, after_second = middle + len(first), end + len(second)
        self.parts = (ids[:middle], ids[after_first:end], ids[after_second:])
        self.part_types = (types[:middle], types[after_first:end], types[after_second:])
        self.text_types = (types[middle], types[end])
        self.specials = len(ids) - len(first) - len(second)

    def join(self, query: np.ndarray, passage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids (L,) and types (L,) of the joined pair."""
        start, middle, end = self.parts
        ids = np.concatenate((start, query, middle, passage, end)).astype(np.int32)
        start_types, middle_types, end_types = self.part_types
        query_type, passage_type = self.text_types
        types = np.concatenate(
            (
                start_types,
                np.full(len(query), query_type),
                middle_types,
                np.full(len(passage), passage_type),
                end_types,
            )
        ).astype(np.int8)
        return ids, types


def _find(ids: list[int], part: list[int], start: int) -> int:
    spans = range(start, len(ids) - len(part) + 1)
    return next((at for at in spans if ids[at : at + len(part)] == part), -1)


def _spelled_special_tokens(tokenizer: Any) -> dict[int, list[int]]:
    """Special token id to the ids of its characters; the unknown token is what it says and stays."""
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {
        token: tokenizer.convert_tokens_to_ids(list(text))
        for text, token in special
        if token != tokenizer.unk_token_id
    }
