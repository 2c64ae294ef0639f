"""Texts by id on disk: a corpus or queries of any size, memory-mapped, read and checked once.

Formats: BEIR's JSONL (`_id`, `text`, and for passages `title`) and MS MARCO's tables (`id<TAB>text`),
each also `.gz` or `.zst`.
"""

from __future__ import annotations

import codecs
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...configs.errors import UserError
from ..problems import NOT_UTF8, Problems
from ..rows import compression, parse_rows, read_lines
from ..store import (  # fmt: skip
    HASHES,
    SPANS,
    CacheEntry,
    Facts,
    KeyedStore,
    hash_file,
    hash_text,
    make_entry,
    sort_keys,
    watch,
)

VERSION = 1  # of the files of a store and of the checks behind them
TEXTS = "texts.bin"
FORMATS = ".jsonl with `_id` and `text`, or .tsv with id<TAB>text, each also .gz or .zst"
MOST_PROBLEMS = 100_000  # of one file: beyond, it is another kind of file, and the list would fill the memory

TextRow = tuple[str, str, str]  # where, id, text


class CorpusStore:
    """Texts by id, memory-mapped.

    Args:
        entry: of the cache; kept, because its files may not outlive it.
    """

    def __init__(self, entry: CacheEntry) -> None:
        self._entry = entry
        self._texts = KeyedStore(entry.folder, TEXTS, np.uint8)

    def __len__(self) -> int:
        return len(self._texts)

    def look_up(self, ids: Sequence[str]) -> list[str | None]:
        """Return the text of each id; None if the id is not here."""
        return [None if text is None else text.tobytes().decode() for text in self._texts.look_up(ids)]


def open_texts(path: Path, problems: Problems) -> CorpusStore:
    """Return the texts of a file by id; from the cache if it was read before.

    The cache key holds the hash of the file's bytes. If rows are wrong or empty, their problems are added
    to `problems`, the other rows are there, and nothing is cached. Memory to build it: 32 bytes an id.
    """
    lines = Problems()
    changed = watch([path])

    def build(folder: Path) -> tuple[Facts, bool]:
        _write(folder, path, lines)
        lines.extend(changed(), "file")
        return {}, not lines

    form = f"{text_format(path)}-{compression(path) or 'plain'}"
    entry = make_entry("texts", f"{form}-v{VERSION}-{hash_file(path)}", build)
    problems += lines
    return CorpusStore(entry)


def text_format(path: Path) -> str:
    """Return `jsonl` or `tsv` by the file's name; an empty string if it is neither."""
    suffix = path.with_suffix("").suffix if compression(path) else path.suffix
    return {".jsonl": "jsonl", ".json": "jsonl", ".tsv": "tsv"}.get(suffix.lower(), "")


def read_texts(path: Path, problems: Problems) -> Iterator[TextRow]:
    """Yield where, id and text of each valid row; note every other one.

    Repeated ids are not noticed here. A title stands before the text, as in BEIR.
    """
    read = _tsv_texts if text_format(path) == "tsv" else _json_texts
    try:
        yield from read(path, problems)
    except UserError as error:
        problems.extend(error.problems, "file")


def add_twice(problems: Problems, where: str, key: str) -> None:
    """Add the problem of an id that a file has more than once."""
    problems.add("twice", f"{where}: `_id` {key!r} stands twice in this file")


def in_order(problems: Problems, path: Path) -> Problems:
    """Sort problems of one file by line; those without a line come last."""

    def line(item: tuple[str, str]) -> float:
        number = item[1].removeprefix(f"{path}:").partition(":")[0]
        return int(number) if number.isdecimal() else math.inf

    return Problems(sorted(problems.items(), key=line))


def _json_texts(path: Path, problems: Problems) -> Iterator[TextRow]:
    for where, row in parse_rows(_lines(path, problems), str(path), problems):
        key, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        if not isinstance(key, str) or not key:
            problems.add("row", f"{where}: `_id` must be a string that is not empty")
        elif key.split() != [key]:
            problems.add("row", f"{where}: `_id` {key!r} has white space, which a TREC run file cannot hold")
        elif not isinstance(text, str) or not isinstance(title, str):
            problems.add("row", f"{where}: `text` (and `title`, if given) must be strings")
        elif not (title + text).strip():
            problems.add("empty document", f"{where}: empty text")
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
            key, *texts = line.rstrip(b"\r\n").decode().split("\t")
        except UnicodeDecodeError as error:
            problems.add("encoding", f"{where}: byte {error.start} is {NOT_UTF8}")
            continue
        if len(texts) != 1:
            problems.add(
                "row", f"{where}: {1 + len(texts)} columns separated by tabs; must be two, id and text"
            )
        elif key.split() != [key]:
            problems.add("row", f"{where}: id {key!r} is empty or has white space")
        elif not texts[0].strip():
            problems.add("empty document", f"{where}: empty text")
        else:
            yield where, key, texts[0]
    if empty:
        problems.add("file", f"{path}: no rows")


def _lines(path: Path, problems: Problems) -> Iterator[bytes]:
    """Yield lines until so much is wrong that it must be another kind of file."""
    before = len(problems)
    for line in read_lines(path):
        if len(problems) - before > MOST_PROBLEMS:
            problems.add("file", f"{path}: … and more; the rest was not read")
            return
        yield line


def _write(folder: Path, path: Path, problems: Problems) -> None:
    """Write the files of a store: texts as they are read, then hashes and spans sorted by hash."""
    with (
        (folder / HASHES).open("wb") as hashes,
        (folder / SPANS).open("wb") as stops,
        (folder / TEXTS).open("wb") as texts,
    ):
        stop = 0
        for _, key, text in read_texts(path, problems):
            hashes.write(hash_text(key))
            stop += texts.write(text.encode())
            stops.write(stop.to_bytes(8, sys.byteorder))
    if repeated := sort_keys(folder):
        seen: set[bytes] = set()
        for where, key, _ in read_texts(path, Problems()):  # again: the lines of ids were not kept
            if (name := hash_text(key)) in repeated:
                if name in seen:
                    add_twice(problems, where, key)
                seen.add(name)
        ordered = in_order(problems, path)
        problems.clear()
        problems += ordered
