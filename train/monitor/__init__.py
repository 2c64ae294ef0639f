"""Watch a training run.

alarms.py      health alarms
console.py     log and progress bar
trackers.py    wandb, TensorBoard, Trackio
preemption.py  stop on a signal, saved
memory.py      memory used, and advice when it runs out
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .alarms import Health
    from .console import log_to_file, progress_bar, set_up_logging
    from .memory import (
        available_memory,
        explaining,
        explaining_model,
        peak_memory,
        reset_peak,
        savings,
        size_words,
        state_bytes,
        used_memory,
    )
    from .preemption import Stopped, StopRequest, settle
    from .trackers import report, report_end, require_tracker, start_tracker
else:
    __getattr__ = lazy(
        __name__,
        alarms="Health",
        console="log_to_file progress_bar set_up_logging",
        memory="available_memory explaining explaining_model peak_memory reset_peak savings size_words state_bytes used_memory",
        preemption="StopRequest Stopped settle",
        trackers="report report_end require_tracker start_tracker",
    )
