"""The output folder of an evaluation: new, held by one evaluation, whole or known to be unfinished."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...configs.errors import UserError
from ...configs.validate import output_problems
from ...data.store import writing

LOCK, UNFINISHED = ".lock", ".unfinished"
COMPLETE = "report.json", "summary.json"  # written last: one of them is there only in a whole folder
OURS = re.compile(r"runs|per_query\.jsonl|(report|table|summary)(\.schema)?\.\w+|\..+\.part")


def require_new(output: Path) -> None:
    """Raise a UserError if the folder has something in it, unless an unfinished evaluation wrote it."""
    problems = output_problems(output)
    if problems:
        raise UserError(problems)
    unfinished = (output / UNFINISHED).is_file() and _all_ours(output)
    if output.exists() and not unfinished and (not output.is_dir() or _content(output)):
        raise UserError(f"output={output}: exists", advice="Give a new folder; nothing was overwritten.")


@contextmanager
def reserved(output: Path) -> Iterator[None]:
    """Hold the output folder for this evaluation, emptied of what a killed one left half-written.

    If the evaluation fails, a folder made for it is removed, unless writing had begun: then the same command
    continues.

    Raises:
        UserError: another evaluation holds the folder, or as `require_new`; the folder cannot be written.
    """
    require_new(output)
    made = not output.exists()
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / LOCK, timeout=0)
    try:
        with writing(output / LOCK):
            lock.acquire()
    except UserError as error:
        if not isinstance(error.__cause__, Timeout):
            raise
        raise UserError(
            f"output={output}: another evaluation is writing there", advice="Give each its own folder."
        ) from None
    try:
        require_new(output)  # the other one may just have ended
        _clear(output)
        with writing(output):
            (output / UNFINISHED).touch()
        yield
    finally:
        complete = any((output / name).is_file() for name in COMPLETE)
        if complete or not _content(output):
            (output / UNFINISHED).unlink(missing_ok=True)
        lock.release()
        (output / LOCK).unlink(missing_ok=True)
        if made:
            with suppress(OSError):  # not empty, mostly
                output.rmdir()


def _all_ours(output: Path) -> bool:
    """Return whether an evaluation may have written all of it: files here, or in folders of collections."""
    others = [entry for entry in _content(output) if not OURS.fullmatch(entry.name)]
    return all(
        entry.is_dir() and all(OURS.fullmatch(inner.name) for inner in entry.iterdir()) for entry in others
    )


def _content(output: Path) -> list[Path]:
    return [entry for entry in output.iterdir() if entry.name not in (LOCK, UNFINISHED)]


def _clear(output: Path) -> None:
    for entry in _content(output):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
