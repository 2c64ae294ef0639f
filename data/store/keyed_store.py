"""Values of any length by key, memory-mapped: a key's hash is searched in a sorted array.

A key has 128 bits of hash, so two keys are never confused in practice. On disk are 32 bytes a key beside
the values; in memory is only what was just read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash

from .mapped import MappedFile

HASHES, SPANS = "hashes.bin", "spans.bin"


class KeyedStore:
    """Values by key.

    Args:
        folder: holds `HASHES` (sorted), `SPANS` (start and stop of each value) and the file of values.
        values: name of the file of values, laid end to end.
        kind: type of their elements, in which spans count.
        by_row: spans are stored as pairs, else all starts come before all stops.
    """

    def __init__(self, folder: Path, values: str, kind: type[np.generic], *, by_row: bool = False) -> None:
        self._files = [MappedFile(folder / name) for name in (HASHES, SPANS, values)]
        self._high, self._low = self._files[0].array(np.uint64).reshape(2, -1)
        spans = self._files[1].array(np.int64)
        self._values = self._files[2].array(kind)
        self._spans = spans.reshape(-1, 2) if by_row else spans.reshape(2, -1).T

    def __len__(self) -> int:
        return len(self._high)

    def look_up(self, keys: Sequence[str]) -> list[np.ndarray | None]:
        """Return a copy of each key's value; None if the key is not here."""
        high, low = hash_texts(keys).T
        values: list[np.ndarray | None] = [None] * len(keys)
        first, end = (np.searchsorted(self._high, high, side=side) for side in ("left", "right"))
        for place in np.flatnonzero(first < end).tolist():
            for row in range(first[place], end[place]):  # nearly always one
                if self._low[row] == low[place]:
                    start, stop = self._spans[row].tolist()
                    values[place] = self._values[start:stop].copy()
                    self._files[-1].count(1)
                    break  # the first, if a key stands twice
        for file in self._files:
            file.count(len(keys))
        return values


def sort_keys(folder: Path) -> set[bytes]:
    """Sort what was written one key after another: `HASHES` as rows, `SPANS` as stops alone.

    Memory: 32 bytes a key.

    Returns:
        The hashes that stand there more than once.
    """
    hashes = np.fromfile(folder / HASHES, np.uint64).reshape(-1, 2)
    order = np.argsort(hashes[:, 0], kind="stable")
    high = hashes[order, 0]
    ties = np.flatnonzero(high[1:] == high[:-1])
    tied = hashes[order[np.union1d(ties, ties + 1)]]
    with (folder / HASHES).open("wb") as target:
        high.tofile(target)
        del high
        hashes[order, 1].tofile(target)
    del hashes
    stops = np.fromfile(folder / SPANS, np.int64)
    with (folder / SPANS).open("wb") as target:
        np.concatenate(([0], stops[:-1]))[order].tofile(target)
        stops[order].tofile(target)
    return {name for name, count in Counter(row.tobytes() for row in tied).items() if count > 1}


def hash_text(text: str) -> bytes:
    """Return 16 bytes that name a text (XXH3, 128 bits); collisions are not to be expected."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def hash_texts(texts: Iterable[str]) -> np.ndarray:
    """Return `hash_text` of each text, shape (T, 2), uint64."""
    hashes = bytearray()
    for text in texts:
        hashes += hash_text(text)
    return np.frombuffer(hashes, dtype=np.uint64).reshape(-1, 2)
