"""Folders kept between runs under a name made of their content: built once, checked, never half-used."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
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
    """One folder of the cache, or one that only this process sees.

    Attributes:
        folder: where its files are.
        facts: what its builder said about it.
        held: the folder's owner if it is not kept: it is deleted when nobody holds this value.
    """

    folder: Path
    facts: Facts
    held: tempfile.TemporaryDirectory[str] | None = None


def find_entry(kind: str, name: str) -> CacheEntry | None:
    """The entry if it is there and whole; one that is damaged counts as absent."""
    return _read(cache_folder() / kind / name)


def make_entry(kind: str, name: str, build: Callable[[Path], tuple[Facts, bool]]) -> CacheEntry:
    """The entry, built if it is not there.

    It is written beside its place and renamed when complete, so that a build that was killed
    leaves nothing that is used. One process builds while the others wait for a lock, which the
    system releases when its holder dies, and then use what was built.

    Args:
        kind: folder of the cache.
        name: names the content: whatever changes the result has to change the name.
        build: writes files into an empty folder; returns facts about them (JSON), and whether
            the entry is to be kept for later runs.

    Raises:
        UserError: the cache folder cannot be written.
    """
    found = find_entry(kind, name)
    if found is not None:
        return found
    parent = cache_folder() / kind
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{name}.lock"):
            return find_entry(kind, name) or _build(parent, name, build)
    except OSError as error:
        raise UserError(
            f"{error.filename or parent}: {error.strerror or error}",
            advice=f"Data is kept in {cache_folder()}; set UPRANK_CACHE to a folder with room for it.",
        ) from error


def hash_file(path: Path) -> str:
    """XXH3 (128 bits) of a file's bytes: names content, and shows damage, but not malice."""
    digest = xxhash.xxh3_128()
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def _build(parent: Path, name: str, build: Callable[[Path], tuple[Facts, bool]]) -> CacheEntry:
    for left in (parent / name, *parent.glob(f".{name}.*")):  # damaged, or of a build that was killed
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
    held.cleanup()  # nothing is left of it but its name
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
        log.warning("%s: damaged, it is built anew", folder)
        return None
    return CacheEntry(folder, about["facts"])


def _hash(value: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())
