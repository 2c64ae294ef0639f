"""Memory: the use of a process, its limit, and what to set when it was not enough."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...configs.errors import UserError

if TYPE_CHECKING:
    from ..batches import TrainBatch
    from ..state import Run

CGROUP = Path("/sys/fs/cgroup")
# Messages of allocators without an exception of their own: CPU, MPS, C++ and the system.
WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "ALLOC_FAILED",
)


def used_memory(device: torch.device) -> int:
    """Return the bytes in use: of the process on a CPU, of its tensors on a GPU."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes in use since `reset_peak`, or since the start if that cannot be reset."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return used_memory(device)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def reset_peak(device: torch.device) -> None:
    """Reset the peak if the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def available_memory(device: torch.device) -> int:
    """Return the bytes free for this process on the machine, in its container, or on the GPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # "max" without a limit
        limit, held = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - held))
    return free


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for errors that mean too little memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(word.lower() in text for word in WORDS)


@contextmanager
def explaining(run: Run, what: str, batches: Sequence[TrainBatch] = ()) -> Iterator[None]:
    """Turn running out of memory into an error that says what to set.

    Args:
        run: the run.
        what: the work, for the message: `step 12`.
        batches: the training batches; none in an evaluation.

    Raises:
        UserError: there was not enough memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        explained = _error(run, what, batches)
        if run.accelerator.process_index:  # the command prints errors of rank 0 only
            sys.stderr.write(f"uprank train: process {run.accelerator.process_index}: {explained}\n")
        raise explained from None


@contextmanager
def explaining_model(what: str, advice: str) -> Iterator[None]:
    """Do the same before the first step and after the last, where no step is to blame.

    Args:
        what: the work, for the message: `loading the model`.
        advice: what to do.

    Raises:
        UserError: there was not enough memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"out of memory while {what}", advice=advice) from None


def _error(run: Run, what: str, batches: Sequence[TrainBatch]) -> UserError:
    held, least, size = run.reranker.tokens_per_batch, run.reranker.budgets[1], ""
    if batches:
        # Streams work side by side, so the batch at fault is unknown: name the largest.
        batch = max(batches, key=lambda batch: batch.packed.tokens)
        ends = [batch.packed.offsets[place] for place in batch.offsets]
        longest = max(stop - start for start, stop in pairwise(ends))
        tokens, groups, least = batch.packed.tokens, len(batch.offsets) - 1, max(batch.packed.lengths)
        held = tokens if tokens <= run.largest_group else run.tokens_per_batch
        size = (
            f": its largest batch has {tokens:,} tokens, {len(batch.packed.keys)} pairs of {groups} "
            f"{'groups' if groups > 1 else 'group'}, its longest group {longest:,}"
        )
    same, other = savings(run)
    if held > least:  # else it is a single pair, which cannot be cut
        same.insert(0, f"train.tokens_per_batch={max(held // 2, least)}")
    kept = sorted((run.output / "checkpoints").glob("step-*"))
    lost = f"{kept[-1].name} is kept" if kept else "There is no checkpoint yet"
    goes_on = f"goes on after {kept[-1].name}" if kept else "begins again"
    again = f"{lost}; the same command with {' and, if need be, '.join(same)} {goes_on}. " if same else ""
    return UserError(
        f"out of memory in {what}{size}",
        advice=f"{again}A new run needs less with {', or '.join(other)}.",
    )


def savings(run: Run) -> tuple[list[str], list[str]]:
    """Return settings that need less memory: those that change no result, and those for a new run."""
    settings, same, other = run.settings, [], []
    if not settings.train.gradient_checkpointing:
        same.append("train.gradient_checkpointing=true")
    if run.accelerator.device.type != "cpu" and settings.model.precision == "fp32":
        other.append("model.precision=bf16")
    table = run.trained.get_input_embeddings().weight
    if table.requires_grad:
        freed = table.numel() * table.element_size() + state_bytes(run.optimizer, [table])
        other.append(f"model.freeze=embeddings (at least {size_words(freed)} less)")
    other.append(f"a model.max_tokens below {run.reranker.budgets[1]}")
    return same, other


def state_bytes(optimizer: torch.optim.Optimizer, parameters: Sequence[Any] | None = None) -> int:
    """Return the bytes of an optimizer's states, for all parameters or some; 0 before its first step."""
    states = optimizer.state.values() if parameters is None else map(optimizer.state.get, parameters)
    return sum(
        value.numel() * value.element_size()
        for state in states
        for value in (state or {}).values()
        if isinstance(value, torch.Tensor)
    )


def size_words(count: float) -> str:
    """Return bytes in words.

    >>> size_words(3_400), size_words(2_340_000_000)
    ('3 kB', '2.3 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.0f} kB"
