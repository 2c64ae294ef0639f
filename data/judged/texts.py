"""Texts by id on disk: a corpus or queries of any size, memory-mapped, read and checked once and then kept.

Formats: BEIR's JSONL (`_id`, `text`, and for passages `title`) and MS MARCO's tables (`id<TAB>text`),
each also `.gz` or `.zst`.
"""

from __future__ import annotations

import codecs
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...configs.errors import UserError
from ..problems import Problems
from ..rows import compression, parse_rows, read_lines
from ..store import CacheEntry, Facts, MappedFile, hash_file, hash_text, hash_texts, make_entry

VERSION = 1  # of what the files below hold and of the checks behind them
HASHES, SPANS, TEXTS = "hashes.bin", "spans.bin", "texts.bin"
_HIGH, _LOW = "high.bin", "low.bin"  # halves of the hashes, until they are sorted
FORMATS = ".jsonl with `_id` and `text`, or .tsv with id<TAB>text, each also .gz or .zst"
MOST_PROBLEMS = 100_000  # of one file: beyond, it is another kind of file, and the list would fill the memory

TextRow = tuple[str, str, str]  # where, id, text


class CorpusStore:
    """Texts by id, memory-mapped: an id's hash is searched in a sorted array.

    An id has 128 bits of hash, so that two ids are never taken for one in practice. On disk are 32
    bytes an id beside the texts; in memory is only what was just read.
    """

    def __init__(self, entry: CacheEntry) -> None:
        files = [MappedFile(entry.folder / name) for name in (HASHES, SPANS, TEXTS)]
        self._high, self._low = files[0].array(np.uint64).reshape(2, -1)
        self._spans = files[1].array(np.int64).reshape(2, -1)
        self._texts = files[2]
        self._files = files
        self._entry = entry  # whose files may not outlive it

    def __len__(self) -> int:
        return len(self._high)

    def look_up(self, ids: Sequence[str]) -> list[str | None]:
        """The text of each id; None of an id that is not here."""
        high, low = hash_texts(ids).T
        found: list[str | None] = [None] * len(ids)
        first, end = (np.searchsorted(self._high, high, side=side) for side in ("left", "right"))
        for place in np.flatnonzero(first < end).tolist():
            for row in range(first[place], end[place]):  # nearly always one
                if self._low[row] == low[place]:
                    start, stop = self._spans[:, row].tolist()
                    found[place] = self._texts.buffer[start:stop].decode()
                    break  # the first, where an id stands twice
        for file in self._files:
            file.count(len(ids))
        return found


def open_texts(path: Path, problems: Problems) -> CorpusStore:
    """The texts of a file by id; from the cache if it was read before.

    The cache's name for them holds the hash of the file's bytes. What is wrong with rows is added to
    `problems` each time and nothing is cached; the other rows are there.
    Memory to build it: 32 bytes an id.
    """
    found = Problems()
    before = path.stat()

    def build(folder: Path) -> tuple[Facts, bool]:
        _write(folder, path, found)
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            found.add("file", f"{path}: was changed while it was read")
        return {}, not found

    form = f"{text_format(path)}-{compression(path) or 'plain'}"
    entry = make_entry("texts", f"{form}-v{VERSION}-{hash_file(path)}", build)
    problems += found
    return CorpusStore(entry)


def text_format(path: Path) -> str:
    """`jsonl` or `tsv` by the name of a file; nothing for a name that is neither."""
    suffix = path.with_suffix("").suffix if compression(path) else path.suffix
    return {".jsonl": "jsonl", ".json": "jsonl", ".tsv": "tsv"}.get(suffix.lower(), "")


def read_texts(path: Path, problems: Problems) -> Iterator[TextRow]:
    """Where, id and text of each right row, as the file is read; note every other one.

    An id that stands twice is not seen here. A title stands before the text, as in BEIR.
    """
    read = _tsv_texts if text_format(path) == "tsv" else _json_texts
    try:
        yield from read(path, problems)
    except UserError as error:
        problems.extend(error.problems, "file")


def add_twice(problems: Problems, where: str, key: str) -> None:
    """Add the problem of an id that stands more than once in a file."""
    problems.add("twice", f"{where}: `_id` {key!r} stands twice in this file")


