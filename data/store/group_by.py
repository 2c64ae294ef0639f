"""What stands under one key, brought together: any number of rows in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO

import xxhash

from ...configs.paths import cache_folder

BUCKET = 1 << 26  # bytes of keys and payloads that are held at a time
MOST_BUCKETS = 120  # open files; a system allows 256 at least
_LENGTH = 8  # bytes of a number on the disk

KeyGroup = tuple[int, bytes, list[bytes]]  # first place, key, payloads


def merged(rows: Iterable[tuple[bytes, bytes]], size: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each key once with its payloads in their order; keys in the order of their first places.

    What is more than `BUCKET` goes to temporary files, which are deleted whatever happens: by the hash of
    its key to buckets, each of which is then merged in memory, and all of which are read side by side.

    Args:
        rows: keys and payloads.
        size: about how many bytes they have together, from which the number of buckets follows; the result
            does not depend on it.
    """
    if size <= BUCKET:
        entries = _gather((place, key, payload) for place, (key, payload) in enumerate(rows))
        yield from ((key, payloads) for _, key, payloads in entries)
        return
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    count = min(MOST_BUCKETS, -(-size // BUCKET))
    with ExitStack() as stack:
        buckets = [stack.enter_context(TemporaryFile(dir=folder)) for _ in range(count)]
        for place, (key, payload) in enumerate(rows):
            _write(buckets[xxhash.xxh3_64_intdigest(key) % count], place, [key, payload])
        gathered = []
        for bucket in buckets:
            target = stack.enter_context(TemporaryFile(dir=folder))
            rows_of_bucket = ((place, key, payload) for place, (key, payload) in _read(bucket))
            for place, key, payloads in _gather(rows_of_bucket):
                _write(target, place, [key, *payloads])
            bucket.close()  # it is deleted: the disk holds the rows once, and a bucket twice
            gathered.append(target)
        # The first places differ, so no more is compared.
        for _, (key, *payloads) in heapq.merge(*map(_read, gathered)):
            yield key, payloads


def _gather(rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[KeyGroup]:
    entries: dict[bytes, tuple[int, list[bytes]]] = {}
    for place, key, payload in rows:
        entries.setdefault(key, (place, []))[1].append(payload)
    for key, (place, payloads) in entries.items():
        yield place, key, payloads


def _write(target: IO[bytes], place: int, texts: list[bytes]) -> None:
    numbers = (place, len(texts), *map(len, texts))
    target.write(b"".join(number.to_bytes(_LENGTH, "little") for number in numbers) + b"".join(texts))


def _read(source: IO[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    source.seek(0)
    while head := source.read(2 * _LENGTH):
        place, count = _numbers(head)
        lengths = _numbers(source.read(count * _LENGTH))
        yield place, [source.read(length) for length in lengths]


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + _LENGTH], "little") for at in range(0, len(data), _LENGTH)]
