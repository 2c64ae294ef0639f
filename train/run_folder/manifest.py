"""The run folder: who made it, with what, and whether it may be continued."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ... import __version__
from ...configs.errors import UserError
from ...configs.schema_train import TrainCommand
from ...configs.validate import output_problems
from ...eval.processes import Processes
from .atomic import writing

LOCK, PART = ".lock", ".manifest.part"

# Settings that may differ when a run is continued: they decide what fits, where it runs and
# what is shown, never the result. Data may have moved: its fingerprint is compared, of which rows that
# are skipped are no part. All others come from the run that is continued, and a command line that
# differs in one of them is refused.
MAY_CHANGE = frozenset(
    {
        "output",
        "data.train",
        "data.dev",
        "data.on_error",
        "threads",
        "model.device",
        "train.tokens_per_batch",
        "train.gradient_checkpointing",
        "train.log_every",
        "train.keep_checkpoints",
        "tracker.name",
        "tracker.project",
    }
)


def prepare_folder(output: Path, settings: TrainCommand) -> bool:
    """Make the run folder, or find in it an unfinished run of the same settings.

    Returns:
        Whether there is a run to continue.

    Raises:
        UserError: the folder holds something else, a finished run, or a run of other settings.
    """
    config, manifest = output / "config.yaml", output / "manifest.json"
    unwritable = output_problems(output)
    if unwritable:
        raise UserError(unwritable)
    found = {file.name for file in output.iterdir()} if output.is_dir() else set()
    if found <= {config.name, LOCK, PART}:  # nothing, or a start that was cut off before the manifest
        return False
    if not config.is_file() or not manifest.is_file():
        raise UserError(f"output={output}: exists and is not an Uprank run", advice="Give a new folder.")
    try:
        finished = read_manifest(output).get("finished")
        old = flat(OmegaConf.to_container(OmegaConf.load(config)))
    except (ValueError, AttributeError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(
            f"output={output}: config.yaml or manifest.json is damaged ({error})", advice="Give a new folder."
        ) from error
    if finished:
        raise UserError(
            f"output={output}: holds a finished run", advice="Give a new folder; nothing was changed."
        )
    problems = [
        f"{key}={now} differs from {before} of the run in {output}"
        for key, before, now in differences(old, settings)
        if key not in MAY_CHANGE and not key.startswith("data.train.")  # files by role
    ]
    if problems:
        raise UserError(problems, advice="Continue with the same settings, or give a new output folder.")
    return True


def differences(old: dict[str, Any], settings: TrainCommand) -> list[tuple[str, Any, Any]]:
    """Name, old and new value of each setting that differs.

    Args:
        old: flat settings of a run; what was not a setting yet when it began had its default.
        settings: the new ones.
    """
    defaults = flat(OmegaConf.to_container(OmegaConf.structured(type(settings)())))
    old = {**defaults, **old}
    new = flat(OmegaConf.to_container(OmegaConf.structured(settings)))
    names = sorted(old.keys() | new.keys())
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


@contextmanager
def lock(output: Path, processes: Processes) -> Iterator[None]:
    """Hold the run folder for these processes alone, until they end however they end.

    Raises:
        UserError: another run is at work in it, on every process.
    """
    held, problems = FileLock(output / LOCK), list[str]()
    if processes.index == 0:
        try:
            output.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=0)
        except Timeout:
            problems = [f"output={output}: another process is training in this folder"]
        except OSError as error:
            problems = [f"output={output}: cannot be written ({error})"]
    try:
        processes.agree(problems)
        yield
    finally:
        held.release()


def write_start(output: Path, settings: TrainCommand, manifest: dict[str, Any]) -> None:
    """Write config.yaml and manifest.json."""
    with writing(output / "config.yaml"):
        text = OmegaConf.to_yaml(OmegaConf.structured(settings))
        (output / "config.yaml").write_text(text, encoding="utf-8")
    write_manifest(output, manifest)


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest of a run."""
    values: dict[str, Any] = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    return values


def write_manifest(output: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest in one instant.

    Raises:
        UserError: it cannot be written; it is as it was.
    """
    beside = output / PART
    with writing(output / "manifest.json"):
        beside.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        beside.replace(output / "manifest.json")


def environment(device: str, processes: int) -> dict[str, Any]:
    """What made the run: versions, hardware, commit, command."""
    names = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "bm25s")
    return {
        "uprank": __version__,
        "created": now(),
        "finished": None,
        "command": f"uprank train {shlex.join(sys.argv[1:])}",
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in names},
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {device}, {processes} process(es)",
        "commit": _commit(),
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = dataclasses.asdict(values)
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + str(key): value}
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str | None:
    """Commit of Uprank's own checkout, where it runs from one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
