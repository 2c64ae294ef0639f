"""JSON files of a published folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write readable JSON; refuse NaN."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


@contextmanager
def editing(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the object in a file and write it back when the block ends."""
    values = json.loads(path.read_text(encoding="utf-8"))
    yield values
    write_json(path, values)
