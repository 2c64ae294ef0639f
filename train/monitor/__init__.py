"""Watch a training run.

monitor.py     metrics, alarms, tracker and signals of a run in one object
alarms.py      health alarms
console.py     log and progress bar
trackers.py    wandb, TensorBoard, Trackio
preemption.py  stop on a signal, saved
memory.py      memory used, and advice when it runs out
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
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
    from .monitor import Monitor
    from .preemption import Stopped, settle
    from .trackers import report_end, require_login, require_tracker
else:
    __getattr__ = lazy(
        __name__,
        console="log_to_file progress_bar set_up_logging",
        memory="available_memory explaining explaining_model peak_memory reset_peak savings size_words state_bytes used_memory",
        monitor="Monitor",
        preemption="Stopped settle",
        trackers="report_end require_login require_tracker",
    )
