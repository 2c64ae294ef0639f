"""How a tokenizer joins a query and a passage."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..configs.errors import UserError


class PairTemplate:
    """Where the special tokens stand, read off one encoded pair of the tokenizer itself.

    Attributes:
        parts: ids of the special tokens before the query, between, and after the passage, int32.
        specials: how many they are.
        segments: token type of each piece of a pair: one for each special token, and one each
            for the query and the passage, in their order, shape (specials + 2,), int64.
        any_type: whether a token type is not 0.
        places: which of the pieces are the query and the passage.
    """

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

    def types(self, queries: np.ndarray | int, passages: np.ndarray | int) -> np.ndarray:
        """Token types of joined pairs, end to end, shape (T,), int64.

        Args:
            queries: tokens of each query, shape (N,), or of one.
            passages: tokens of each passage, shape (N,), or of one.
        """
        if not self.any_type:
            return np.zeros(np.sum(queries + passages + self.specials), dtype=np.int64)
        sizes = np.ones((np.size(queries), len(self.segments)), dtype=np.int64)
        sizes[:, self.places[0]], sizes[:, self.places[1]] = queries, passages
        return np.repeat(np.tile(self.segments, len(sizes)), sizes.ravel())


def _find(ids: list[int], part: list[int], start: int) -> int:
    spans = range(start, len(ids) - len(part) + 1)
    return next((at for at in spans if ids[at : at + len(part)] == part), -1)
