"""Query and passage to the token ids that the model was trained on (contract 4)."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ...configs.errors import UserError
from ..store import KeyedStore

QUERY_TOKENS, MAX_TOKENS = 128, 512  # budgets if neither the user nor the model states any
CHUNK = 2048  # texts a tokenizer call: enough to keep its threads busy, little memory
HELD = 1 << 28  # bytes of texts and tokens in memory; beyond, they are forgotten before new ones come
OVERHEAD = 350  # bytes that Python needs for a text and its tokens beside their content

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of one pair.

    Attributes:
        ids: token ids with special tokens, shape (L,), int32.
        types: token type (segment) ids, shape (L,), int8.
        truncated: whether the query or the passage was cut.
    """

    ids: np.ndarray
    types: np.ndarray
    truncated: bool


@dataclass(frozen=True, slots=True)
class FlatPairs:
    """Token ids of N pairs laid end to end: T tokens, with zeros behind them if asked for.

    Attributes:
        ids: token ids with special tokens, shape (T,), int64.
        types: token type (segment) ids, shape (T,), int64.
        positions: place of each token in its own pair from 0, shape (T,), int64.
        offsets: pair n is tokens `offsets[n]:offsets[n + 1]`, shape (N + 1,), int64.
        truncated: whether the pair was cut, shape (N,), bool.
    """

    ids: np.ndarray
    types: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray


