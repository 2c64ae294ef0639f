"""Rows of any file, one at a time: JSONL, JSON, CSV, TSV, Parquet and Arrow; text files also compressed.

A row comes as `(where, object)`: `where` is `file:line`, the line on which it begins, or in Parquet and Arrow
the number of the row from 1. After a problem of a row the next one follows; a problem of the whole file (kind
`file`) ends it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ..problems import Problems
from . import csv_tsv, json_array
from .jsonl import parse_rows
from .lines import compression, read_lines

Row = tuple[str, dict[str, Any]]
TEXT_KINDS = ("jsonl", "json", "csv", "tsv")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
ARROW_KINDS = ("parquet", "arrow", "feather")
_SPLITS = {"train": "train", "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev", "test": "test"}
_SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")  # written by `save_to_disk` beside its rows


def kind_of_file(path: Path) -> str:
    """Return `jsonl`, `json`, `csv`, `tsv`, `parquet`, `arrow` or `feather` by the file's name, else nothing.

    >>> kind_of_file(Path("rows.CSV.gz")), kind_of_file(Path("rows"))
    ('csv', '')
    """
    name = path.name.lower()
    if compression(path):
        name = name.rpartition(".")[0]
    end = name.rpartition(".")[2] if "." in name else ""
    return end if end in (*TEXT_KINDS, *ARROW_KINDS) else ""


def looks_like_beir(path: Path) -> bool:
    """Return True for BEIR data: a folder with its files, or one table of judgments."""
    if path.is_dir():
        names = [file.name for file in path.iterdir()]
        marked = any(re.match(r"(corpus|queries)\.jsonl", name) or name == "qrels" for name in names)
        return marked or not (row_files(path) or {"dataset_dict.json", "state.json"} & set(names))
    return kind_of_file(path) == "tsv" and (path.parent.name == "qrels" or _has_qrels_header(path))


def row_files(path: Path) -> list[Path]:
    """Return the file itself, or the files of a folder that have rows, by name."""
    if not path.is_dir():
        return [path]
    state = path / "state.json"
    if state.is_file():
        return _saved_files(path, state)
    files = [file for file in path.iterdir() if file.is_file() and file.name[0] not in "._"]
    return sorted(file for file in files if kind_of_file(file) and file.name not in _SAVED)


def find_files(path: Path, split: str, problems: Problems) -> list[Path]:
    """Return the `row_files` of a path; of a saved `DatasetDict`, those of the split.

    Files named after several splits are a problem: training would read its test data.
    """
    if (path / "dataset_dict.json").is_file():
        present = sorted(part.name for part in path.iterdir() if (part / "state.json").is_file())
        wanted = next((name for name in present if _SPLITS.get(name, name) == split), None)
        if wanted is None:
            problems.add(
                "file", f"{path}: no split {split!r}; there are {', '.join(present)}: give one of these"
            )
            return []
        path = path / wanted
    files = row_files(path)
    splits = {_split_of(file) for file in files} - {""} if path.is_dir() else set()
    if len(splits) > 1:
        named = ", ".join(file.name for file in files if _split_of(file))
        problems.add("file", f"{path}: has files of several splits ({named}): give one file")
        return []
    if not files:
        problems.add("file", f"{path}: the folder has no file with rows")
    return files


def read_rows(path: Path, name: str, problems: Problems) -> Iterator[Row]:
    """Yield the rows of a file, which is called `name` in `where`."""
    kind = kind_of_file(path)
    reader: Callable[[Path, str, Problems], Iterable[Row]]
    if kind in ("csv", "tsv"):
        reader = csv_tsv.read_csv_rows
    elif kind in ARROW_KINDS:
        from .arrow import read_arrow_rows

        reader = read_arrow_rows
    elif kind == "json" and json_array.is_array(path):
        reader = json_array.read_array_rows
    else:
        reader = _read_json_lines
        if wrong := _no_json(path):
            problems.add("file", f"{name}: {wrong}")
            return
    empty, before = True, len(problems)
    try:
        for row in reader(path, name, problems):
            empty = False
            yield row
    except UserError as error:
        problems.extend(error.problems, "file")
    except OSError as error:
        problems.add("file", f"{name}: cannot be read ({error.strerror or error})")
    if empty and len(problems) == before:
        problems.add("file", f"{name}: no rows")


def _no_json(path: Path) -> str:
    """Return why a file whose name ends in none of the known kinds cannot be JSON lines, else nothing."""
    if kind_of_file(path):
        return ""
    end = path.suffix.lower()
    if end in SPREADSHEETS:
        return "a spreadsheet; save it as CSV UTF-8"
    first = next((line for line in read_lines(path) if line.strip()), b"{").removeprefix(b"\xef\xbb\xbf")
    if first.lstrip()[:1] in (b"{", b"["):
        return ""
    allowed = ", ".join(f".{kind}" for kind in (*TEXT_KINDS, *ARROW_KINDS))
    return f"no JSON lines, and its name says no other kind: name it after what it is ({allowed})"


def _read_json_lines(path: Path, name: str, problems: Problems) -> Iterator[Row]:
    return parse_rows(read_lines(path), name, problems)


def _saved_files(folder: Path, state: Path) -> list[Path]:
    try:
        listed = [folder / entry["filename"] for entry in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError):
        return sorted(folder.glob("*.arrow"))
    return listed


def _split_of(file: Path) -> str:
    return _SPLITS.get(re.split(r"[.\-_]", file.name.lower())[0], "")


def _has_qrels_header(path: Path) -> bool:
    try:
        first = next(read_lines(path), b"")
    except (OSError, UserError):
        return False
    return (
        re.match(rb"(\xef\xbb\xbf)?query[-_]id\t(corpus|doc|passage)[-_]id\t", first, re.IGNORECASE)
        is not None
    )
