"""Lines of a file, plain or compressed, one at a time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ...configs.errors import UserError

BLOCK = 1 << 20  # bytes read at a time
LONGEST = 1 << 28  # bytes of a line: a compressed file may unpack to anything


def compression(path: Path) -> str:
    """Return `gz` or `zst` by the end of the file's name, else nothing."""
    end = str(path).rpartition(".")[2].lower()
    return end if end in ("gz", "zst") else ""


def read_lines(path: Path) -> Iterator[bytes]:
    r"""Yield lines with their `\n`; `.gz` and `.zst` are decompressed as they are read.

    Raises:
        UserError: no regular file; a compressed file is damaged or cut off, or its package is not
            installed; a line is too long.
    """
    require_regular(path)
    form = compression(path)
    if form == "gz":
        with _whole_gzip(path), gzip.open(path, "rb") as stream:
            yield from _lines(stream, path)
    elif form == "zst":
        yield from _split(_decompress(path), path)
    else:
        with path.open("rb") as stream:
            yield from _lines(stream, path)


def require_regular(path: Path) -> None:
    """Refuse what ends or waits at will, and cannot be read twice.

    Raises:
        UserError: the path is a pipe, a device or a socket.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path}: a pipe or a device; write its content to a file first")


def _lines(stream: Any, path: Path) -> Iterator[bytes]:
    for number, line in enumerate(iter(partial(stream.readline, LONGEST), b""), 1):
        if len(line) == LONGEST and not line.endswith(b"\n"):
            raise UserError(f"{path}:{number}: a line of more than {LONGEST >> 20} MiB")
        yield line


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file a block at a time, however long its lines; otherwise as `read_lines`.

    Raises:
        UserError: as `read_lines`.
    """
    require_regular(path)
    form = compression(path)
    if form == "gz":
        with _whole_gzip(path), gzip.open(path, "rb") as stream:
            while block := stream.read(BLOCK):
                yield block
    elif form == "zst":
        yield from _decompress(path)
    else:
        with path.open("rb") as plain:
            while block := plain.read(BLOCK):
                yield block


@contextmanager
def _whole_gzip(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: not a whole gzip file ({error})") from error


def _decompress(path: Path) -> Iterator[bytes]:
    # Not zstandard's file reader: it takes a truncated file for a whole one.
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise UserError(
            f'{path}: `.zst` needs a package: pip install "uprank[zst]", or decompress the file'
        ) from error
    frame: Any = zstandard.ZstdDecompressor().decompressobj()
    begun = False
    try:
        with path.open("rb") as stream:
            while data := stream.read(BLOCK):
                while data:
                    if frame.eof:
                        frame = zstandard.ZstdDecompressor().decompressobj()
                    begun = True
                    yield frame.decompress(data)
                    data = frame.unused_data
    except zstandard.ZstdError as error:
        raise UserError(f"{path}: not a whole zstd file ({error})") from error
    if not (begun and frame.eof):
        raise UserError(f"{path}: not a whole zstd file (it ends too early)")


def _split(blocks: Iterable[bytes], path: Path) -> Iterator[bytes]:
    rest: list[bytes] = []  # the begun line, which goes on in the next block
    number, held = 1, 0
    for block in blocks:
        *lines, last = block.split(b"\n")
        for line in lines:
            yield b"".join([*rest, line, b"\n"])
            rest.clear()
            held = 0
        number += len(lines)
        rest.append(last)
        held += len(last)
        if held > LONGEST:
            raise UserError(f"{path}:{number}: a line of more than {LONGEST >> 20} MiB")
    if any(rest):
        yield b"".join(rest)
