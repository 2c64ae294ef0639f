"""`uprank train … plan=true`: what a run will take, from its own data and a few measured steps."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.sampling import Stream
from ..monitor import explaining, peak_memory, reset_peak, state_bytes
from ..state import Run
from ..step import Step, prepare_step, train_step
from .estimate import Bytes, StepSize, disk_bytes, size_step, tensor_bytes

SAMPLE = 16  # steps whose tokens are counted
DEV_SAMPLE = 256  # pairs that are scored for the time of an evaluation


@dataclass(frozen=True)
class Machine:
    """What there is, before the model was loaded.

    Attributes:
        used: bytes that this process used.
        available: bytes that were free beyond that.
    """

    used: int
    available: int


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        steps: optimiser steps.
        epochs: passes over the data; None of a stream.
        groups: to learn from; None of a stream.
        sizes: of the sampled steps.
        truncated: share of their pairs, and of their queries, that lose tokens.
        padding: share of the tokens of padded batches that would be padding.
        packed: whether the model computes none of it.
        parameters: all, and trained.
        bytes: of the process that needs most.
        processes: of them on this machine that share its memory.
        available: bytes that they may have.
        step_seconds: of a step of mean size.
        evaluations: of the dev queries, that of the base among them.
        evaluation_seconds: of one.
        disk: bytes of the run folder at most.
        free: bytes on that disk.
    """

    steps: int
    epochs: float | None
    groups: int | None
    sizes: list[StepSize]
    truncated: tuple[float, float]
    padding: float
    packed: bool
    parameters: tuple[int, int]
    bytes: Bytes
    processes: int
    available: int
    step_seconds: float
    evaluations: int
    evaluation_seconds: float
    disk: int
    free: int

    @property
    def tokens(self) -> float:
        """Of a step, mean of the sampled ones."""
        return float(np.mean([size.tokens for size in self.sizes]))

    @property
    def seconds(self) -> float:
        """Of the whole run: steps and evaluations."""
        return self.steps * self.step_seconds + self.evaluations * self.evaluation_seconds


def make_plan(run: Run, machine: Machine) -> Plan:
    """Count some steps, take four of them, and score some dev pairs; the model is of no use afterwards.

    Nothing is written. The learning rate is 0, so that what is measured is the model that will be trained.

    Raises:
        UserError: memory is not enough even for that, with what to set.
    """
    sizes = [
        size_step(number, prepare_step(run, number).draws, run.reranker.pairs, run.tokens_per_batch)
        for number in _sample_of(run)
    ]
    device = run.accelerator.device
    reset_peak(device)
    seconds = _time_steps(run, sizes)
    evaluation = _time_evaluation(run)
    model = run.reranker.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    bytes_ = _bytes(run, machine, peak_memory(device), tensor_bytes(trained))
    pairs = sum(size.pairs for size in sizes)
    groups = sum(size.groups for size in sizes)
    every, epoch = run.settings.train.eval_every, run.mix.epoch(run.steps * sizes[0].groups)
    return Plan(
        steps=run.steps,
        epochs=epoch,
        groups=run.mix.length,
        sizes=sizes,
        truncated=(
            sum(size.cut_pairs for size in sizes) / pairs,
            sum(size.cut_queries for size in sizes) / groups,
        ),
        padding=1 - sum(size.tokens for size in sizes) / sum(size.padded for size in sizes),
        packed=run.reranker.scorer.packed,
        parameters=(sum(p.numel() for p in model.parameters()), sum(p.numel() for p in trained)),
        bytes=bytes_,
        processes=_sharing(run),
        available=machine.available + _sharing(run) * machine.used,
        step_seconds=seconds * float(np.mean([size.tokens for size in sizes])),
        evaluations=1 + -(-run.steps // every),
        evaluation_seconds=evaluation,
        disk=disk_bytes(
            tensor_bytes(model.state_dict().values()),
            bytes_.states,
            bytes_.average,
            keep=run.settings.train.keep_checkpoints,
        ),
        free=shutil.disk_usage(_existing(run.output)).free,
    )


def _sample_of(run: Run) -> Sequence[int]:
    """Numbers of the steps that are looked at: spread over the run, or the first ones of a stream."""
    count = min(SAMPLE, run.steps)
    if any(isinstance(source.groups, Stream) for source in run.mix.sources):
        return range(count)  # what comes later would have to be read up to there
    return sorted({round(place) for place in np.linspace(0, run.steps - 1, count).tolist()})


def _time_steps(run: Run, sizes: list[StepSize]) -> float:
    """Seconds a token: of three steps around the median, after the one that needs most memory."""
    budget = run.tokens_per_batch
    largest = max(sizes, key=lambda size: (max(budget, size.longest_group), size.tokens))
    by_tokens = sorted(sizes, key=lambda size: size.tokens)
    middle = [by_tokens[len(by_tokens) * part // 4] for part in (1, 2, 3)]
    order = [largest, *middle, largest]  # its memory is that of a step with the optimiser's states there
    seconds: list[float] = []
    with ThreadPoolExecutor(1) as ahead:  # as the loop does it
        coming = ahead.submit(prepare_step, run, order[0].number)
        for size, follows in zip(order, [*order[1:], None], strict=True):
            begun = time.perf_counter()
            step: Step = coming.result()
            if follows:
                coming = ahead.submit(prepare_step, run, follows.number)
            with explaining(run, f"step {size.number + 1}", step.batches):
                while train_step(run, step).skipped:  # fp16 finds its scale, as the first steps of a run do
                    begun = time.perf_counter()
            seconds.append(time.perf_counter() - begun)
    return sum(seconds[1:-1]) / sum(size.tokens for size in middle)


def _time_evaluation(run: Run) -> float:
    """Seconds of one evaluation, from some of its pairs."""
    dev = run.dev
    pairs = list(dict.fromkeys(dev.candidates.pairs))
    places = np.linspace(0, len(pairs) - 1, min(DEV_SAMPLE, len(pairs))).astype(int).tolist()
    texts = [(dev.collection.queries[pairs[i][0]], dev.collection.passages[pairs[i][1]]) for i in places]
    with explaining(run, "an evaluation"):
        run.reranker.score(texts[:: max(1, len(texts) // 16)])  # what is made of the weights is made once
        begun = time.perf_counter()
        run.reranker.score(texts)
        seconds = time.perf_counter() - begun
    return seconds * len(pairs) / len(texts) / run.accelerator.num_processes


def _bytes(run: Run, machine: Machine, peak: int, trained: int) -> Bytes:
    """The parts of the peak; of several processes that of the one which needs most."""
    state = run.reranker.model.state_dict().values()
    before = 0 if run.accelerator.device.type == "cuda" else machine.used
    states, average = state_bytes(run.optimizer), trained if run.settings.train.ema is not None else 0
    # At the end the best model is loaded beside this one, without gradients.
    least = tensor_bytes(state) - trained
    known = before + tensor_bytes(state) + trained + states
    cells = np.zeros(run.accelerator.num_processes)
    cells[run.accelerator.process_index] = max(0, least, peak - known)
    rest = int(run.total(cells).max())
    return Bytes(before, tensor_bytes(state), trained, states, average, rest)


def _sharing(run: Run) -> int:
    """Processes that share the memory: those of this machine on CPUs, one on a GPU."""
    if run.accelerator.device.type == "cuda":
        return 1
    return min(run.accelerator.num_processes, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there already."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
