"""Write files so that a kill or a full disk at any instant cannot spoil them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ...configs.errors import UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that could not be written, and say what to do.

    Raises:
        UserError: disk full, a limit of the system, no permission.
    """
    try:
        yield
    except Exception as error:
        # The tokenizers library raises a bare Exception for errors of the file system.
        if isinstance(error, (OSError, SafetensorError)) or type(error) is Exception:
            raise UserError(
                f"{path}: cannot be written ({error})",
                advice="Make room on the disk, or allow writing there; the same command continues from what "
                "is complete.",
            ) from error
        raise


def write_file(target: Path, text: str) -> None:
    """Replace a file atomically.

    Raises:
        UserError: it cannot be written; the old one stays.
    """
    beside = target.with_name(f".{target.name}.part")
    with writing(target):
        try:
            beside.write_text(text, encoding="utf-8", newline="\n")
            _flush(beside)
            beside.replace(target)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside the target, then rename it into place.

    Raises:
        UserError: it cannot be written; the old one stays.
    """
    beside, old = (target.with_name(f".{target.name}.{end}") for end in ("part", "old"))
    with writing(target):
        for left in (beside, old):
            if left.exists():
                shutil.rmtree(left)
        beside.mkdir(parents=True)
        try:
            write(beside)
            for path in beside.rglob("*"):
                _flush(path)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        if target.exists():
            target.replace(old)
        beside.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    """Bring a file to the disk before its name is: else a power cut leaves the name with nothing in it."""
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def put_back(folder: Path) -> None:
    """Clean up after a kill: finish the renames of `write_folder`, delete half-written files and folders.

    Only one process may do this at a time.
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


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file up to one that a kill cut short; nothing if the file does not exist."""
    if path.is_file():
        with path.open("rb") as stream:
            yield from (line for line in stream if line.endswith(b"\n"))


class AppendLog:
    """A file of lines that grows; a line that a kill cut short is dropped at the next start.

    Args:
        path: the file; created if it does not exist.
        size: bytes of it to keep; all whole lines when None.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self._path = path
        with writing(path):
            # Unbuffered: closing the file must not retry a line that could not be written.
            self._stream = path.open("ab", buffering=0)
            # Truncating in place is safe against a kill and needs no room on the disk.
            self._stream.truncate(sum(map(len, whole_lines(path))) if size is None else size)

    def write(self, text: str) -> None:
        """Append whole lines.

        Raises:
            UserError: they cannot be written, or only in part; the next start drops what is torn.
        """
        rest = text.encode()
        with writing(self._path):
            while rest:
                rest = rest[self._stream.write(rest) :]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
