"""A sweep of training runs: which jobs are finished, and the results of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...configs.errors import UserError
from ...configs.schema_train import TrainCommand
from .luck import FinishedRun, flattery, read_result, read_results
from .rows import RunRow, differing, incomparable, read_runs
from .table import MANY, print_runs, setting_columns, value_columns


def finished(settings: TrainCommand) -> bool:
    """Return True if a finished run of these settings is in the output folder.

    Raises:
        UserError: a finished run of other settings is there.
    """
    from ..run_folder import MAY_CHANGE, differences, read_manifest, read_settings

    output = Path(settings.output)
    there = (output / "manifest.json").is_file() and (output / "config.yaml").is_file()
    if settings.plan or not there:
        return False
    try:
        done, old = bool(read_manifest(output).get("finished")), read_settings(output)
    except (UserError, ValueError):
        return False  # damaged: training refuses it with the reason
    # Moved data may continue a run, but a job with other data is another job.
    free = MAY_CHANGE - {"data.train", "data.dev"}
    other = [
        f"{key}={before}, here {now}" for key, before, now in differences(old, settings) if key not in free
    ]
    if done and other:
        raise UserError(
            f"output={output}: holds a finished run of other settings ({', '.join(other[:3])})",
            advice="Jobs have the numbers of their values: give a sweep of other values a new output.",
        )
    return done


def best_value(settings: TrainCommand) -> float | None:
    """Return the dev measure of the best step of a finished run, which sweepers maximise."""
    result = read_result(Path(settings.output))
    return None if result is None else result[1].mean


def print_results(folder: Path) -> None:
    """Print the runs of a sweep with the settings in which they differ, the best one, and its worth."""
    try:
        rows = read_runs(folder, [])
    except UserError:
        return  # every job failed before it began
    names = differing(rows)
    results = {result.row.name: result for result in read_results(folder, rows)}

    def interval(row: RunRow) -> str:
        result = results.get(row.name)
        return f"[{result.estimate.low:.4f}, {result.estimate.high:.4f}]" if result else ""

    (value, best), base = value_columns(rows).items()
    columns = {"job": lambda row: row.name, **setting_columns(names, short=True), value: best}
    columns |= {"95 %": interval, base[0]: base[1], "state": lambda row: row.state}
    print_runs(rows, columns, closing(folder, list(results.values()), names))


def closing(folder: Path, results: Sequence[FinishedRun], names: Sequence[str]) -> list[str]:
    """Return sentences on the best run and the worth of its value; none for fewer than two finished runs."""
    if len(results) < 2:
        return []
    if reason := incomparable([result.row for result in results]):
        return [reason]
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
