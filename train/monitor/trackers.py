"""Trackers besides metrics.jsonl: Weights & Biases, TensorBoard, Trackio, all through accelerate."""

from __future__ import annotations

import importlib
import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError
from ...data.store import write_file
from ..run_folder import flat

if TYPE_CHECKING:
    from ..run_folder import MetricsFile
    from ..state import Run

FILE = "tracker.json"  # of the run folder: under what id the tracker knows the run


def require_tracker(name: str) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        UserError: with the line that installs it.
    """
    if name == "none":
        return
    try:
        importlib.import_module(name)
    except ImportError as error:
        advice = f'pip install "uprank[{name}]"'
        raise UserError(f"tracker={name}: {name} is not installed", advice=advice) from error


def start_tracker(run: Run, after: int) -> None:
    """Begin to report on the first process, or go on with what an earlier start reported.

    Weights & Biases and Trackio know the run by an id that the run folder keeps. TensorBoard hides what an
    earlier start wrote after the checkpoint. Weights & Biases takes no step twice by itself.

    Args:
        run: what is trained.
        after: step of the checkpoint that training goes on from, 0 if there is none.

    Raises:
        UserError: the tracker refuses: no account, no network.
    """
    name, folder = run.settings.tracker.name, run.output.resolve()
    if name == "none":
        return
    begun, known = (run.output / "tensorboard").is_dir(), _identity(run)
    options: dict[str, dict[str, Any]] = {
        "wandb": {"dir": str(folder), "name": folder.name, "id": known, "resume": "allow"},
        "tensorboard": {"purge_step": after + 1 if after else 0} if begun else {},
        "trackio": {"name": f"{folder.name}-{known}", "resume": "allow", "embed": False},
    }
    config: dict[str, Any] | None = {key: _simple(value) for key, value in flat(run.settings).items()}
    if name == "tensorboard" and begun:
        config = None  # it would show the settings of each start as a run of their own
    # TensorBoard's folder has the name of the project.
    project = "tensorboard" if name == "tensorboard" else run.settings.tracker.project
    try:
        run.accelerator.init_trackers(project, config=config, init_kwargs=options)
    except Exception as error:  # each library has errors of its own
        advice = "Set tracker=none" + (", or WANDB_MODE=offline." if name == "wandb" else ".")
        raise UserError(f"tracker={name}: {error}", advice=advice) from error


def report(run: Run, metrics: MetricsFile, step: int, row: Mapping[str, Any]) -> None:
    """Hand a row of metrics.jsonl to the tracker; the first process does."""
    if run.settings.tracker.name == "trackio" and (step, "dev" in row) in metrics.told:
        return  # by an earlier start, with the same values; Trackio would have it twice
    values = {f"dev/{key}": value for key, value in row["dev"].items()} if "dev" in row else dict(row)
    run.accelerator.log(values, step=step)


def report_end(run: Run, step: int, values: Mapping[str, Any]) -> None:
    """What the run found, as the tracker's summary: numbers and sentences by name."""
    name = run.settings.tracker.name
    if name == "none":
        return
    tracker = run.accelerator.get_tracker(name, unwrap=True)
    if name == "wandb":
        tracker.summary.update(dict(values))
    elif name == "tensorboard":
        for key, value in values.items():
            if isinstance(value, str):
                tracker.add_text(f"final/{key}", value, step)
            else:
                tracker.add_scalar(f"final/{key}", value, step)
    else:
        run.accelerator.log({f"final/{key}": value for key, value in values.items()}, step=step)


def _identity(run: Run) -> str:
    """The id under which trackers know the run; made at the first start."""
    file = run.output / FILE
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        made = uuid.uuid4().hex[:8]
        write_file(file, json.dumps({"id": made}) + "\n")
        return made


def _simple(value: Any) -> str | int | float | bool:
    """A setting as every tracker takes it."""
    return value if isinstance(value, (str, int, float, bool)) else "" if value is None else str(value)
