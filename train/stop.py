"""Pre-emption: a run that is asked to stop finishes its step, saves, and says how to go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
COPIES = 2.0  # seconds in which another signal is the same one, sent by a launcher, too


class Stopped(Exception):
    """The run was stopped by a signal after a checkpoint.

    Attributes:
        signal: its number; the exit code is 128 plus it, as a shell has it.
        step: optimiser steps done.
        command: what continues the run.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.signal = number
        self.step = step
        self.command = ""


class StopRequest:
    """Notes SIGTERM and SIGINT while it is entered; a second one, seconds later, ends the process.

    Attributes:
        signal: number of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._came = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            if time.monotonic() - self._came < COPIES:
                return
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.signal, self._came = number, time.monotonic()
        name = signal.Signals(number).name
        # Not through logging or print, whose locks the interrupted code may hold.
        os.write(sys.stderr.fileno() if _has_number(sys.stderr) else 2, _words(name))


def _has_number(stream: Any) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _words(name: str) -> bytes:
    words = (
        "the run stops after this step (of an evaluation: after it and a step) and saves; again stops it now"
    )
    return f"\n{name}: {words}\n".encode()
