"""The order of trec_eval: every ranking in Uprank is made here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt


def trec_order(documents: Sequence[str], scores: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return positions of the documents, best first.

    Float32 score descending, then id descending by UTF-8 bytes: trec_eval 9.0.8 keeps scores as C floats and
    breaks ties this way.

    Args:
        documents: n ids.
        scores: (n,) numbers, none of them NaN.

    >>> trec_order(["9", "10", "a"], [1.0, 1.0, 2.0]).tolist()
    [2, 0, 1]
    """
    with np.errstate(over="ignore"):  # a large double becomes infinite, and a tie, as in C
        singles = np.asarray(scores, dtype=np.float64).astype(np.float32)
    return trec_orders([documents], singles[None, :])[0]


def trec_orders(rows: Sequence[Iterable[str]], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return `trec_order` of many rankings at once: (Q, K) positions, best first, padding last.

    Args:
        rows: document ids of each of Q rankings, at most K.
        scores: (Q, K) float32, NaN as padding.
    """
    keys = -scores
    order = np.argsort(keys, axis=1)
    keys = np.take_along_axis(keys, order, axis=1)
    tied = np.zeros((len(keys), keys.shape[1] + 1), dtype=bool)  # whether equal to the one before
    tied[:, 1:-1] = keys[:, 1:] == keys[:, :-1]
    if not tied.any():
        return order
    edges = np.flatnonzero(tied.ravel()[1:] != tied.ravel()[:-1]).reshape(-1, 2)  # first and last of a tie
    members = tied[:, :-1] | tied[:, 1:]
    places = iter(order[members].tolist())
    sorted_places: list[int] = []
    row_before, ids = -1, list[str]()
    sizes = (edges[:, 1] - edges[:, 0] + 1).tolist()
    for row, size in zip((edges[:, 0] // tied.shape[1]).tolist(), sizes, strict=True):
        if row != row_before:
            row_before, ids = row, list(rows[row])
        # Python compares text by code point, which is the order of its UTF-8 bytes.
        sorted_places += sorted(islice(places, size), key=ids.__getitem__, reverse=True)
    order[members] = sorted_places
    return order
