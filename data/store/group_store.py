"""Groups on disk, as columns of Arrow: any number of them, memory-mapped, read and checked once."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import xxhash

from ...configs.errors import UserError
from ..groups import Group, groups_fingerprint, same_query
from ..problems import ERROR, Problems
from . import cache
from .keyed_store import hash_text
from .mapped import MappedFile

VERSION = 4  # of the files below and of the checks behind them
ROWS, BYTES = 1024, 1 << 22  # most of a record batch (one row may be larger): memory that iterating holds
ARROW, TEXTS, QUERIES, PROBLEMS = "groups.arrow", "texts.bin", "queries.bin", "problems.jsonl"


class GroupStore(Sequence[Group]):
    """Groups in an Arrow file: indexed through a memory map, iterated a record batch at a time.

    Attributes:
        names: files as the user gave them; `where` of a group is `name:line`.
        fingerprint: `groups_fingerprint`, computed while the rows were read.
        positives: number of them in all groups together.
        negatives: number of them in all groups together.
        scored: number of groups with a teacher's scores.
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
        """Return one group, or a list of some."""
        places = range(len(self))[index]
        return [self._group(place) for place in places] if isinstance(places, range) else self._group(places)

    def __iter__(self) -> Iterator[Group]:
        for batch in self._batches():
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield self._made(*row)

    @property
    def problems(self) -> Problems:
        """Problems of the rows when they were read; a row with an error is not among the groups."""
        with (self._entry.folder / PROBLEMS).open(encoding="utf-8") as stream:
            problems = Problems(map(json.loads, stream))
        return _renamed(problems, self._entry.facts["names"], self.names)

    def texts(self) -> Iterator[str]:
        """Yield every text with its prompt, group after group: query, positives, negatives."""
        for group in self:
            yield from group.prompted.texts

    def queries(self) -> Iterator[str]:
        """Yield the text of every query without reading the passages."""
        for batch in self._batches(columns=[0]):
            yield from batch.column("query").to_pylist()

    def text_hashes(self) -> np.ndarray:
        """Return `hash_text` of every text in the order of `texts()`, shape (T, 2), uint64, memory-mapped."""
        return MappedFile(self._entry.folder / TEXTS).array(np.uint64).reshape(-1, 2)

    def shared_queries(self, texts: Iterable[str]) -> list[str]:
        """Return the texts that equal a query here, ignoring case, whitespace and punctuation."""
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
    """Return the groups made of files; from the cache if they were made before.

    The cache key holds the hash of the files' bytes. Problems of rows are kept with the groups of the
    other rows and reported each time; after a problem of a whole file nothing is kept.

    Args:
        form: everything else the groups depend on: letters, digits, `-` and `.`.
        files: the sources.
        make_groups: called if the groups are not in the cache, with a list for its problems, each of
            which begins with one of the names; a `UserError` is about whole files.
        problems: receives the problems.
        names: stand before the line in `where` of the groups; the files if empty.
        skipped: if given, receives the problems of rows in place of `problems`.
    """
    names = list(names) or [str(file) for file in files]
    fatal = Problems()
    changed = cache.watch(files)

    def build(folder: Path) -> tuple[cache.Facts, bool]:
        lines = Problems()

        def guarded() -> Iterator[Group]:
            try:
                yield from make_groups(lines)
            except UserError as error:
                fatal.extend(error.problems, "file")

        facts = _write(folder, guarded(), names)
        fatal.extend(lines.of("file"))
        fatal.extend(changed(), "file")
        with (folder / PROBLEMS).open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(item) + "\n" for item in lines.items() if item[0] != "file")
        return facts, not fatal

    hashes = [cache.hash_file(file) for file in files]
    name = hashes[0] if len(hashes) == 1 else xxhash.xxh3_128_hexdigest(" ".join(hashes).encode())
    store = GroupStore(cache.make_entry("groups", f"{form}-v{VERSION}-{name}", build), names)
    (problems if skipped is None else skipped).extend(store.problems.of(ERROR))
    problems += fatal
    return store if len(store) else []


