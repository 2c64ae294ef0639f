"""Where things are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Uprank's cache: `UPRANK_CACHE`, else `uprank` in the user's cache folder; all of it may be deleted."""
    own = os.environ.get("UPRANK_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uprank"
