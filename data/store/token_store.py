"""Token ids of texts on disk, memory-mapped: one file of ids, one of places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .group_store import hash_texts
from .mapped import MappedFile

HASHES, SPANS, TOKENS = "hashes.bin", "spans.bin", "tokens.bin"


class TokenStore:
    """Token ids by text, memory-mapped: a text's hash is searched in a sorted array.

    A text has 128 bits of hash, so that two texts are never taken for one in practice.
    """

    def __init__(self, folder: Path) -> None:
        files = [MappedFile(folder / name) for name in (HASHES, SPANS, TOKENS)]
        self._high, self._low = files[0].array(np.uint64).reshape(2, -1)
        self._spans = files[1].array(np.int64).reshape(-1, 2)
        self._tokens = files[2].array(np.int32)
        self._files = files

    def __len__(self) -> int:
        return len(self._high)

    def look_up(self, texts: Sequence[str]) -> list[np.ndarray | None]:
        """Token ids of each text, int32; None of a text that is not here."""
        high, low = hash_texts(texts).T
        found: list[np.ndarray | None] = [None] * len(texts)
        first, end = (np.searchsorted(self._high, high, side=side) for side in ("left", "right"))
        for place in np.flatnonzero(first < end).tolist():
            for row in range(first[place], end[place]):  # nearly always one
                if self._low[row] == low[place]:
                    start, stop = self._spans[row].tolist()
                    found[place] = self._tokens[start:stop].copy()
                    self._files[-1].count(1)
        for file in self._files:
            file.count(len(texts))
        return found
