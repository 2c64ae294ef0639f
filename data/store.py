"""Groups on disk: as many as the disk holds, memory-mapped, read and checked once and then kept."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import xxhash

from . import cache, jsonl
from .groups import Group, groups_fingerprint, same_query
from .lines import compression
from .mapped import MappedFile

VERSION = 1  # of what the files below hold and of the checks behind them
ROWS, BYTES = 1024, 1 << 22  # of a record batch at most (a row may be larger): what iterating holds in memory
ARROW, TEXTS, QUERIES = "groups.arrow", "texts.bin", "queries.bin"


class GroupStore(Sequence[Group]):
    """Groups in an Arrow file: indexed through a memory map, iterated a record batch at a time.

    Attributes:
        name: the path the user gave; `where` of a group is `name:line`.
        fingerprint: that of `groups_fingerprint`, made while the rows were read.
        positives: of all groups together.
        negatives: of all groups together.
    """

    def __init__(self, entry: cache.Entry, name: str) -> None:
        import pyarrow as pa

        self.name = name
        self.fingerprint: str = entry.facts["fingerprint"]
        self.positives: int = entry.facts["positives"]
        self.negatives: int = entry.facts["negatives"]
        self._entry = entry
        self._file = MappedFile(entry.folder / ARROW)
        self._reader = pa.ipc.open_file(pa.BufferReader(self._file.buffer))
        self._starts = np.asarray(entry.facts["starts"])  # of the record batches, and the end

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        """One group, or a list of some."""
        places = range(len(self))[index]
        return [self._group(place) for place in places] if isinstance(places, range) else self._group(places)

    def __iter__(self) -> Iterator[Group]:
        for batch in self._batches():
            for query, positives, negatives, line in zip(
                *(column.to_pylist() for column in batch.columns), strict=True
            ):
                yield Group(query, tuple(positives), tuple(negatives), f"{self.name}:{line}")

    def texts(self) -> Iterator[str]:
        """Every text, group after group: query, positives, negatives."""
        for group in self:
            yield from group.texts

    def text_hashes(self) -> np.ndarray:
        """`hash_text` of every text in the order of `texts()`, shape (T, 2), uint64, memory-mapped."""
        return MappedFile(self._entry.folder / TEXTS).array(np.uint64).reshape(-1, 2)

    def shared_queries(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that are a query here but for case, blanks and punctuation."""
        given = list(texts)
        known, rows = MappedFile(self._entry.folder / QUERIES).array(np.uint64).reshape(2, -1)
        wanted = np.fromiter((_hash_query(text) for text in given), np.uint64, len(given))
        first, end = (np.searchsorted(known, wanted, side=side) for side in ("left", "right"))
        return [
            given[place]
            for place in np.flatnonzero(first < end)
            # Equal hashes are only a hint: the texts decide.
            if any(
                same_query(self._group(int(row)).query) == same_query(given[place])
                for row in rows[first[place] : end[place]]
            )
        ]

    def _group(self, place: int) -> Group:
        self._file.count(8)  # buffers of a record batch
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        batch, row = self._reader.get_batch(number), place - int(self._starts[number])
        query, positives, negatives, line = (column[row].as_py() for column in batch.columns)
        return Group(query, tuple(positives), tuple(negatives), f"{self.name}:{line}")

    def _batches(self) -> Iterator[Any]:
        # Not through the memory map: every page it touches would count as this process's memory.
        import pyarrow as pa

        with pa.OSFile(str(self._entry.folder / ARROW)) as stream:
            reader = pa.ipc.open_file(stream)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


def read_groups(path: Path, problems: list[str], *, need_negatives: bool = True) -> Sequence[Group]:
    """Groups of a JSONL file, see `jsonl.iterate_groups`; from the cache if it was read before.

    The cache's name for them holds the hash of the file's bytes. Rows with problems are reported
    each time and nothing is cached; the groups without are still there to be counted.
    """
    found: list[str] = []
    before = path.stat()

    def build(folder: Path) -> tuple[cache.Facts, bool]:
        facts = _write(folder, jsonl.iterate_groups(path, found, need_negatives=need_negatives))
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            found.append(f"{path}: was changed while it was read")
        return facts, not found

    use = "train" if need_negatives else "judged"
    form = compression(path) or "plain"
    entry = cache.make("groups", f"jsonl-{form}-{use}-v{VERSION}-{cache.hash_file(path)}", build)
    problems += found
    store = GroupStore(entry, str(path))
    return store if len(store) else []


