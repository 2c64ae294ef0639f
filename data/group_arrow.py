"""Groups as columns of Arrow, as a store keeps them on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .groups import Group


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
