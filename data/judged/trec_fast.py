"""Read a large well-formed TREC table quickly, or not at all.

The reader of `trec.py` names each wrong line, at two microseconds a line. Here Arrow parses whole blocks
of lines; at the first sign of anything unusual the result is None, and the slow reader decides. So this one
has no messages, and must never accept what the other refuses or reads differently.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 2**24  # bytes
_LARGE = 2**20  # below this, importing Arrow takes longer than reading
_HEX = re.compile(rb"0[xX]")  # a whole number only for Arrow


def read_columns(path: Path, columns: int, value_column: int, largest: float, kind: type) -> Any:
    """Return column 0 to column 2 to a value; None if the file is small or any line is unusual.

    Args:
        path: the file.
        columns: number of columns, separated by one blank or one tab each.
        value_column: place of the value.
        largest: largest absolute value.
        kind: type of the value, int or float.
    """
    if not path.is_file() or path.stat().st_size < _LARGE:
        return None
    table: dict[str, dict[str, Any]] = {}
    for block in _blocks(path):
        separator = b"\t" if b"\t" in block else b" "
        if not _plain(block, separator) or (kind is int and _HEX.search(block)):
            return None
        parsed = _parsed(block, separator, columns, value_column, kind)
        if parsed is None:
            return None
        queries, documents, values = parsed
        if not len(values):  # blank lines
            continue
        # Written so that NaN fails, and without abs(), which keeps the smallest integer negative.
        if not (values.max() <= largest and values.min() >= -largest):
            return None
        if not _add(table, queries, documents, values.tolist()):
            return None
    return table


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield the file in pieces that end with a line, without a byte order mark."""
    with path.open("rb") as stream:
        if stream.read(len(BOM_UTF8)) != BOM_UTF8:
            stream.seek(0)
        while block := stream.read(_BLOCK):
            yield block + stream.readline()


def _plain(block: bytes, separator: bytes) -> bool:
    """Return whether the block has no blanks but the separator, and no line ends but LF and CRLF."""
    if any(blank in block for blank in (b"\t", b"\v", b"\f", b" ") if blank != separator):
        return False
    return b"\r" not in block or block.count(b"\r") == block.count(b"\r\n")


def _parsed(
    block: bytes, separator: bytes, columns: int, value_column: int, kind: type
) -> tuple[Any, Any, np.ndarray] | None:
    """Return queries, documents and values of a block; None if Arrow cannot read it or a field is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    names = [str(column) for column in range(columns)]
    types = dict.fromkeys(names, pa.string()) | {
        names[value_column]: pa.int64() if kind is int else pa.float64()
    }
    try:
        table = csv.read_csv(
            pa.BufferReader(block),
            read_options=csv.ReadOptions(column_names=names, block_size=2 * len(block)),
            parse_options=csv.ParseOptions(delimiter=separator.decode(), quote_char=False),
            convert_options=csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    read = [column.combine_chunks() for column in table.columns]
    # Two separators in a row, or one at either end of a line, are an empty column only for Arrow.
    texts = (column for place, column in enumerate(read) if place != value_column)
    if any(pc.min(pc.binary_length(column)).as_py() == 0 for column in texts):
        return None
    return read[0], read[2], read[value_column].to_numpy(zero_copy_only=False)


def _add(table: dict[str, dict[str, Any]], queries: Any, documents: Any, values: list[Any]) -> bool:
    """Add a block's rows; False if a query has a document twice."""
    import pyarrow.compute as pc

    ids = documents.to_numpy(zero_copy_only=False)  # (n,) of str
    changes = pc.not_equal(queries[1:], queries[:-1]).to_numpy(zero_copy_only=False)
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(ids)]
    for start, stop in pairwise(bounds):
        row = dict(zip(ids[start:stop], values[start:stop], strict=True))
        known = table.setdefault(queries[start].as_py(), row)
        if len(row) < stop - start or (known is not row and not known.keys().isdisjoint(row)):
            return False
        known.update(row)
    return True
