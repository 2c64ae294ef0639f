"""Groups on disk: as many as the disk holds, memory-mapped, read and checked once and then kept.

Groups as columns of Arrow, as a store keeps them on disk.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import xxhash

from ...configs.errors import UserError
from ..groups import Group, groups_fingerprint, same_query
from ..problems import ERROR, Problems
from . import cache
from .mapped import MappedFile

VERSION = 3  # of what the files below hold and of the checks behind them
ROWS, BYTES = 1024, 1 << 22  # of a record batch at most (a row may be larger): what iterating holds in memory
ARROW, TEXTS, QUERIES, PROBLEMS = "groups.arrow", "texts.bin", "queries.bin", "problems.jsonl"


class GroupStore(Sequence[Group]):
    """Groups in an Arrow file: indexed through a memory map, iterated a record batch at a time.

    Attributes:
        names: of the files the user gave; `where` of a group is `name:line`.
        fingerprint: that of `groups_fingerprint`, made while the rows were read.
        positives: of all groups together.
        negatives: of all groups together.
        scored: groups with a teacher's scores.
    """

    def __init__(self, entry: cache.CacheEntry, names: Sequence[str]) -> None:
        import pyarrow as pa

        self.names = tuple(names)
        self.fingerprint: str = entry.facts["fingerprint"]
        self.positives: int = entry.facts["positives"]
        self.negatives: int = entry.facts["negatives"]
        self.scored: int = entry.facts["scored"]
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
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield self._made(*row)

    @property
    def problems(self) -> Problems:
        """What was wrong with rows when they were read: those of them that are not among the groups."""
        with (self._entry.folder / PROBLEMS).open(encoding="utf-8") as stream:
            found = Problems(map(json.loads, stream))
        return _renamed(found, self._entry.facts["names"], self.names)

    def texts(self) -> Iterator[str]:
        """Every text with its prompt, group after group: query, positives, negatives."""
        for group in self:
            yield from group.prompted.texts

    def queries(self) -> Iterator[str]:
        """The text of every query, without making the passages."""
        for batch in self._batches(columns=[0]):
            yield from batch.column("query").to_pylist()

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
        self._file.count(16)  # buffers of a record batch
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        batch, row = self._reader.get_batch(number), place - int(self._starts[number])
        return self._made(*(column[row].as_py() for column in batch.columns))

    def _made(self, query: str, positives: list[str], negatives: list[str], *rest: Any) -> Group:
        file, line, grades, scores, *prompts = rest
        where = f"{self.names[file]}:{line}"
        return Group(query, tuple(positives), tuple(negatives), where, tuple(grades), tuple(scores), *prompts)

    def _batches(self, columns: list[int] | None = None) -> Iterator[Any]:
        # Not through the memory map: every page it touches would count as this process's memory.
        import pyarrow as pa

        with pa.OSFile(str(self._entry.folder / ARROW)) as stream:
            options = pa.ipc.IpcReadOptions(included_fields=columns)
            reader = pa.ipc.open_file(stream, options=options)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


def keep_groups(
    form: str,
    files: Sequence[Path],
    make_groups: Callable[[Problems], Iterable[Group]],
    problems: Problems,
    *,
    names: Sequence[str] = (),
    skipped: Problems | None = None,
) -> Sequence[Group]:
    """Groups that are made of files; from the cache if they were made before.

    The cache's name for them holds the hash of the files' bytes. Problems of rows are kept with the groups
    of the other rows, and reported each time; after one of a whole file nothing is kept.

    Args:
        form: what else the groups depend on: letters, digits, `-` and `.`.
        files: what they are made of.
        make_groups: called if they are not in the cache, with a list for its problems, each of which begins
            with one of the names; a `UserError` is of whole files.
        problems: receives what is wrong.
        names: what stands before the line in `where` of the groups; the files if it is empty.
        skipped: if given, receives the problems of rows in place of `problems`.
    """
    names = list(names) or [str(file) for file in files]
    fatal = Problems()
    before = [_state(file) for file in files]

    def build(folder: Path) -> tuple[cache.Facts, bool]:
        found = Problems()
        facts = _write(folder, _guarded(make_groups, found, fatal), names)
        fatal.extend(found.of("file"))
        changed = [file for file, state in zip(files, before, strict=True) if _state(file) != state]
        fatal.extend((f"{file}: was changed while it was read" for file in changed), "file")
        with (folder / PROBLEMS).open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(item) + "\n" for item in found.items() if item[0] != "file")
        return facts, not fatal

    entry = cache.make_entry("groups", f"{form}-v{VERSION}-{_hash_files(files)}", build)
    store = GroupStore(entry, names)
    (problems if skipped is None else skipped).extend(store.problems.of(ERROR))
    problems += fatal
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


def _hash_files(files: Sequence[Path]) -> str:
    hashes = [cache.hash_file(file) for file in files]
    return hashes[0] if len(hashes) == 1 else xxhash.xxh3_128_hexdigest(" ".join(hashes).encode())


def _state(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_size, state.st_mtime_ns


def _guarded(
    make_groups: Callable[[Problems], Iterable[Group]], found: Problems, fatal: Problems
) -> Iterator[Group]:
    try:
        yield from make_groups(found)
    except UserError as error:
        fatal.extend(error.problems, "file")


def _renamed(problems: Problems, before: Sequence[str], names: Sequence[str]) -> Problems:
    """The problems of the same bytes elsewhere, or under another name."""
    if not problems or list(before) == list(names):
        return problems
    now = dict(zip(before, names, strict=True))
    longest_first = sorted(map(re.escape, before), key=len, reverse=True)
    pattern = re.compile(rf"({'|'.join(longest_first)})(?=:)")
    return Problems((kind, pattern.sub(lambda found: now[found[1]], text)) for kind, text in problems.items())


def _write(folder: Path, groups: Iterable[Group], names: Sequence[str]) -> cache.Facts:
    """Write the files of a store in one pass; nothing grows but 8 bytes a group."""
    import pyarrow as pa

    files = {name: number for number, name in enumerate(names)}
    queries = array("Q")
    starts, counts = [0], [0, 0, 0]
    with (
        pa.OSFile(str(folder / ARROW), "wb") as target,
        pa.ipc.new_file(target, record_batch([], files).schema) as arrow,
        (folder / TEXTS).open("wb") as hashes,
    ):

        def written() -> Iterator[Group]:
            for chunk in chunks(groups, BYTES):
                arrow.write_batch(record_batch(chunk, files))
                starts.append(starts[-1] + len(chunk))
                _write_hashes(hashes, chunk)
                queries.extend(_hash_query(group.query) for group in chunk)
                counts[0] += sum(len(group.positives) for group in chunk)
                counts[1] += sum(len(group.negatives) for group in chunk)
                counts[2] += sum(bool(group.scores) for group in chunk)
                yield from chunk

        fingerprint = groups_fingerprint(written())
    values = np.frombuffer(queries, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    np.stack([values[order], order.astype(np.uint64)]).tofile(folder / QUERIES)
    facts = dict(zip(("positives", "negatives", "scored"), counts, strict=True))
    return {"fingerprint": fingerprint, "starts": starts, "names": list(names), **facts}


def _write_hashes(target: IO[bytes], groups: Iterable[Group]) -> None:
    for group in groups:
        target.write(b"".join(map(hash_text, group.prompted.texts)))


def chunks(groups: Iterable[Group], characters: int) -> Iterator[list[Group]]:
    """The groups in order, some at a time: `ROWS`, or fewer that have so many characters together."""
    chunk: list[Group] = []
    size = 0
    for group in groups:
        chunk.append(group)
        size += sum(map(len, group.texts))
        if len(chunk) == ROWS or size >= characters:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def record_batch(groups: Sequence[Group], files: Mapping[str, int]) -> Any:
    """One row a group: its texts, the number of its file and its line, and what is often empty.

    Args:
        groups: to be written.
        files: number of each file that stands in `where` of a group.
    """
    import pyarrow as pa

    # From buffers: what makes arrays of Python's lists imports pandas, which takes half a second.
    def numbers(values: Iterable[float], kind: type = np.int64) -> Any:
        data: np.ndarray = np.fromiter(values, kind)
        return pa.Array.from_buffers(pa.from_numpy_dtype(kind), len(data), [None, pa.py_buffer(data)])

    def strings(texts: Iterable[str]) -> Any:
        data = [text.encode() for text in texts]
        buffers = [None, pa.py_buffer(_offsets(map(len, data))), pa.py_buffer(b"".join(data))]
        return pa.Array.from_buffers(pa.large_string(), len(data), buffers)

    def lists(rows: Sequence[tuple[Any, ...]], flat: Callable[[Iterator[Any]], Any]) -> Any:
        values = flat(value for row in rows for value in row)
        buffers = [None, pa.py_buffer(_offsets(map(len, rows)))]
        return pa.Array.from_buffers(pa.large_list(values.type), len(rows), buffers, children=[values])

    places = [group.where.rpartition(":") for group in groups]
    columns = {
        "query": strings(group.query for group in groups),
        "positives": lists([group.positives for group in groups], strings),
        "negatives": lists([group.negatives for group in groups], strings),
        "file": numbers(files[file] for file, _, _ in places),
        "line": numbers(int(line) for _, _, line in places),
        "grades": lists([group.grades for group in groups], numbers),
        "scores": lists([group.scores for group in groups], partial(numbers, kind=np.float64)),
        "query_prompt": strings(group.query_prompt for group in groups),
        "passage_prompt": strings(group.passage_prompt for group in groups),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _offsets(lengths: Iterable[int]) -> np.ndarray:
    """Where each of some pieces begins, and the end of the last, int64."""
    sizes = np.fromiter(lengths, np.int64)
    return np.concatenate(([0], np.cumsum(sizes)))
