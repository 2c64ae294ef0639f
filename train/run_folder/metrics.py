"""Where a run reports to: metrics.jsonl, the log, the terminal, and a tracker if one is asked for."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from .atomic import writing

log = logging.getLogger("uprank")


class MetricsFile:
    """metrics.jsonl: one line a logged step, one line an evaluation.

    Args:
        path: the file; lines of an earlier start are kept as far as they are still true.
        after: step of the checkpoint that training goes on from, 0 if there is none.
        evaluated: step of the last evaluation before it.

    Attributes:
        told: step, and whether it is of an evaluation, of the lines that an earlier start wrote too far.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, *, after: int, evaluated: int) -> None:
        self._path = path
        with writing(path):
            # Not buffered: what could not be written would be tried again when the file is closed.
            self._stream = path.open("ab", buffering=0)
            lines = path.read_bytes()
            # Lines after the checkpoint belong to steps that are done again; without one, all do.
            kept = _kept(lines, after, evaluated) if after else 0
            # Cut in place, which a kill cannot spoil and a full disk allows.
            self._stream.truncate(kept)
        self.told = {key for line in lines[kept:].splitlines() if (key := _key(line))}

    def write(self, **values: Any) -> None:
        """Add one line.

        Raises:
            UserError: it cannot be written, or only in part; the next start cuts it off.
        """
        rest = json.dumps(values).encode() + b"\n"
        with writing(self._path):
            while rest:
                rest = rest[self._stream.write(rest) :]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _kept(lines: bytes, after: int, evaluated: int) -> int:
    """Length in bytes of the lines before the first that is not true any more, or was cut short by a kill."""
    length = 0
    for line in lines.splitlines(keepends=True):
        key = _key(line)
        if key is None or not line.endswith(b"\n") or key[0] > (evaluated if key[1] else after):
            break
        length += len(line)
    return length


def _key(line: bytes) -> tuple[int, bool] | None:
    """Step of a line, and whether it is of an evaluation; None where a kill cut it short."""
    try:
        row = json.loads(line)
        return int(row["step"]), "dev" in row
    except (ValueError, KeyError, TypeError):
        return None
