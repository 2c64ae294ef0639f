"""Pre-emption: on a signal a run finishes its step, saves, and prints the command that continues it."""

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

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SETTLED = 0.3  # seconds
COPIES = 2.0  # seconds in which another signal counts as the launcher's copy of the first


class Stopped(Exception):
    """A signal stopped the run; a checkpoint holds its state.

    Attributes:
        signal: number of the signal; the exit code is 128 plus this, as in a shell.
        step: optimizer steps done.
        command: the command that continues the run.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.signal = number
        self.step = step
        self.command = again(sys.argv[1:], os.environ)


def again(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the command that starts this process again, launcher included.

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
    # Also for `accelerate launch`, whose configuration file is not known here.
    here = int(environment.get("LOCAL_WORLD_SIZE", count))
    fsdp = environment.get("ACCELERATE_USE_FSDP") == "true"
    shared = "ACCELERATE_USE_FSDP=true FSDP_VERSION=2 " if fsdp else ""
    if here == count:
        return f"{shared}torchrun --nproc-per-node {count} -m uprank.train {words}"
    nodes = f"--nnodes {count // here} --nproc-per-node {here} --rdzv-backend c10d "
    nodes += f"--rdzv-endpoint {environment.get('MASTER_ADDR', '<first node>')}:29500"
    return f"{shared}torchrun {nodes} -m uprank.train {words}  (on every node)"


class StopRequest:
    """A context that notes SIGTERM and SIGINT; a second signal, seconds later, ends the process.

    Attributes:
        signal: number of the first signal, 0 before it.
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
        words = "the run stops after this step, or leaves this evaluation, and saves; again stops it now"
        # Logging and print have locks, which the interrupted code may hold.
        os.write(_stderr(), f"\n{name}: {words}\n".encode())


def settle(processes: int) -> None:
    """Wait until gloo's threads have dropped their tensors, before the process group is destroyed.

    After a collective such a thread needs the interpreter's lock to drop its tensors. The destructor of the
    process group, which DistributedDataParallel keeps until the end, waits for that thread with the lock
    held: for ever if it comes first (seen with torch 2.13).
    """
    if processes > 1:
        time.sleep(SETTLED)


def _stderr() -> int:
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return 2
