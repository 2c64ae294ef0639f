"""A sweep of training runs: which jobs are finished, their results in a table, how far the best one flatters.

Choosing the best of K runs by the dev measure takes the luck of the run along with its merit. What of the
measure's noise takes part in the choice is read off the values by query: what the queries have in common over
all runs cancels, the rest (query by run) has a standard deviation s, and the mean over Q queries one of
s / sqrt(Q). Of K runs that are all equally good the best then stands about E[max of K] * s / sqrt(Q) above
their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...configs.errors import UserError
from ...configs.schema_train import TrainCommand
from .luck import FinishedRun, _result, flattery, read_results

MANY = 6  # settings shown in columns; more are named below the table


def finished(settings: TrainCommand) -> bool:
    """Whether a finished run of these settings is in the output folder.

    Raises:
        UserError: a finished run of other settings is there.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from ..run_folder import MAY_CHANGE, differences, flat, read_manifest

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

    from .rows import differing, read_runs

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


def closing(folder: Path, results: Sequence[FinishedRun], names: Sequence[str]) -> list[str]:
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