def choose_budgets(
    tokenizer: Any,
    query_tokens: int | None,
    max_tokens: int | None,
    *,
    positions: int | None = None,
    stated: Mapping[str, int] | None = None,
) -> tuple[int, int]:
    """Return the token budgets of the query and of the pair, at most the model's positions.

    Args:
        tokenizer: states the longest pair if the user does not.
        query_tokens: the user's setting, if any.
        max_tokens: the user's setting, if any.
        positions: number of the model's; None if unknown or unlimited.
        stated: `query_tokens` and `max_tokens` that a model trained by Uprank was saved with.
    """
    saved = stated or {}
    longest = max_tokens or saved.get("max_tokens") or min(MAX_TOKENS, tokenizer.model_max_length)
    longest = longest if positions is None else min(longest, positions)
    # A default must not make a model with few positions fail.
    return query_tokens or saved.get("query_tokens") or min(QUERY_TOKENS, longest // 2), longest


def _alone(method: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let one thread at a time into a method of an encoder."""

    @functools.wraps(method)
    def locked(*given: Given.args, **named: Given.kwargs) -> Result:
        encoder: Any = given[0]
        with encoder._lock:
            return method(*given, **named)

    return locked


class PairEncoder:
    """Encode pairs as the model's own tokenizer does, but tokenise each distinct text once.

    Ids equal those of `tokenizer(query, passage)` for every pair that fits into `max_tokens`.
    A longer pair loses the end of its passage; a query is cut only if it is longer than
    `query_tokens` and the passage would otherwise get less than the rest.
    Special tokens written in a text (`</s>`) are text: their characters are encoded.
    Texts in a token store (`use`) are looked up there; all others are tokenised once and held in
    memory, up to `HELD` bytes.

    Args:
        tokenizer: a transformers tokenizer that joins pairs.
        query_tokens: tokens that a query may keep in a pair that is too long.
        max_tokens: longest pair, special tokens included.

    Raises:
        UserError: the budgets leave no room for a passage.
    """

    def __init__(self, tokenizer: Any, *, query_tokens: int, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.query_tokens = query_tokens
        self.max_tokens = max_tokens
        self._template = PairTemplate(tokenizer)
        self.room = max_tokens - self._template.specials
        if query_tokens < 1 or self.room <= query_tokens:
            raise UserError(
                f"model.query_tokens={query_tokens} and model.max_tokens={max_tokens} leave no room "
                f"for a passage: max_tokens must be above query_tokens + "
                f"{self._template.specials} special tokens"
            )
        self._spelled = _spelled_special_tokens(tokenizer)
        self._texts: dict[str, np.ndarray] = {}
        self._held = 0  # bytes, roughly
        self._stores: list[KeyedStore] = []
        self._lock = threading.RLock()  # a tokenizer and the texts held serve one thread at a time

    @property
    def gives_types(self) -> bool:
        """Whether the tokenizer gives token types by itself; if not, a model is not given any."""
        return self._template.gives_types

    @_alone
    def use(self, store: KeyedStore) -> None:
        """Look texts up in this store before tokenising them."""
        self._stores.append(store)

    @_alone
    def add(self, texts: Iterable[str]) -> None:
        """Look up or tokenise these texts, many in one call, and hold their tokens in memory."""
        wanted = dict.fromkeys(texts)
        new = [text for text in wanted if text not in self._texts]
        if not new:
            return
        if self._held > HELD:
            self.forget()
            new = list(wanted)
        for store in self._stores:
            stored = store.look_up(new)
            self._hold((text, ids) for text, ids in zip(new, stored, strict=True) if ids is not None)
            new = [text for text, ids in zip(new, stored, strict=True) if ids is None]
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            self._hold(zip(chunk, self.tokenise(chunk), strict=True))

    def tokenise(self, texts: list[str]) -> list[np.ndarray]:
        """Return the token ids of each text without special tokens, int32, in one tokenizer call."""
        encoded = self.tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # texts above the model's length are expected here and cut below
        )["input_ids"]
        return [np.asarray(self._without_specials(ids), dtype=np.int32) for ids in encoded]

    @_alone
    def forget(self) -> None:
        """Drop the texts held in memory."""
        self._texts.clear()
        self._held = 0

    @_alone
    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return the number of tokens of each pair after cutting, shape (N,), without building them."""
        queries, passages = self._kept(*self._sizes(pairs))
        return queries + passages + self._template.specials

    @_alone
    def full_lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return the number of tokens of each pair before cutting, shape (N,)."""
        queries, passages = self._sizes(pairs)
        return queries + passages + self._template.specials

    @_alone
    def encode(self, query: str, passage: str) -> EncodedPair:
        """Return the token ids of one pair; `encode_flat` is faster for many."""
        flat = self.encode_flat([(query, passage)])
        return EncodedPair(flat.ids.astype(np.int32), flat.types.astype(np.int8), bool(flat.truncated[0]))

    @_alone
    def encode_flat(self, pairs: Sequence[tuple[str, str]], *, multiple_of: int = 1) -> FlatPairs:
        """Return the token ids of many pairs laid end to end, ready for a packed batch.

        Args:
            pairs: (query, passage), in order.
            multiple_of: pad `ids`, `types` and `positions` with zeros to a multiple of it.
        """
        sizes = self._sizes(pairs)
        queries, passages = self._kept(*sizes)
        offsets = np.zeros(len(pairs) + 1, dtype=np.int64)
        lengths = queries + passages + self._template.specials
        np.cumsum(lengths, out=offsets[1:])
        total = int(offsets[-1])
        ids, types, positions = np.zeros((3, total + -total % multiple_of), dtype=np.int64)
        texts, (start, middle, end) = self._texts, self._template.parts
        pieces: list[np.ndarray] = []
        for (query, passage), a, b in zip(pairs, queries.tolist(), passages.tolist(), strict=True):
            pieces += (start, texts[query][:a], middle, texts[passage][:b], end)
        if pieces:
            np.concatenate(pieces, out=ids[:total])
        types[:total] = self._template.types(queries, passages)
        positions[:total] = np.arange(total) - np.repeat(offsets[:-1], lengths)
        return FlatPairs(ids, types, positions, offsets, (queries < sizes[0]) | (passages < sizes[1]))

    def _sizes(self, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of tokens of each query and passage before cutting, shapes (N,)."""
        self.add(text for pair in pairs for text in pair)
        texts, count = self._texts, len(pairs)
        return (
            np.fromiter((len(texts[query]) for query, _ in pairs), np.int64, count),
            np.fromiter((len(texts[passage]) for _, passage in pairs), np.int64, count),
        )

    def _kept(self, queries: np.ndarray, passages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how many tokens of each remain: the passage is cut first."""
        queries = np.minimum(queries, np.maximum(self.query_tokens, self.room - passages))
        return queries, np.minimum(passages, self.room - queries)

    def _hold(self, tokenised: Iterable[tuple[str, np.ndarray]]) -> None:
        for text, ids in tokenised:
            self._texts[text] = ids
            self._held += OVERHEAD + len(text) + ids.nbytes

    def _without_specials(self, ids: list[int]) -> list[int]:
        """Spell out special tokens: unigram vocabularies also hold `</s>` as an ordinary piece."""
        if self._spelled.keys().isdisjoint(ids):
            return ids
        return [piece for token in ids for piece in self._spelled.get(token, (token,))]


def _spelled_special_tokens(tokenizer: Any) -> dict[int, list[int]]:
    """Return the ids of the characters by special token id; the unknown token stays as it is."""
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {
        token: tokenizer.convert_tokens_to_ids(list(text))
        for text, token in special
        if token != tokenizer.unk_token_id
    }


class PairTemplate:
    """The special tokens of a pair and their places, read off one pair that the tokenizer encoded.

    Attributes:
        parts: ids of the special tokens before the query, between, and after the passage, int32.
        specials: their number.
        segments: token type of each piece of a pair: one for each special token, and one each
            for the query and the passage, in order, shape (specials + 2,), int64.
        gives_types: whether the tokenizer gives token types by itself, as every library reads them.
        any_type: whether a token type is not 0.
        places: places of query and passage among the pieces.
    """

    def __init__(self, tokenizer: Any) -> None:
        first, second = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one", "two words")
        )
        pair = tokenizer("one", "two words")
        self.gives_types = "token_type_ids" in pair
        ids, types = pair["input_ids"], pair.get("token_type_ids") or [0] * len(pair["input_ids"])
        middle = _find(ids, first, 0)
        end = _find(ids, second, middle + len(first))
        if not first or not second or middle < 0 or end < 0:
            raise UserError(
                "this tokenizer does not join a query and a passage; a cross-encoder needs one that does"
            )
        after_first, after_second = middle + len(first), end + len(second)
        self.parts = tuple(
            np.asarray(part, dtype=np.int32)
            for part in (ids[:middle], ids[after_first:end], ids[after_second:])
        )
        self.specials = len(ids) - len(first) - len(second)
        self.places = (middle, middle + 1 + end - after_first)
        self.segments = np.asarray(
            [*types[:middle], types[middle], *types[after_first:end], types[end], *types[after_second:]],
            dtype=np.int64,
        )
        self.any_type = bool(self.segments.any())

    def types(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Return the token types of joined pairs, end to end, shape (T,), int64.

        Args:
            queries: number of tokens of each query, shape (N,).
            passages: number of tokens of each passage, shape (N,).
        """
        if not self.any_type:
            return np.zeros(np.sum(queries + passages + self.specials), dtype=np.int64)
        sizes = np.ones((len(queries), len(self.segments)), dtype=np.int64)
        sizes[:, self.places] = np.stack([queries, passages], axis=1)
        return np.repeat(np.tile(self.segments, len(sizes)), sizes.ravel())


def _find(ids: list[int], part: list[int], start: int) -> int:
    spans = range(start, len(ids) - len(part) + 1)
    return next((at for at in spans if ids[at : at + len(part)] == part), -1)
