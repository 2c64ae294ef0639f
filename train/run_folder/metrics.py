"""metrics.jsonl: one line a logged step and one line an evaluation."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from ...data.store import AppendLog, whole_lines, writing
from ...eval.records import shaped

log = logging.getLogger(__name__)
ROW = {"step": int, "dev": dict[str, float], "intervals": dict[str, list[float]], "alarms": list[Any]}


class MetricsFile:
    """metrics.jsonl of a running training.

    Args:
        path: the file; lines of an earlier start are kept as far as they still hold.
        after: step of the checkpoint that training continues from, 0 if there is none.
        evaluated: step of the last evaluation before it.

    Attributes:
        told: (step, is an evaluation) of the lines that were dropped: an earlier start had gone further.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, *, after: int, evaluated: int) -> None:
        with writing(path):
            lines = list(whole_lines(path))
        # Steps after the checkpoint are done again; without one, all are.
        kept = _still_true(lines, after, evaluated) if after else 0
        self.told = {key for line in lines[kept:] if (key := _key(line))}
        self._log = AppendLog(path, sum(map(len, lines[:kept])))

    def write(self, **values: Any) -> None:
        """Append one line; raises as `AppendLog.write` does."""
        self._log.write(json.dumps(values) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all lines of a metrics.jsonl; warn about damaged ones and leave them out."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        problems: list[str] = []
        try:
            row = json.loads(line) if line else None
            shaped(ROW, row or {}, "", problems)
        except ValueError as error:
            row, problems = None, [str(error)]
        if problems or (row and "step" not in row):
            log.warning("%s:%d: damaged and left out (%s)", path, number, "; ".join(problems) or "no step")
        elif row:
            rows.append(row)
    return rows


def _still_true(lines: list[bytes], after: int, evaluated: int) -> int:
    """Return the number of lines before the first that is broken or beyond the checkpoint."""
    for number, line in enumerate(lines):
        key = _key(line)
        if key is None or key[0] > (evaluated if key[1] else after):
            return number
    return len(lines)


def _key(line: bytes) -> tuple[int, bool] | None:
    """Return the step of a line and whether it is an evaluation; None if the line is broken."""
    try:
        row = json.loads(line)
        return int(row["step"]), "dev" in row
    except (ValueError, KeyError, TypeError):
        return None
