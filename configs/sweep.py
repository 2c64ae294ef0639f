"""Sweeps: many jobs of one command, each with its own output; one that fails does not end the others."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError

JOBS = ".jobs"  # folder below the output of a sweep: what became of each job of the last start


class JobFailed(Exception):
    """A job of a sweep did not end well; Hydra's launchers run the others and raise the first in the end."""


@dataclass(frozen=True)
class Sweep:
    """What a command knows about its jobs.

    Attributes:
        finished: whether the output of these settings is there already, from an earlier start of the sweep.
        value: what a sweeper makes as large as possible, read from the output; None without such a value.
        tell: prints what came out of the sweep in this folder.
    """

    finished: Callable[[Any], bool]
    value: Callable[[Any], float | None] = lambda settings: None
    tell: Callable[[Path], None] = lambda folder: None


def run_job(
    function: Callable[[Any], object], make: Callable[[], Any], sweep: Sweep | None, place: Path, own: str
) -> float | None:
    """One job of a sweep, or nothing if an earlier start has finished it.

    Args:
        function: the command.
        make: its settings.
        sweep: what the command knows about its jobs, if anything.
        place: output of the job, whose name is its number.
        own: its settings that other jobs do not have.

    Raises:
        JobFailed: whatever went wrong, which is written down for `close`.
        SystemExit: the sweep itself is to stop (a signal).
    """
    try:
        settings = make()
        if sweep is not None and sweep.finished(settings):
            _say(place, "finished before, and is not run again")
        else:
            _say(place, own)
            function(settings)
        value = sweep.value(settings) if sweep else None
    except UserError as error:
        problems = [*error.problems, *([error.advice] if error.advice else [])]
    except SystemExit as error:
        if isinstance(error.code, int) and error.code > 128:
            raise
        if not error.code:
            return None
        problems = [f"ended with exit code {error.code}"]
    except Exception as error:  # a defect of ours must not cost the other jobs either
        traceback.print_exc()
        problems = [f"{type(error).__name__}: {error}"]
    else:
        return value
    _write(place, problems)
    _say(place, f"failed: {'; '.join(problems)}")
    raise JobFailed(f"{place}: {'; '.join(problems)}")


def begin(folder: Path | None) -> None:
    """Forget what became of the jobs of an earlier start."""
    if folder is not None:
        shutil.rmtree(folder / JOBS, ignore_errors=True)


def close(command: str, folder: Path | None, sweep: Sweep | None, *, failed: bool) -> None:
    """Tell what came out of a sweep.

    Args:
        command: for messages.
        folder: output of the sweep; None where no word of the command line says it.
        sweep: what the command knows about its jobs, if anything.
        failed: whether Hydra met a job that failed.

    Raises:
        SystemExit: code 1, if a job failed.
    """
    files = (
        sorted((folder / JOBS).glob("*.json"), key=lambda file: (len(file.name), file.name)) if folder else []
    )
    problems = [f"  {folder}/{file.stem}: {'; '.join(json.loads(file.read_text()))}" for file in files]
    if sweep is not None and folder is not None:
        sweep.tell(folder)
    if failed or problems:
        count = f"{len(problems)} job{'s' * (len(problems) != 1)}" if problems else "a job"
        lines = [f"uprank {command}: {count} of the sweep failed, the others ran", *problems]
        lines += ["The same command runs only those that have not finished."] if sweep else []
        sys.stderr.write("\n".join(lines) + "\n")
        raise SystemExit(1)


def output_of(arguments: Sequence[str]) -> Path | None:
    """The output that the command line gives.

    >>> output_of(["-m", "seed=1,2", "output=runs/sweep"]).as_posix()
    'runs/sweep'
    """
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith("output=")]
    return Path(given[-1].strip("'\"")) if given else None


def _say(place: Path, words: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"{place}: {words}\n")


def _write(place: Path, problems: list[str]) -> None:
    if os.environ.get("RANK", "0") == "0":
        folder = place.parent / JOBS
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place.name}.json").write_text(json.dumps(problems), encoding="utf-8")
