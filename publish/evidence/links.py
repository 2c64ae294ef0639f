"""Refuse links that lead out of a folder: what they point to would be published under the folder's name."""

from __future__ import annotations

import os
from pathlib import Path

from ...configs.errors import UserError


def links_out(folder: Path) -> list[str]:
    """Describe the links in a folder, at any depth, that lead out of it or nowhere; links inside it are fine.

    The hub's cache keeps a model as links from `snapshots/COMMIT` into `blobs` of the same model; these count
    as inside.
    """
    homes = _homes(folder)
    entries = [Path(place, name) for place, kinds, files in os.walk(folder) for name in (*kinds, *files)]
    return [_words(path) for path in sorted(entries) if path.is_symlink() and not _inside(path, homes)]


def refuse_links(folder: Path, *files: str) -> None:
    """Raise if the folder holds links that lead out of it.

    Args:
        folder: folder whose content may be published.
        files: look at these entries only, which may be folders; without any, at everything.

    Raises:
        UserError: every such link with its target.
    """
    homes, problems = _homes(folder), [] if files else links_out(folder)
    for path in (folder / name for name in files):
        if (path.is_symlink() or path.exists()) and not _inside(path, homes):
            problems.append(_words(path))
        elif path.is_dir():
            problems += links_out(path)
    if problems:
        raise UserError(
            list(dict.fromkeys(problems)),
            advice="What a link points to is not published; put the file itself in its place, or remove it.",
        )


def _homes(folder: Path) -> list[Path]:
    place = folder.resolve()
    cached = place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--")
    return [place, place.parent.parent / "blobs"] if cached else [place]


def _inside(path: Path, homes: list[Path]) -> bool:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # leads nowhere, or in a circle
        return False
    return any(target.is_relative_to(home) for home in homes)


def _words(path: Path) -> str:
    target = path.readlink() if path.is_symlink() else path.resolve()
    return f"{path}: a link out of its folder, to {target}"