def shared_queries(groups: Sequence[Group], texts: Iterable[str]) -> list[str]:
    """Those of the texts that are a query of the groups but for case, blanks and punctuation."""
    if isinstance(groups, GroupStore):
        return groups.shared_queries(texts)
    known = {same_query(group.query) for group in groups}
    return [text for text in texts if same_query(text) in known]


def fingerprint_of(groups: Sequence[Group]) -> str:
    """`groups_fingerprint`, known already of groups in a store."""
    return groups.fingerprint if isinstance(groups, GroupStore) else groups_fingerprint(groups)


def hash_text(text: str) -> bytes:
    """16 bytes that name a text; two texts of one name are not to be expected (XXH3, 128 bits)."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def hash_texts(texts: Iterable[str]) -> np.ndarray:
    """`hash_text` of each text, shape (T, 2), uint64."""
    hashes = bytearray()
    for text in texts:
        hashes += hash_text(text)
    return np.frombuffer(hashes, dtype=np.uint64).reshape(-1, 2)


def _hash_query(text: str) -> int:
    return xxhash.xxh3_64_intdigest(same_query(text).encode("utf-8", "surrogatepass"))


def _write(folder: Path, groups: Iterable[Group]) -> cache.Facts:
    """Write the files of a store in one pass; nothing grows but 8 bytes a group."""
    import pyarrow as pa

    queries = array("Q")
    starts, counts = [0], [0, 0]
    schema = _record_batch([]).schema
    with (
        pa.OSFile(str(folder / ARROW), "wb") as target,
        pa.ipc.new_file(target, schema) as arrow,
        (folder / TEXTS).open("wb") as hashes,
    ):

        def written() -> Iterator[Group]:
            for chunk in _chunks(groups):
                arrow.write_batch(_record_batch(chunk))
                starts.append(starts[-1] + len(chunk))
                _write_hashes(hashes, chunk)
                queries.extend(_hash_query(group.query) for group in chunk)
                counts[0] += sum(len(group.positives) for group in chunk)
                counts[1] += sum(len(group.negatives) for group in chunk)
                yield from chunk

        fingerprint = groups_fingerprint(written())
    values = np.frombuffer(queries, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    np.stack([values[order], order.astype(np.uint64)]).tofile(folder / QUERIES)
    return {
        "fingerprint": fingerprint,
        "positives": counts[0],
        "negatives": counts[1],
        "starts": starts,
    }


def _record_batch(groups: Sequence[Group]) -> Any:
    """Groups as Arrow's columns `query`, `positives`, `negatives` and `line`."""
    import pyarrow as pa

    # From buffers: what makes arrays of Python's lists imports pandas, which takes half a second.
    def numbers(values: Iterable[int]) -> Any:
        data = np.fromiter(values, np.int64)
        return pa.Array.from_buffers(pa.int64(), len(data), [None, pa.py_buffer(data)])

    def strings(texts: Iterable[str]) -> Any:
        data = [text.encode() for text in texts]
        buffers = [None, pa.py_buffer(_offsets(map(len, data))), pa.py_buffer(b"".join(data))]
        return pa.Array.from_buffers(pa.large_string(), len(data), buffers)

    def lists(rows: Sequence[tuple[str, ...]]) -> Any:
        kind, buffers = pa.large_list(pa.large_string()), [None, pa.py_buffer(_offsets(map(len, rows)))]
        values = strings(text for row in rows for text in row)
        return pa.Array.from_buffers(kind, len(rows), buffers, children=[values])

    columns = {
        "query": strings(group.query for group in groups),
        "positives": lists([group.positives for group in groups]),
        "negatives": lists([group.negatives for group in groups]),
        "line": numbers(int(group.where.rpartition(":")[2]) for group in groups),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _offsets(lengths: Iterable[int]) -> np.ndarray:
    """Where each of some pieces begins, and the end of the last, int64."""
    sizes = np.fromiter(lengths, np.int64)
    return np.concatenate(([0], np.cumsum(sizes)))


def _write_hashes(target: IO[bytes], groups: Iterable[Group]) -> None:
    for group in groups:
        target.write(b"".join(map(hash_text, group.texts)))


def _chunks(groups: Iterable[Group]) -> Iterator[list[Group]]:
    chunk: list[Group] = []
    size = 0
    for group in groups:
        chunk.append(group)
        size += sum(map(len, group.texts))
        if len(chunk) == ROWS or size >= BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
