"""Files read through a memory map whose resident memory stays small."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

PLACES = 256  # places read until the pages are given back: each may bring in 64 KB, and up to 2 MB


class MappedFile:
    """A file as a buffer. Pages that were read are given back now and then.

    They stay in the system's cache of files, from which they come back in microseconds, but
    count no longer as memory of this process: a run over all of a large file stays small.

    Attributes:
        buffer: the bytes of the file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            size = path.stat().st_size  # an empty file cannot be mapped
            self.buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self._places = 0

    def array(self, kind: type[np.generic]) -> np.ndarray:
        """The file as a flat array of numbers; what was taken from it stays valid."""
        return np.frombuffer(self.buffer, dtype=kind)

    def count(self, places: int) -> None:
        """So many places of the file were read."""
        self._places += places
        if self._places >= PLACES and isinstance(self.buffer, mmap.mmap):
            self._places = 0
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
                self.buffer.madvise(mmap.MADV_DONTNEED)
