"""Trackers beside metrics.jsonl: Weights & Biases, TensorBoard and Trackio, all through accelerate."""

from __future__ import annotations

import importlib
import json
import os
import sys
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError
from ...data.store import write_file
from ..run_folder import flat

if TYPE_CHECKING:
    from ..run_folder import MetricsFile
    from ..state import Run

FILE = "tracker.json"  # in the run folder: the id under which the tracker knows the run


def require_tracker(name: str) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        UserError: it is not installed; gives the line that installs it.
    """
    if name == "none":
        return
    try:
        importlib.import_module(name)
    except ImportError as error:
        advice = f'pip install "uprank[{name}]"'
        raise UserError(f"tracker={name}: {name} is not installed", advice=advice) from error


def require_login(name: str) -> None:
    """Ask for the account of Weights & Biases now, and not after the base was evaluated.

    Raises:
        UserError: there is none, and no terminal to ask on; or the server does not accept it.
    """
    first = os.environ.get("RANK", "0") == "0"
    if name != "wandb" or os.environ.get("WANDB_MODE", "online") != "online" or not first:
        return
    import wandb

    try:
        known = wandb.login() if sys.stdin.isatty() else wandb.login(prompt=False)
        problem = "" if known else "no account is known on this machine"
    except TypeError:  # older versions have no `prompt`, and say it when the tracker starts
        return
    except Exception as error:  # of the network, of the server
        problem = str(error)
    if problem:
        advice = "Run `wandb login`, or set WANDB_API_KEY, WANDB_MODE=offline or tracker=none."
        raise UserError(f"tracker=wandb: {problem}", advice=advice)


def start_tracker(run: Run, after: int) -> None:
    """Start the tracker on rank 0, or continue the report of an earlier start.

    Weights & Biases and Trackio know the run by an id in the run folder. TensorBoard hides rows that an
    earlier start wrote after the checkpoint; Weights & Biases ignores repeated steps.

    Args:
        run: the run.
        after: step of the checkpoint that training continues from, 0 without one.

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
        config = None  # it would show the settings of each start as another run
    # TensorBoard's folder has the name of the project.
    project = "tensorboard" if name == "tensorboard" else run.settings.tracker.project
    try:
        run.accelerator.init_trackers(project, config=config, init_kwargs=options)
    except Exception as error:  # each library has errors of its own
        advice = "Set tracker=none" + (", or WANDB_MODE=offline." if name == "wandb" else ".")
        raise UserError(f"tracker={name}: {error}", advice=advice) from error


def report(run: Run, metrics: MetricsFile, step: int, row: Mapping[str, Any]) -> None:
    """Report a row of metrics.jsonl to the tracker, on rank 0."""
    if run.settings.tracker.name == "trackio" and (step, "dev" in row) in metrics.told:
        return  # an earlier start reported the same values, and Trackio keeps duplicates
    values = {f"dev/{key}": value for key, value in row["dev"].items()} if "dev" in row else dict(row)
    run.accelerator.log(values, step=step)


def report_end(run: Run, step: int, values: Mapping[str, Any]) -> None:
    """Write the results of the run, numbers and sentences by name, to the tracker's summary."""
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
    """Return the id under which trackers know the run; the first start makes it."""
    file = run.output / FILE
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        made = uuid.uuid4().hex[:8]
        write_file(file, json.dumps({"id": made}) + "\n")
        return made


def _simple(value: Any) -> str | int | float | bool:
    """Return a setting in a type that every tracker accepts."""
    return value if isinstance(value, (str, int, float, bool)) else "" if value is None else str(value)
