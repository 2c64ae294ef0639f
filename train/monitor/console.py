"""The run's log and its progress bar."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...data.store import writing

log = logging.getLogger("uprank")  # the parent of all our loggers


def set_up_logging(console: Console, *, main: bool) -> None:
    """Show our log on the terminal, on rank 0 only."""
    log.handlers.clear()
    log.propagate = False
    log.setLevel(logging.INFO if main else logging.ERROR)
    if console.is_terminal:
        handler: logging.Handler = RichHandler(
            console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S", highlighter=None
        )
    else:  # a pipe has no colours and no width
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)


class _LogFile(logging.FileHandler):
    """A log file that gives up with one line on the terminal when its disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Log the reason once."""
        log.removeHandler(self)
        reason = sys.exc_info()[1]
        log.error("%s: cannot be written (%s); the log goes on here alone", self.baseFilename, reason)


def log_to_file(path: Path) -> None:
    """Copy our log into train.log.

    Raises:
        UserError: it cannot be opened.
    """
    with writing(path):
        handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)


def progress_bar(console: Console, *, enabled: bool) -> Progress:
    """Return a bar with loss, speed and time left; silent unless the output is a terminal."""
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
