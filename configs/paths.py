"""The cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return Uprank's cache: `UPRANK_CACHE`, else `uprank` in the user's cache folder. Safe to delete."""
    given = os.environ.get("UPRANK_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uprank"
