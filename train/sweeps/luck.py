"""How much luck the best run of a sweep may have had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import UserError

if TYPE_CHECKING:
    from ...eval.results import Estimate
    from .rows import RunRow


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of a sweep.

    Attributes:
        row: its line of `uprank runs`.
        estimate: the dev measure of its best step, with its interval.
        values: the same by query.
    """

    row: RunRow
    estimate: Estimate
    values: dict[str, float]


def read_results(folder: Path, rows: Sequence[RunRow]) -> list[FinishedRun]:
    """The finished ones of these runs, with their dev measure by query, best first."""
    found = []
    for row in rows:
        place = (
            folder if row.name == folder.name and (folder / "manifest.json").is_file() else folder / row.name
        )
        read = _result(place)
        if read is not None:
            found.append(FinishedRun(row, read[1], read[0]))
    return sorted(found, key=lambda result: -result.estimate.mean)


def luck_of_best(folder: Path, rows: Sequence[RunRow]) -> list[str]:
    """For `uprank runs`: how much luck there may be in the best of these runs, where it can be known."""
    results = read_results(folder, rows)
    return flattery(results) if len(results) > 1 and _matrix(results) is not None else []


def flattery(results: Sequence[FinishedRun]) -> list[str]:
    """By how much the best of several runs may owe its place to luck."""
    values = _matrix(results)
    if values is None:
        return ["These runs were measured on different dev queries: their values cannot be compared."]
    runs, queries = values.shape
    error = selection_error(values)
    luck = expected_maximum(runs) * error
    lead = values.mean(axis=1).max() - np.sort(values.mean(axis=1))[-2]
    return [
        f"Beside each other the {runs} runs on the same {queries} queries have a standard error of "
        f"{error:.4f}: of so many equally good ones the best would stand about {luck:.4f} above their mean "
        f"by luck. Its lead over the second is {lead:.4f}."
    ]


def selection_error(values: np.ndarray) -> float:
    """Standard error of a run's mean beside the others, from values (K, Q) of K runs on Q queries."""
    runs, queries = values.shape
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return math.sqrt(float((rest**2).sum()) / ((runs - 1) * max(queries - 1, 1)) / queries)


def expected_maximum(count: int) -> float:
    """The largest of so many standard normal deviates on average.

    >>> [round(expected_maximum(count), 3) for count in (2, 10)]
    [0.564, 1.539]
    """
    end, steps = 10.0, 4000  # the mean is `end` less the area below the distribution function up to there
    normal = NormalDist()
    points = (-end + 2 * end * (place + 0.5) / steps for place in range(steps))
    return end - sum(normal.cdf(point) ** count for point in points) * 2 * end / steps


def _matrix(results: Sequence[FinishedRun]) -> np.ndarray | None:
    """Values by run and query (K, Q); None where the runs have not the same queries and measure."""
    queries = list(results[0].values)
    same = all(result.values.keys() == results[0].values.keys() for result in results)
    if not same or len({result.row.measure for result in results}) > 1:
        return None
    return np.array([[result.values[query] for query in queries] for result in results])


def _result(output: Path) -> tuple[dict[str, float], Any] | None:
    """Values by query and mean with interval of the tuned model on the dev queries, if the run has ended."""
    from ...eval.results import Report

    try:
        report = Report.load(output / "eval" / "final")
        measure = report.measures[0]
        return dict(report.per_query[measure]["tuned"]), report.system("tuned").results[measure]
    except (UserError, KeyError, IndexError, StopIteration, ValueError, OSError):
        return None
