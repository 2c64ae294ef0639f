"""Files read through a memory map whose resident memory stays small."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

PLACES = 256  # reads until the pages are given back: each may bring in 64 KB, and up to 2 MB


class MappedFile:
    """A file as a buffer whose pages are given back now and then.

    They stay in the system's file cache, from which they return in microseconds, but no longer
    count as this process's memory: reading all of a large file keeps it small.

    Attributes:
        buffer: the bytes of the file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            size = path.stat().st_size  # an empty file cannot be mapped
            self.buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self._places = 0

    def array(self, kind: type[np.generic]) -> np.ndarray:
        """Return the file as a flat array of numbers; slices of it stay valid."""
        return np.frombuffer(self.buffer, dtype=kind)

    def count(self, places: int) -> None:
        """Note that so many places of the file were read."""
        self._places += places
        if self._places >= PLACES and isinstance(self.buffer, mmap.mmap):
            self._places = 0
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
                self.buffer.madvise(mmap.MADV_DONTNEED)
