"""Files of a run folder that a kill or a full disk at any instant cannot spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from ...configs.errors import UserError
from ...eval.processes import Share


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say plainly which file could not be written, and what now.

    Raises:
        UserError: disk full, a limit of the system, no permission.
    """
    try:
        yield
    except Exception as error:
        # The tokenizers library raises a bare Exception for what its file system says.
        if isinstance(error, (OSError, SafetensorError)) or type(error) is Exception:
            raise UserError(
                f"{path}: cannot be written ({error})",
                advice="Make room on the disk, or allow writing there; the same command continues after the "
                "last complete checkpoint.",
            ) from error
        raise


def on_first(share: Share, work: Callable[[], object]) -> None:
    """Let the first process do something for all; none goes on before it is done, or if it was refused.

    Raises:
        UserError: what the work raised, on every process: the others would wait for the first one for ever.
    """
    refused = None
    if share.index == 0:
        try:
            work()
        except UserError as error:
            refused = error
    if share.total(np.array([float(refused is not None)]))[0]:
        raise refused or UserError("the first process was refused something, and says what")


def write_file(target: Path, text: str) -> None:
    """Replace a file in one instant.

    Raises:
        UserError: it cannot be written; it is as it was.
    """
    beside = target.with_name(f".{target.name}.part")
    with writing(target):
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(target)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside the target, then put it in the target's place.

    Raises:
        UserError: it cannot be written; the target is as it was.
    """
    beside, old = (target.with_name(f".{target.name}.{end}") for end in ("part", "old"))
    with writing(target):
        for left in (beside, old):
            if left.exists():
                shutil.rmtree(left)
        beside.mkdir(parents=True)
        try:
            write(beside)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        if target.exists():
            target.replace(old)
        beside.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Clear up after a kill: finish the renames of `write_folder` that it cut off, drop what is half written.

    Only one process may be at it.
    """
    for old in folder.glob(".*.old"):
        target = folder / old.name[1 : -len(".old")]
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.replace(target)
    for half in folder.glob(".*.part"):
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            half.unlink(missing_ok=True)
