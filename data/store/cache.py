"""Folders kept between runs under a name made of their content: built once, checked, never half-used."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from filelock import FileLock

from ...configs.errors import UserError
from ...configs.paths import cache_folder

log = logging.getLogger(__name__)

ABOUT = "about.json"
BLOCK = 1 << 22  # bytes read at a time
Facts = dict[str, Any]


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache, or a temporary one that only this process sees.

    Attributes:
        folder: holds its files.
        facts: its builder's JSON values.
        held: owner of a folder that is not kept; deletes it when this value is garbage-collected.
    """

    folder: Path
    facts: Facts
    held: tempfile.TemporaryDirectory[str] | None = None


def find_entry(kind: str, name: str) -> CacheEntry | None:
    """Return the entry if it is there and complete; a damaged one counts as absent."""
    return _read(cache_folder() / kind / name)


def make_entry(kind: str, name: str, build: Callable[[Path], tuple[Facts, bool]]) -> CacheEntry:
    """Return the entry, built if it is not there.

    It is built beside its place and renamed when complete, so a killed build leaves nothing that is
    used. One process builds while the others wait for a lock, which the system releases when its
    holder dies, and then use the result.

    Args:
        kind: folder of the cache.
        name: names the content: everything that changes the result must change the name.
        build: writes files into an empty folder; returns facts about them (JSON), and whether
            to keep the entry for later runs.

    Raises:
        UserError: the cache folder cannot be written.
    """
    entry = find_entry(kind, name)
    if entry is not None:
        return entry
    parent = cache_folder() / kind
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{name}.lock"):
            return find_entry(kind, name) or _build(parent, name, build)
    except OSError as error:
        raise UserError(
            f"{error.filename or parent}: {error.strerror or error}",
            advice=f"Data is cached in {cache_folder()}; set UPRANK_CACHE to a folder with enough room.",
        ) from error


def hash_file(path: Path, digest: Any = None) -> str:
    """Return the hex digest of a file's bytes; updates `digest` (of hashlib) if it is given.

    Default XXH3, 128 bits: fast; it names content and shows damage, but gives no security.
    """
    digest = xxhash.xxh3_128() if digest is None else digest
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(view[:count])
    return str(digest.hexdigest())


def watch(files: Iterable[Path]) -> Callable[[], list[str]]:
    """Return a function that gives a problem for each file that has changed by then."""

    def state(file: Path) -> tuple[int, int]:
        stat = file.stat()
        return stat.st_size, stat.st_mtime_ns

    before = {file: state(file) for file in files}
    return lambda: [
        f"{file}: was changed while it was read" for file in before if state(file) != before[file]
    ]


def _build(parent: Path, name: str, build: Callable[[Path], tuple[Facts, bool]]) -> CacheEntry:
    for left in (parent / name, *parent.glob(f".{name}.*")):  # damaged, or left by a killed build
        shutil.rmtree(left, ignore_errors=True)
    held = tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent, ignore_cleanup_errors=True)
    folder = Path(held.name)
    facts, keep = build(folder)
    if not keep:
        return CacheEntry(folder, facts, held)
    files = {file.name: [file.stat().st_size, hash_file(file)] for file in sorted(folder.iterdir())}
    about = {"facts": facts, "files": files}
    (folder / ABOUT).write_text(json.dumps({**about, "hash": _hash(about)}), encoding="utf-8")
    folder.chmod(0o755)
    folder.rename(parent / name)
    held.cleanup()  # only the name is left
    return CacheEntry(parent / name, facts)


def _read(folder: Path) -> CacheEntry | None:
    if not folder.is_dir():
        return None
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        whole = about.pop("hash") == _hash(about) and all(
            (folder / name).stat().st_size == size and hash_file(folder / name) == content
            for name, (size, content) in about["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        log.warning("%s: rebuilding damaged cache entry", folder)
        return None
    return CacheEntry(folder, about["facts"])


def _hash(value: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())
