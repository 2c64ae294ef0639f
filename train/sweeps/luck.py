"""The luck of the best run of several.

The best of K runs by the dev measure is chosen for its luck along with its merit. The values by query show
how much noise takes part in the choice: effects that a query has on all runs cancel, the rest (query by run)
has a standard deviation s, and its mean over Q queries s / sqrt(Q). If K runs are equally good, the best
exceeds their mean by about E[max of K] * s / sqrt(Q).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import UserError
from .rows import RunRow, incomparable

if TYPE_CHECKING:
    from ...eval.results import Estimate


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of a sweep.

    Attributes:
        row: its row of `uprank runs`.
        estimate: dev measure of its best step, with the interval.
        values: the measure by query.
    """

    row: RunRow
    estimate: Estimate
    values: dict[str, float]


def read_results(folder: Path, rows: Sequence[RunRow]) -> list[FinishedRun]:
    """Return the finished runs among these, with their dev measure by query, best first."""
    results = []
    for row in rows:
        itself = row.name == folder.name and (folder / "manifest.json").is_file()
        result = read_result(folder if itself else folder / row.name)
        if result is not None:
            results.append(FinishedRun(row, result[1], result[0]))
    return sorted(results, key=lambda result: -result.estimate.mean)


def luck_of_best(folder: Path, rows: Sequence[RunRow]) -> list[str]:
    """Return a sentence on the luck of the best of these runs; none if they cannot be compared."""
    results = read_results(folder, rows)
    return flattery(results) if len(results) > 1 and not incomparable(rows) else []


def flattery(results: Sequence[FinishedRun]) -> list[str]:
    """Return a sentence on the luck of the best of several runs that can be compared."""
    shared = [query for query in results[0].values if all(query in result.values for result in results)]
    if not shared:
        return []
    values = np.array([[result.values[query] for query in shared] for result in results])
    runs, queries = values.shape
    error = selection_error(values)
    luck = expected_maximum(runs) * error
    lead = values.mean(axis=1).max() - np.sort(values.mean(axis=1))[-2]
    return [
        f"With {runs} equally good runs on these {queries} queries, the best would exceed their mean by "
        f"about {luck:.4f} by chance (standard error {error:.4f}). Its lead over the second is {lead:.4f}."
    ]


def selection_error(values: np.ndarray) -> float:
    """Return the standard error of a run's mean relative to the others, from values (K, Q)."""
    runs, queries = values.shape
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return math.sqrt(float((rest**2).sum()) / ((runs - 1) * max(queries - 1, 1)) / queries)


def expected_maximum(count: int) -> float:
    """Return the expected maximum of `count` standard normal deviates.

    >>> [round(expected_maximum(count), 3) for count in (2, 10)]
    [0.564, 1.539]
    """
    end, steps = 10.0, 4000  # the mean is `end` less the area below the distribution function up to there
    normal = NormalDist()
    points = (-end + 2 * end * (place + 0.5) / steps for place in range(steps))
    return end - sum(normal.cdf(point) ** count for point in points) * 2 * end / steps


def read_result(output: Path) -> tuple[dict[str, float], Any] | None:
    """Return the tuned model's dev values by query and their estimate; None before the end of the run."""
    from ...eval.results import Report

    try:
        report = Report.load(output / "eval" / "final")
        measure = report.measures[0]
        return dict(report.per_query[measure]["tuned"]), report.system("tuned").results[measure]
    except (UserError, KeyError, IndexError, StopIteration, ValueError, OSError):
        return None
