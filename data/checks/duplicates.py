"""Repeated rows and passages, and rows of one query that judge the same passage differently."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np

from ..groups import Group, same_query, same_text
from ..problems import Findings
from .similarity import Hashes, Pieces, Places, mixed

_NEGATIVE = np.uint64(0x5851F42D4C957F2D)  # sets the hash of a negative apart from that of a positive


def row_keys(groups: Sequence[Group], keys: Hashes, starts: Places) -> Hashes:
    """Hash each group, ignoring the order of its passages, case, blanks and punctuation.

    Args:
        groups: some groups.
        keys: hashes of their texts, group after group, each `query, *positives, *negatives`.
        starts: index of the first text of each group, and the end.
    """
    is_negative = _roles(groups, starts)[1]
    parts = mixed(keys ^ np.where(is_negative, _NEGATIVE, np.uint64(0)))
    parts[starts[:-1]] = mixed(parts[starts[:-1]])  # a query is no passage
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(parts, dtype=np.uint64)))
    return sums[starts[1:]] - sums[starts[:-1]]


def find_repeated_passages(
    groups: Sequence[Group], pieces: Pieces, starts: Places, findings: Findings
) -> None:
    """Find passages repeated within a group and role, ignoring case, blanks and punctuation."""
    owners, is_negative = _roles(groups, starts)
    keys = mixed(pieces.keys ^ mixed((2 * owners + is_negative).astype(np.uint64)))
    keys[starts[:-1]] = np.arange(len(groups), dtype=np.uint64)  # queries
    first = np.unique(keys, return_index=True)[1]
    again = np.ones(len(keys), dtype=bool)
    again[first] = False
    for text in np.flatnonzero(again).tolist():
        group = groups[owners[text]]
        role = "negative" if is_negative[text] else "positive"
        words = f"{role} stands more than once: {group.texts[text - starts[owners[text]]]!r:.80}"
        findings.add("duplicate passage", f"{group.where}: {words}")


def find_repeated_rows(keys: array[int], group: Callable[[int], Group], findings: Findings) -> None:
    """Find groups that repeat an earlier one, ignoring order, case, blanks and punctuation.

    Args:
        keys: `row_keys` of every group.
        group: returns a group by its index.
        findings: receives the repetitions.
    """
    values = np.frombuffer(keys, np.uint64)
    first, inverse = np.unique(values, return_index=True, return_inverse=True)[1:]
    again = np.flatnonzero(first[inverse.ravel()] != np.arange(len(values)))
    shown = again if findings.limit is None else again[: findings.limit]
    for place in shown.tolist():
        words = f"the row stands before, {group(int(first[inverse[place]])).where}"
        findings.add("duplicate row", f"{group(place).where}: {words}")
    findings.count_more("duplicate row", len(again) - len(shown))


def find_contradictions(
    keys: array[int], group: Callable[[int], Group], findings: Findings, most: int | None = None
) -> int:
    """Find passages that rows of one query judge differently.

    Args:
        keys: hash of the query of every group.
        group: returns a group by its index.
        findings: receives the contradictions.
        most: rows to look at; None looks at all.

    Returns:
        The number of rows whose query has several rows.
    """
    values = np.frombuffer(keys, np.uint64)
    order = np.argsort(values, kind="stable")
    _, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
    several = counts > 1
    total, looked = int(counts[several].sum()), 0
    for start, count in zip(starts[several].tolist(), counts[several].tolist(), strict=True):
        if most is not None and looked + count > most:
            break
        looked += count
        rows = [group(place) for place in order[start : start + count].tolist()]
        _compare_rows(rows, findings)
    return total


def _compare_rows(rows: Sequence[Group], findings: Findings) -> None:
    """Compare the grades that rows of one query give to the same passage."""
    judged: dict[tuple[str, str], tuple[int, str]] = {}
    for row in rows:
        query = same_query(row.query)
        grades = [*(row.grades or [1] * len(row.positives)), *[0] * len(row.negatives)]
        for text, grade in zip(row.texts[1:], grades, strict=True):
            before, where = judged.setdefault((query, same_text(text)), (grade, row.where))
            if before == grade or where == row.where:
                continue
            if before and grade:
                words = f"grade {grade} here and {before} in {where}"
                findings.add("different grades", f"{row.where}: {words}: {text!r:.80}")
            else:
                here, there = ("positive", "negative") if grade else ("negative", "positive")
                words = f"{here} here and {there} of the same query in {where}"
                findings.add("contradiction", f"{row.where}: {words}: {text!r:.80}")


def _roles(groups: Sequence[Group], starts: Places) -> tuple[Places, np.ndarray]:
    """Return the group of each text, and a mask of the negatives."""
    owners = np.repeat(np.arange(len(groups)), np.diff(starts))
    counts = np.fromiter((len(group.positives) for group in groups), np.int64, len(groups))
    return owners, np.arange(len(owners)) - starts[owners] > counts[owners]