def shared_queries(groups: Sequence[Group], texts: Iterable[str]) -> list[str]:
    """Return the texts that equal a query of the groups, ignoring case, whitespace and punctuation."""
    if isinstance(groups, GroupStore):
        return groups.shared_queries(texts)
    known = {same_query(group.query) for group in groups}
    return [text for text in texts if same_query(text) in known]


def fingerprint_of(groups: Sequence[Group]) -> str:
    """Return `groups_fingerprint`, which a store already knows."""
    return groups.fingerprint if isinstance(groups, GroupStore) else groups_fingerprint(groups)


def _hash_query(text: str) -> int:
    return xxhash.xxh3_64_intdigest(same_query(text).encode("utf-8", "surrogatepass"))


def _renamed(problems: Problems, before: Sequence[str], names: Sequence[str]) -> Problems:
    """Let problems name the same bytes in another place."""
    if not problems or list(before) == list(names):
        return problems
    now = dict(zip(before, names, strict=True))
    longest_first = sorted(map(re.escape, before), key=len, reverse=True)
    pattern = re.compile(rf"({'|'.join(longest_first)})(?=:)")
    return Problems((kind, pattern.sub(lambda match: now[match[1]], text)) for kind, text in problems.items())


def _write(folder: Path, groups: Iterable[Group], names: Sequence[str]) -> cache.Facts:
    """Write the files of a store in one pass; memory grows by 8 bytes a group."""
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
                for group in chunk:
                    hashes.write(b"".join(map(hash_text, group.prompted.texts)))
                    queries.append(_hash_query(group.query))
                    counts[0] += len(group.positives)
                    counts[1] += len(group.negatives)
                    counts[2] += bool(group.scores)
                yield from chunk

        fingerprint = groups_fingerprint(written())
    values = np.frombuffer(queries, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    np.stack([values[order], order.astype(np.uint64)]).tofile(folder / QUERIES)
    facts = dict(zip(("positives", "negatives", "scored"), counts, strict=True))
    return {"fingerprint": fingerprint, "starts": starts, "names": list(names), **facts}


def chunks(groups: Iterable[Group], characters: int) -> Iterator[list[Group]]:
    """Yield the groups in order, `ROWS` at a time, or fewer if they reach so many characters."""
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
    """Return one row a group: its texts, the number of its file, its line, and what is often empty.

    Args:
        groups: the rows.
        files: number of each file that stands in `where` of a group.
    """
    import pyarrow as pa

    # From buffers: making arrays of Python lists imports pandas, which takes half a second.
    def numbers(values: Iterable[float], kind: type = np.int64) -> Any:
        data: np.ndarray = np.fromiter(values, kind)
        return pa.Array.from_buffers(pa.from_numpy_dtype(kind), len(data), [None, pa.py_buffer(data)])

    def strings(texts: Iterable[str]) -> Any:
        data = [text.encode() for text in texts]
        buffers = [None, pa.py_buffer(_offsets(map(len, data))), pa.py_buffer(b"".join(data))]
        return pa.Array.from_buffers(pa.large_string(), len(data), buffers)

    def lists(name: str, flat: Callable[[Iterator[Any]], Any] = strings) -> Any:
        rows = [getattr(group, name) for group in groups]
        values = flat(value for row in rows for value in row)
        buffers = [None, pa.py_buffer(_offsets(map(len, rows)))]
        return pa.Array.from_buffers(pa.large_list(values.type), len(rows), buffers, children=[values])

    places = [group.where.rpartition(":") for group in groups]
    columns = {
        "query": strings(group.query for group in groups),
        "positives": lists("positives"),
        "negatives": lists("negatives"),
        "file": numbers(files[file] for file, _, _ in places),
        "line": numbers(int(line) for _, _, line in places),
        "grades": lists("grades", numbers),
        "scores": lists("scores", partial(numbers, kind=np.float64)),
        "query_prompt": strings(group.query_prompt for group in groups),
        "passage_prompt": strings(group.passage_prompt for group in groups),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _offsets(lengths: Iterable[int]) -> np.ndarray:
    """Return the start of each piece and the end of the last, int64."""
    sizes = np.fromiter(lengths, np.int64)
    return np.concatenate(([0], np.cumsum(sizes)))
