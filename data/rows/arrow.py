"""Rows of Parquet files and of Arrow's IPC files and streams (Feather, `datasets`), a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ..problems import Problems
from .fields import named_classes
from .lines import compression

ROWS = 256  # held as Python objects at a time


def read_arrow_rows(path: Path, name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(name:number, object)` of each row, counted from 1; a bad row is a problem.

    Raises:
        UserError: the file is damaged, compressed once more, or has a column twice.
    """
    if compression(path):
        raise UserError(f"{name}: Parquet and Arrow compress their own columns; unpack the file")
    number, names = 0, dict[str, list[str]]()
    with _reported(name):
        for batch in _batches(path):
            names = _class_names(batch.schema) if not number else names
            for start in range(0, batch.num_rows, ROWS):
                chunk = batch.slice(start, ROWS)
                for row in _values(chunk, name, number, problems):
                    number += 1
                    if row is not None:
                        yield f"{name}:{number}", named_classes(row, names)


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the class names that `datasets` has written beside the columns."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about["info"]["features"].items()
        return {column: one["names"] for column, one in features if one.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


@contextmanager
def _reported(name: str) -> Iterator[None]:
    """Raise Arrow's errors as a problem of the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:  # its errors are also ValueError, OSError, …
        raise UserError(f"{name}: damaged, or not what its name says ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        # Not mapped: every page it touches would count as this process's memory.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            _require_once(path, file.schema_arrow.names)
            yield from file.iter_batches(batch_size=ROWS, use_threads=False)
        return
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            _require_once(path, reader.schema.names)
            yield from reader
        else:
            _require_once(path, reader.schema.names)
            for place in range(reader.num_record_batches):
                yield reader.get_batch(place)


def _require_once(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: columns stand twice: {', '.join(twice)}")


def _values(batch: Any, name: str, number: int, problems: Problems) -> Iterator[dict[str, Any] | None]:
    """Yield rows, None for a bad one. A batch is validated first: damaged offsets would end the process."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
        rows = batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        if batch.num_rows > 1:
            for place in range(batch.num_rows):
                yield from _values(batch.slice(place, 1), name, number + place, problems)
            return
        reason = _reason(error)
        kind = "encoding" if "UTF8" in reason or isinstance(error, UnicodeDecodeError) else "broken row"
        problems.add(kind, f"{name}:{number + 1}: cannot be read ({reason})")
        yield None
    else:
        yield from rows
