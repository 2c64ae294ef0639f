"""A sweep of training runs: which jobs are finished, their results in a table, how far the best one flatters.

Choosing the best of K runs by the dev measure takes the luck of the run along with its merit. What of the
measure's noise takes part in the choice is read off the values by query: what the queries have in common over
all runs cancels, the rest (query by run) has a standard deviation s, and the mean over Q queries one of
s / sqrt(Q). Of K runs that are all equally good the best then stands about E[max of K] * s / sqrt(Q) above
their mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ..configs.errors import UserError
from ..configs.schema_train import TrainCommand

if TYPE_CHECKING:
    from ..eval.report import Estimate
    from .runs import Row

MANY = 6  # settings shown in columns; more are named below the table


@dataclass(frozen=True)
class Result:
    """A finished run of a sweep.

    Attributes:
        row: its line of `uprank runs`.
        estimate: the dev measure of its best step, with its interval.
        values: the same by query.
    """

    row: Row
    estimate: Estimate
    values: dict[str, float]


def finished(settings: TrainCommand) -> bool:
    """Whether a finished run of these settings is in the output folder.

    Raises:
        UserError: a finished run of other settings is there.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from .run_folder import MAY_CHANGE, differences, flat, read_manifest

    output = Path(settings.output)
    there = (output / "manifest.json").is_file() and (output / "config.yaml").is_file()
    if settings.plan or not there:
        return False
    try:
        done = bool(read_manifest(output).get("finished"))
        old = flat(OmegaConf.to_container(OmegaConf.load(output / "config.yaml")))
    except (ValueError, AttributeError, YAMLError, OmegaConfBaseException):
        return False  # damaged: training refuses it, and says why
    # A run may be continued on data that have moved; a job of other data is another job.
    free = MAY_CHANGE - {"data.train", "data.dev"}
    other = [
        f"{key}={before}, here {now}" for key, before, now in differences(old, settings) if key not in free
    ]
    if done and other:
        told = ", ".join(other[:3])
        raise UserError(
            f"output={output}: holds a finished run of other settings ({told})",
            advice="Jobs have the numbers of their values: give a sweep of other values a new output.",
        )
    return done


def best_value(settings: TrainCommand) -> float | None:
    """The dev measure of the best step of a finished run, which sweepers make as large as possible."""
    result = _result(Path(settings.output))
    return None if result is None else result[1].mean


def tell(folder: Path) -> None:
    """Print the runs of a sweep with the settings in which they differ, the best one, and its worth."""
    from rich.console import Console
    from rich.table import Table

    from .runs import differing, read_runs

    try:
        rows = read_runs(folder, [])
    except UserError:
        return  # every job failed before it began
    names = differing(rows)
    results = {result.row.name: result for result in read_results(folder, rows)}
    measures = {row.measure for row in rows if row.measure}
    value = f"dev {measures.pop()}" if len(measures) == 1 else "dev"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in (
        "job",
        *(name.rpartition(".")[2] for name in names[:MANY]),
        value,
        "95 %",
        "base",
        "state",
    ):
        table.add_column(header, overflow="fold")
    for row in rows:
        found = results.get(row.name)
        interval = f"[{found.estimate.low:.4f}, {found.estimate.high:.4f}]" if found else ""
        told = [str(row.settings.get(name))[-40:] for name in names[:MANY]]
        shown = ["" if number is None else f"{number:.4f}" for number in (row.best, row.base)]
        table.add_row(row.name, *told, shown[0], interval, shown[1], row.state)
    console = Console()
    console.print(table)
    for line in closing(folder, list(results.values()), names):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def read_results(folder: Path, rows: Sequence[Row]) -> list[Result]:
    """The finished ones of these runs, with their dev measure by query, best first."""
    found = []
    for row in rows:
        place = (
            folder if row.name == folder.name and (folder / "manifest.json").is_file() else folder / row.name
        )
        read = _result(place)
        if read is not None:
            found.append(Result(row, read[1], read[0]))
    return sorted(found, key=lambda result: -result.estimate.mean)


def closing(folder: Path, results: Sequence[Result], names: Sequence[str]) -> list[str]:
    """The best run, and what its value is worth; nothing for less than two finished runs."""
    if len(results) < 2:
        return []
    best = results[0]
    settings = ", ".join(f"{name}={best.row.settings.get(name)}" for name in names[:MANY])
    estimate, where = best.estimate, folder / best.row.name
    lines = [
        f"Best on the dev queries: {where} ({settings or 'no setting differs'}), {best.row.measure} "
        f"{estimate.mean:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]."
    ]
    lines += [f"It is the best of {len(results)} runs, so its value flatters it.", *flattery(results)]
    command = f"uprank eval model.path={where / 'best'} data.test=… output=…"
    lines.append(f"Prove it on queries that chose nothing: {command}")
    return lines


def luck_of_best(folder: Path, rows: Sequence[Row]) -> list[str]:
    """For `uprank runs`: how much luck there may be in the best of these runs, where it can be known."""
    results = read_results(folder, rows)
    return flattery(results) if len(results) > 1 and _matrix(results) is not None else []


def flattery(results: Sequence[Result]) -> list[str]:
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


def _matrix(results: Sequence[Result]) -> np.ndarray | None:
    """Values by run and query (K, Q); None where the runs have not the same queries and measure."""
    queries = list(results[0].values)
    same = all(result.values.keys() == results[0].values.keys() for result in results)
    if not same or len({result.row.measure for result in results}) > 1:
        return None
    return np.array([[result.values[query] for query in queries] for result in results])


def _result(output: Path) -> tuple[dict[str, float], Any] | None:
    """Values by query and mean with interval of the tuned model on the dev queries, if the run has ended."""
    from ..eval.report import Report

    try:
        report = Report.load(output / "eval" / "final")
        measure = report.measures[0]
        return dict(report.per_query[measure]["tuned"]), report.system("tuned").results[measure]
    except (UserError, KeyError, IndexError, StopIteration, ValueError, OSError):
        return None
