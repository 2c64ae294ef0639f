"""Read a path of any format as groups or as judged queries."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from .groups import Collection, Group
from .judged import (
    describe_files,
    given_files,
    read_beir_collection,
    read_beir_groups,
    read_role_groups,
    read_role_judged,
)
from .problems import ERROR, WARNING, Problems
from .rows import (
    as_collection,
    compression,
    find_files,
    is_named,
    is_triples,
    iterate_named_groups,
    iterate_tables,
    kind_of_file,
    looks_like_beir,
    read_named_groups,
    read_named_judged,
    tables_of,
)
from .store import keep_groups

log = logging.getLogger(__name__)
FORMATS = (
    "a file with rows (.jsonl, .json, .csv, .tsv, .parquet, .arrow; texts also .gz, .zst), a folder of them, "
    "a BEIR folder, one .tsv file of a BEIR folder's qrels/, hf://DATASET:CONFIG:SPLIT, "
    "or mteb://TASK:SUBSET:SPLIT (to evaluate)"
)


def read_groups(
    path: str | Mapping[str, Any],
    problems: Problems,
    *,
    split: str = "train",
    need_negatives: bool = True,
    skipped: Problems | None = None,
) -> Sequence[Group]:
    """Return the groups of a source; they are in the cache (`GroupStore`), not in memory.

    Args:
        path: the path as given; a mapping names judgments, runs and texts by ids, see `judged/by_role.py`.
        problems: receives the problems.
        split: the split to read of a source that has several.
        need_negatives: True makes a group without negatives a problem.
        skipped: if given, receives the problems of rows in place of `problems`.
    """
    path = given_files(path)
    if not isinstance(path, str):
        return read_role_groups(path, problems, need_negatives=need_negatives, skipped=skipped)
    if is_named(path):
        return read_named_groups(path, problems, split=split, need_negatives=need_negatives, skipped=skipped)
    location = Path(path)
    if not _readable(path, problems):
        return []
    if is_beir(path):
        return read_beir_groups(location, split, problems, need_negatives=need_negatives, skipped=skipped)
    files = find_files(location, split, problems)
    if not files:
        return []

    def make(found: Problems) -> Iterator[Group]:
        given = tables_of(files)
        return iterate_tables(given, found, need_negatives=need_negatives, notes=found)

    form = f"{_form(files)}-{'train' if need_negatives else 'judged'}"
    return keep_groups(form, files, make, problems, skipped=skipped)


def iterate_groups(
    path: str, problems: Problems, *, split: str = "train", need_negatives: bool = True
) -> Iterator[Group]:
    """Yield a group for each row, in order, without a cache; `problems` grow as rows are read."""
    if is_named(path):
        yield from iterate_named_groups(path, problems, split=split, need_negatives=need_negatives)
    elif _readable(path, problems) and is_beir(path):
        problems.add("file", f"{path}: BEIR data cannot be streamed: only files with rows can")
    elif Path(path).exists():
        files = find_files(Path(path), split, problems)
        yield from iterate_tables(tables_of(files), problems, need_negatives=need_negatives, merge=False)


def read_judged(
    path: str | Mapping[str, Any], problems: Problems, *, split: str, skip: bool = False
) -> Collection | None:
    """Return the judged queries of a source; None if it cannot be read.

    What is harmless (a judgment whose document is not there, a table read by the order of its columns) is
    logged, and stands in `notes` of the collection.

    Args:
        path: the path as given, or a mapping of files by role.
        problems: receives the problems.
        split: the split to read of a source that has several.
        skip: leave out rows with problems, and note their number.
    """
    path, found = given_files(path), Problems()
    collection = _judged(path, found, split)
    errors = found.of(ERROR)
    rows = Problems(item for item in errors.items() if item[0] != "file")
    notes = [*found.of(WARNING)]
    if skip and rows and collection is not None and collection.queries:
        errors = errors.of("file")
        notes.append(f"rows left out by data.on_error=skip: {len(rows):,}, the first is {rows[0]}")
    problems += errors
    if collection is None:
        return None
    if not errors and not any(grade > 0 for row in collection.qrels.values() for grade in row.values()):
        problems.add("file", f"{describe_files(path)}: no passage of any query is relevant")
    notes = [*collection.notes, *notes]
    for note in notes:
        log.warning("%s", note)
    return dataclasses.replace(collection, notes=tuple(notes))


def _judged(path: str | Mapping[str, Any], problems: Problems, split: str) -> Collection | None:
    if not isinstance(path, str):
        return read_role_judged(path, problems)
    if is_named(path):
        return read_named_judged(path, problems, split=split)
    location = Path(path)
    if not _readable(path, problems):
        return None
    if is_beir(path):
        return read_beir_collection(location, split, problems)
    files, notes = find_files(location, split, problems), Problems()
    groups = iterate_tables(tables_of(files), problems, need_negatives=False, notes=notes)
    collection = as_collection(location, groups, list(map(str, files)))
    problems += notes.of("columns")
    return collection


def is_beir(path: str) -> bool:
    """Return True for BEIR data: a folder with its files, or one `.tsv` file of judgments."""
    return not is_named(path) and looks_like_beir(Path(path))


def _form(files: Sequence[Path]) -> str:
    """Return the part of a cache name that says how files of these names are read."""
    forms = [
        "-".join([kind_of_file(file) or "jsonl", compression(file) or "plain"])
        + "-triples" * is_triples(file)
        for file in files
    ]
    return forms[0] if len(forms) == 1 else f"folder-{xxhash.xxh3_64_hexdigest(' '.join(forms).encode())}"


def _readable(path: str, problems: Problems) -> bool:
    location = Path(path)
    if not location.exists():
        problems.add("file", f"{path}: no such file or folder; allowed is {FORMATS}")
        return False
    if not (location.is_dir() or location.is_file()):
        problems.add("file", f"{path}: a pipe or a device; write its content to a file first")
        return False
    if location.is_dir() and not any(location.iterdir()):
        problems.add("file", f"{path}: the folder is empty; allowed is {FORMATS}")
        return False
    return True