def in_order(problems: Problems, path: Path) -> Problems:
    """Problems of one file by the line that they name; those without a line come last."""

    def line(item: tuple[str, str]) -> float:
        number = item[1].removeprefix(f"{path}:").partition(":")[0]
        return int(number) if number.isdecimal() else math.inf

    return Problems(sorted(problems.items(), key=line))


def _json_texts(path: Path, problems: Problems) -> Iterator[TextRow]:
    for where, row in parse_rows(_lines(path, problems), str(path), problems):
        key, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        if not isinstance(key, str) or not key:
            problems.add("row", f"{where}: `_id` has to be a string that is not empty")
        elif key.split() != [key]:
            problems.add("row", f"{where}: `_id` {key!r} has white space, which a TREC run file cannot hold")
        elif not isinstance(text, str) or not isinstance(title, str):
            problems.add("row", f"{where}: `text` (and `title`, if given) have to be strings")
        elif not (title + text).strip():
            problems.add("empty text", f"{where}: empty text")
        else:
            yield where, key, f"{title} {text}".strip() if title else text


def _tsv_texts(path: Path, problems: Problems) -> Iterator[TextRow]:
    empty = True
    for number, line in enumerate(_lines(path, problems), 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        empty, where = False, f"{path}:{number}"
        try:
            fields = line.rstrip(b"\r\n").decode().split("\t")
        except UnicodeDecodeError as error:
            problems.add("encoding", f"{where}: not UTF-8 ({error.reason} at byte {error.start})")
            continue
        if len(fields) != 2:
            problems.add(
                "row", f"{where}: {len(fields)} columns apart by tabs; there have to be two, id and text"
            )
        elif fields[0].split() != [fields[0]]:
            problems.add("row", f"{where}: id {fields[0]!r} is empty or has white space")
        elif not fields[1].strip():
            problems.add("empty text", f"{where}: empty text")
        else:
            yield where, fields[0], fields[1]
    if empty:
        problems.add("file", f"{path}: no rows")


def _lines(path: Path, problems: Problems) -> Iterator[bytes]:
    """Lines to the end of the file, or until so much is wrong that it must be another kind of file."""
    before = len(problems)
    for line in read_lines(path):
        if len(problems) - before > MOST_PROBLEMS:
            problems.add("file", f"{path}: … and more; the rest was not read")
            return
        yield line


def _write(folder: Path, path: Path, problems: Problems) -> None:
    """Write texts one after another as they are read, then hashes and places of the ids in order of hash."""
    with (
        (folder / _HIGH).open("wb") as high,
        (folder / _LOW).open("wb") as low,
        (folder / SPANS).open("wb") as stops,
        (folder / TEXTS).open("wb") as texts,
    ):
        stop = 0
        for _, key, text in read_texts(path, problems):
            data, name = text.encode(), hash_text(key)
            stop += len(data)
            high.write(name[:8])
            low.write(name[8:])
            stops.write(stop.to_bytes(8, sys.byteorder))
            texts.write(data)
    if repeated := _sort(folder):
        seen: set[bytes] = set()
        for where, key, _ in read_texts(path, Problems()):  # once more: where an id stands was not kept
            if (name := hash_text(key)) in repeated:
                if name in seen:
                    add_twice(problems, where, key)
                seen.add(name)
        ordered = in_order(problems, path)
        problems.clear()
        problems += ordered


def _sort(folder: Path) -> set[bytes]:
    """Bring what was written into the order of the hashes; returns the hashes that are there twice."""
    high = np.fromfile(folder / _HIGH, np.uint64)
    order = np.argsort(high, kind="stable")
    with (folder / HASHES).open("wb") as target:
        high = high[order]
        high.tofile(target)
        ties = np.flatnonzero(high[1:] == high[:-1])
        ties = np.union1d(ties, ties + 1)
        tied = high[ties]
        del high
        low = np.fromfile(folder / _LOW, np.uint64)[order]
        low.tofile(target)
        tied = np.stack([tied, low[ties]], axis=1)
        del low
    stops = np.fromfile(folder / SPANS, np.int64)
    with (folder / SPANS).open("wb") as target:
        np.concatenate(([0], stops[:-1]))[order].tofile(target)
        stops[order].tofile(target)
    for name in (_HIGH, _LOW):
        (folder / name).unlink()
    counts = Counter(name.tobytes() for name in tied)
    return {name for name, count in counts.items() if count > 1}
