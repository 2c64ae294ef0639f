"""Name of the machine: a speed means nothing without it."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any


def hardware_name(device: str | None = None) -> str:
    """Name processor, cores, processes, threads and device; `device` is that of `model.device`."""
    torch: Any = sys.modules.get("torch")  # not imported for it: runs are measured without PyTorch
    cores = f"{_usable()} of {os.cpu_count()} cores"
    if torch is None:
        return f"{_processor()}, {cores}"
    threads = torch.get_num_threads()
    used = f"{threads} {'thread' if threads == 1 else 'threads'}"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    used = f"{processes} processes of {used}" if processes > 1 else used
    return f"{_processor()}, {cores}, {used}, device {_device(torch, device)}"


def _usable() -> int:
    """Count the cores of this process, which a container or a batch system may have limited."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "unknown processor"


def _device(torch: Any, device: str | None) -> str:
    if device is None:
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(torch.device(device))})"
    return device
