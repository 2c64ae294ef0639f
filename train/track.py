"""Where a run reports to: metrics.jsonl, the log, the terminal, and a tracker if one is asked for."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("uprank")


class MetricsFile:
    """metrics.jsonl: one line a logged step, one line an evaluation.

    Args:
        path: the file; lines of an earlier start are kept as far as they are still true.
        after: step of the checkpoint that training goes on from, 0 if there is none.
    """

    def __init__(self, path: Path, *, after: int) -> None:
        if path.is_file():
            # Lines after the checkpoint belong to steps that are done again; without one, all do.
            lines = [line for line in path.read_text().split("\n") if line and after and _step(line) <= after]
            path.write_text("".join(line + "\n" for line in lines))
        self._stream = path.open("a", encoding="utf-8")

    def write(self, **values: Any) -> None:
        """Add one line."""
        self._stream.write(json.dumps(values) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def set_up_logging(console: Console, *, main: bool) -> None:
    """Our lines on the terminal, from the main process only."""
    log.handlers.clear()
    log.propagate = False
    log.setLevel(logging.INFO if main else logging.ERROR)
    if console.is_terminal:
        handler: logging.Handler = RichHandler(
            console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S", highlighter=None
        )
    else:  # a pipe: no colours, and no lines broken at a width that is not there
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)


def log_to_file(path: Path) -> None:
    """Copy our lines into train.log."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)


def progress_bar(console: Console, *, enabled: bool) -> Progress:
    """A bar with loss, speed and time left; silent where the output is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not enabled or not console.is_terminal,
        transient=True,
    )


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut short by a kill
        return 2**62
