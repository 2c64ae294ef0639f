"""Pre-emption: a run that is asked to stop finishes its step, saves, and says how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any

from ...configs.errors import UserError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SETTLED = 0.3  # seconds
COPIES = 2.0  # seconds in which another signal is the same one, sent by a launcher, too


class Stopped(Exception):
    """The run was stopped by a signal; what it had learned is in a checkpoint.

    Attributes:
        signal: its number; the exit code is 128 plus it, as a shell has it.
        step: optimiser steps done.
        command: what continues the run.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.signal = number
        self.step = step
        self.command = again(sys.argv[1:], os.environ)


def again(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The command that starts this process again, with the launcher that started it.

    >>> again(["output=runs/a"], {})
    'uprank train output=runs/a'
    >>> again(["output=runs/a"], {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    'torchrun --nproc-per-node 2 -m uprank.train output=runs/a'
    >>> again(["output=a"], {"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"})
    'ACCELERATE_USE_FSDP=true FSDP_VERSION=2 torchrun --nproc-per-node 2 -m uprank.train output=a'
    """
    words = shlex.join(arguments)
    count = int(environment.get("WORLD_SIZE", "1"))
    if count == 1 and "TORCHELASTIC_RUN_ID" not in environment:
        return f"uprank train {words}"
    # Also for `accelerate launch`, which does not say in which file it found how many to start.
    here = int(environment.get("LOCAL_WORLD_SIZE", count))
    fsdp = environment.get("ACCELERATE_USE_FSDP") == "true"
    shared = "ACCELERATE_USE_FSDP=true FSDP_VERSION=2 " if fsdp else ""
    if here == count:
        return f"{shared}torchrun --nproc-per-node {count} -m uprank.train {words}"
    nodes = f"--nnodes {count // here} --nproc-per-node {here} --rdzv-backend c10d "
    nodes += f"--rdzv-endpoint {environment.get('MASTER_ADDR', '<first node>')}:29500"
    return f"{shared}torchrun {nodes} -m uprank.train {words}  (on every node)"


class StopRequest:
    """Notes SIGTERM and SIGINT while it is entered; a second one, seconds later, ends the process.

    Attributes:
        signal: number of the signal that came, 0 before.
        error: what else ends the run: a file that could not be written.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.error: UserError | None = None
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

    def asked(self) -> int:
        """Number of the signal that came, SIGTERM if there was an error, else 0."""
        return self.signal or (signal.SIGTERM if self.error else 0)

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


def settle(processes: int) -> None:
    """Let the threads of gloo drop what they hold, before the model and its process group are let go.

    After a collective such a thread drops its tensors, for which it needs the interpreter's lock. The
    destructor of the process group, which DistributedDataParallel keeps until the end, waits for that thread
    with the lock held: for ever, if it comes first (seen with torch 2.13).
    """
    if processes > 1:
        time.sleep(SETTLED)


def _has_number(stream: Any) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _words(name: str) -> bytes:
    words = "the run stops after this step, or leaves this evaluation, and saves; again stops it now"
    return f"\n{name}: {words}\n".encode()
