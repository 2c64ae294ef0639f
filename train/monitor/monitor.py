"""The monitor of a run: metrics.jsonl, alarms, the tracker, and what ends the run after a step."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError
from ..run_folder import MetricsFile, Progress, on_first, read_metrics
from .alarms import Health
from .preemption import StopRequest
from .trackers import report, start_tracker

if TYPE_CHECKING:
    from ..state import Run

log = logging.getLogger(__name__)


class Monitor:
    """Everything that watches a run; as a context it notes signals.

    Only rank 0 writes and reports. An error there reaches the other ranks after the next step.

    Args:
        run: the run to watch.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._signals = StopRequest()
        self._health = Health(judge_base=not run.reranker.new_head)
        self._metrics: MetricsFile | None = None
        self._error: UserError | None = None

    def __enter__(self) -> Monitor:
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.__exit__(kind, value, trace)

    def open(self, progress: Progress) -> None:
        """Open metrics.jsonl and the tracker behind `progress`; a new run starts with the base's row.

        Raises:
            UserError: the file cannot be written, or the tracker refuses.
        """
        on_first(self._run.share, lambda: self._open(progress))

    def _open(self, progress: Progress) -> None:
        file = self._run.output / "metrics.jsonl"
        self._metrics = MetricsFile(file, after=progress.step, evaluated=progress.evaluated)
        start_tracker(self._run, progress.step)
        if not progress.step:
            base = self._run.dev.row("base")
            self._metrics.write(step=0, **base)
            report(self._run, self._metrics, 0, base)
        for row in read_metrics(file):  # a continued run has the alarms of one that never stopped
            if "dev" in row or "score_spread" in row:  # older versions have no spread
                self._health.update(row)

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Write a row to metrics.jsonl and the tracker, with the alarms that it raises.

        An error is kept for `refuse`.
        """
        if self._metrics is None:
            return
        alarms = self._health.update({"step": step, **row})
        raised = {"alarms": [asdict(alarm) for alarm in alarms]} if alarms else {}
        try:
            self._metrics.write(step=step, **row, **raised)
        except UserError as error:
            self._error = self._error or error
        for alarm in alarms:
            log.warning("step %d: ALARM: %s", step, alarm.text)
        report(self._run, self._metrics, step, row)

    @property
    def signal(self) -> int:
        """Number of the signal that stops the run; SIGTERM if none came here."""
        return self._signals.signal or signal.SIGTERM

    def asked(self) -> int:
        """Return the signal that asks this rank to stop, SIGTERM after an error, else 0."""
        return self.signal if self._signals.signal or self._error else 0

    def refuse(self) -> None:
        """Raise the error that `write` kept, if any."""
        if self._error:
            raise self._error
