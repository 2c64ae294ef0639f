"""The run folder: who made it, with what, and whether it may be continued."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import shlex
import shutil
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
from ...data.store import write_file
from ...eval.processes import Processes
from ...eval.records import read_json, require_valid, shaped

LOCK = ".lock"
BEGUN = {"config.yaml", LOCK, ".config.yaml.part", ".manifest.json.part"}  # before there is a manifest

# Settings that may differ when a run is continued: they decide what fits, where it runs and what is
# shown, never the result. Data may have moved: its fingerprint, which ignores skipped rows, must match.
# Every other setting must be that of the continued run.
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
        "train.timeout",
        "tracker.name",
        "tracker.project",
    }
)


_ORIGIN = {"names": list[str], "license": str, "language": list[str]}
_SOURCE = {"groups": int, "share": int, "skipped": int, "origin": _ORIGIN}
MANIFEST = {
    "finished": str,
    "command": str,
    "versions": dict[str, str],
    "seed": int,
    "base": {
        "path": str,
        "kind": str,
        "revision": str,
        "weights": str,
        "new_head": bool,
        "language": list[Any],
    },
    "data": {
        "train": {**_SOURCE, "fingerprint": str, "sources": [_SOURCE]},
        "dev": {"fingerprint": str, "queries": int},
    },
    "budgets": {"query_tokens": int, "max_tokens": int},
    "prompts": dict[str, str],
    **dict.fromkeys(("steps", "best_step", "stopped_at"), int),
    "best_weights": str,
    "seconds": float,
    "verdict": str,
}


def prepare_folder(output: Path, settings: TrainCommand) -> bool:
    """Return whether the run folder holds an unfinished run of the same settings; writes nothing.

    Raises:
        UserError: the folder holds something else, a finished run, or a run of other settings.
    """
    config, manifest = output / "config.yaml", output / "manifest.json"
    unwritable = output_problems(output)
    if unwritable:
        raise UserError(unwritable)
    names = {file.name for file in output.iterdir()} if output.is_dir() else set()
    if names <= BEGUN:  # nothing, or a start that was killed before it wrote the manifest
        return False
    if not config.is_file() or not manifest.is_file():
        raise UserError(f"output={output}: exists and is not an Uprank run", advice="Give a new folder.")
    try:
        finished, old = read_manifest(output).get("finished"), read_settings(output)
    except (UserError, ValueError) as error:
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
    """Return name, old and new value of each setting that differs.

    Args:
        old: flat settings of a run; a setting that did not exist then had its default.
        settings: the new ones.
    """
    before = flat(OmegaConf.to_container(OmegaConf.structured(type(settings)()))) | old
    new = flat(OmegaConf.to_container(OmegaConf.structured(settings)))
    names = sorted(before.keys() | new.keys())
    return [(name, before.get(name), new.get(name)) for name in names if before.get(name) != new.get(name)]


@contextmanager
def lock(output: Path, processes: Processes) -> Iterator[None]:
    """Hold the run folder for these processes until they end, however they end.

    Raises:
        UserError: another run uses it; raised on every rank.
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
        if processes.index == 0 and output.is_dir() and {file.name for file in output.iterdir()} <= {LOCK}:
            shutil.rmtree(output)  # the start failed before anything was written


def write_start(output: Path, settings: TrainCommand, manifest: dict[str, Any]) -> None:
    """Write config.yaml and manifest.json."""
    write_file(output / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings)))
    write_manifest(output, manifest)


def read_manifest(output: Path) -> dict[str, Any]:
    """Return the manifest of a run.

    Raises:
        UserError: it cannot be read, or its fields have other types.
    """
    path, what, problems = output / "manifest.json", "the manifest of a run", list[str]()
    values: dict[str, Any] = read_json(path, what)
    shaped(MANIFEST, values, "", problems)
    require_valid(problems, path, what)
    return values


def read_settings(output: Path) -> dict[str, Any]:
    """Return the flat settings of a run.

    Raises:
        UserError: config.yaml is missing or damaged.
    """
    path = output / "config.yaml"
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged, or not the settings of a run ({reason:.200})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: not the settings of a run")
    return flat(values)


def write_manifest(output: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest atomically; raises as `write_file` does."""
    write_file(output / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def environment(device: str, processes: int) -> dict[str, Any]:
    """Return what made the run: versions, hardware, commit, command."""
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
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings as dotted keys."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = dataclasses.asdict(values)
    settings: dict[str, Any] = {}
    for key, value in values.items():
        settings |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + str(key): value}
    return settings


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str | None:
    """Return the commit of Uprank's own checkout; None if it does not run from one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
