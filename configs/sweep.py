"""Sweeps: many jobs of one command, each with its own output. A failed job does not stop the others."""

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

JOBS = ".jobs"  # folder below a sweep's output: problems of the jobs that failed in the last start


class JobFailed(Exception):
    """A job of a sweep failed. Hydra's launchers run the others and raise the first error at the end."""


@dataclass(frozen=True)
class Sweep:
    """A command's view of its jobs.

    Attributes:
        finished: tells whether an earlier start of the sweep has completed these settings.
        value: reads the value that a sweeper maximises from the output; None if there is none.
        tell: prints the results of the sweep in a folder.
    """

    finished: Callable[[Any], bool]
    value: Callable[[Any], float | None] = lambda settings: None
    tell: Callable[[Path], None] = lambda folder: None


def run_job(
    function: Callable[[Any], object], make: Callable[[], Any], sweep: Sweep | None, place: Path, own: str
) -> float | None:
    """Run one job of a sweep, unless an earlier start has finished it.

    Args:
        function: the command.
        make: makes its settings.
        sweep: the command's view of its jobs, if it has one.
        place: output of the job; its name is the job's number.
        own: the settings in which it differs from other jobs.

    Raises:
        JobFailed: for any failure; the problems are recorded for `close`.
        SystemExit: a signal asked the whole sweep to stop.
    """
    try:
        settings = make()
        if sweep is not None and sweep.finished(settings):
            _say(place, "already finished, not run again")
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
    except Exception as error:  # a bug of ours must not stop the other jobs either
        traceback.print_exc()
        problems = [f"{type(error).__name__}: {error}"]
    else:
        return value
    _write(place, problems)
    _say(place, f"failed: {'; '.join(problems)}")
    raise JobFailed(f"{place}: {'; '.join(problems)}")


def begin(folder: Path | None) -> None:
    """Delete the records of an earlier start."""
    if folder is not None:
        shutil.rmtree(folder / JOBS, ignore_errors=True)


def close(command: str, folder: Path | None, sweep: Sweep | None, *, failed: bool) -> None:
    """Print the results of a sweep.

    Args:
        command: name for messages.
        folder: output of the sweep; None if the command line does not give it.
        sweep: the command's view of its jobs, if it has one.
        failed: a job failed, as reported by Hydra.

    Raises:
        SystemExit: with code 1 if a job failed.
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
    """Return the output given on the command line.

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
