"""Bring rows of one key together: any number of rows in bounded memory."""

from __future__ import annotations

import heapq
import marshal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Any

import xxhash

from ...configs.paths import cache_folder

BUCKET = 1 << 26  # bytes of keys and payloads held at a time
MOST_BUCKETS = 120  # open files; a system allows 256 at least

Row = tuple[int, bytes, bytes]  # place, key, payload
KeyGroup = tuple[int, bytes, list[bytes]]  # first place, key, payloads


def merged(rows: Iterable[tuple[bytes, bytes]], size: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield each key once with its payloads in order; keys in the order of their first rows.

    More than `BUCKET` bytes go to temporary files, which are always deleted: rows are written to
    buckets by the hash of their key, each bucket is grouped in memory, and all are merged by first place.

    Args:
        rows: keys and payloads.
        size: roughly their bytes, which sets the number of buckets; the result does not depend on it.
    """
    numbered = ((place, key, payload) for place, (key, payload) in enumerate(rows))
    if size <= BUCKET:
        yield from ((key, payloads) for _, key, payloads in _gather(numbered))
        return
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    count = min(MOST_BUCKETS, -(-size // BUCKET))
    with ExitStack() as stack:
        buckets = [stack.enter_context(TemporaryFile(dir=folder)) for _ in range(count)]
        for row in numbered:
            marshal.dump(row, buckets[xxhash.xxh3_64_intdigest(row[1]) % count])
        gathered = []
        for bucket in buckets:
            target = stack.enter_context(TemporaryFile(dir=folder))
            for group in _gather(_read(bucket)):
                marshal.dump(group, target)
            bucket.close()  # deletes it: the disk holds the rows once, and one bucket twice
            gathered.append(target)
        # First places differ, so nothing behind them is compared.
        for _, key, payloads in heapq.merge(*map(_read, gathered)):
            yield key, payloads


def _gather(rows: Iterable[Row]) -> Iterator[KeyGroup]:
    entries: dict[bytes, tuple[int, list[bytes]]] = {}
    for place, key, payload in rows:
        entries.setdefault(key, (place, []))[1].append(payload)
    for key, (place, payloads) in entries.items():
        yield place, key, payloads


def _read(source: IO[bytes]) -> Iterator[Any]:
    end = source.tell()
    source.seek(0)
    while source.tell() < end:
        yield marshal.load(source)
