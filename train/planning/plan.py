"""`uprank train … plan=true`: what a run will take, from its own data and a few measured steps."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.encoding import PairEncoder
from ...data.sampling import Draw, Stream
from ..monitor import explaining, peak_memory, reset_peak, state_bytes
from ..state import Run
from ..step import Step, prepare_step, train_step

log = logging.getLogger(__name__)

SAMPLE = 16  # steps whose tokens are counted
DEV_SAMPLE = 256  # pairs scored to time an evaluation


@dataclass(frozen=True)
class Machine:
    """Memory before the model is loaded, in bytes: used by this process, and free beyond that."""

    used: int
    available: int


@dataclass(frozen=True)
class StepSize:
    """The data of one optimizer step on all ranks.

    Attributes:
        number: the step, from 0.
        groups: queries.
        pairs: pairs of query and passage.
        tokens: tokens of all pairs, after truncation.
        padded: tokens if batches of the same budget were padded to their longest pair.
        longest_group: tokens of the largest group.
        cut_pairs: truncated pairs.
        cut_queries: queries truncated in at least one pair.
    """

    number: int
    groups: int
    pairs: int
    tokens: int
    padded: int
    longest_group: int
    cut_pairs: int
    cut_queries: int


@dataclass(frozen=True)
class Bytes:
    """Memory of one process, in bytes.

    Attributes:
        before: in use before the model was loaded (Python, libraries, data); 0 on a GPU.
        weights: all weights.
        gradients: gradients of the trained weights.
        states: optimizer states.
        average: averaged weights, 0 without `train.ema`.
        rest: activations, copies and allocator: the measured peak less everything above.
    """

    before: int
    weights: int
    gradients: int
    states: int
    average: int
    rest: int

    @property
    def peak(self) -> int:
        """Sum of all parts."""
        return self.before + self.weights + self.gradients + self.states + self.average + self.rest


@dataclass(frozen=True)
class Plan:
    """The needs of a run.

    Attributes:
        steps: optimizer steps.
        epochs: passes over the data; None for a stream.
        groups: training groups; None for a stream.
        sizes: the sampled steps.
        parameters: number of all and of trained parameters.
        bytes: memory of the process that needs most.
        processes: processes that share this machine's memory.
        available: bytes for these processes together.
        step_seconds: seconds of a step of mean size.
        evaluations: evaluations of the dev queries, that of the base included.
        evaluation_seconds: seconds of an evaluation.
        disk: most bytes of the run folder.
        free: free bytes on its disk.
    """

    steps: int
    epochs: float | None
    groups: int | None
    sizes: list[StepSize]
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
    def truncated(self) -> tuple[float, float]:
        """Share of the sampled pairs, and of the queries, that lose tokens."""
        return (
            sum(size.cut_pairs for size in self.sizes) / sum(size.pairs for size in self.sizes),
            sum(size.cut_queries for size in self.sizes) / sum(size.groups for size in self.sizes),
        )

    @property
    def padding(self) -> float:
        """Share of padding in the tokens of padded batches."""
        return 1 - sum(size.tokens for size in self.sizes) / sum(size.padded for size in self.sizes)

    @property
    def seconds(self) -> float:
        """Seconds of all steps and evaluations."""
        return self.steps * self.step_seconds + self.evaluations * self.evaluation_seconds


def make_plan(run: Run, machine: Machine) -> Plan:
    """Count some steps, take four of them, and score some dev pairs; the run cannot be used afterwards.

    Nothing is written. The learning rate is 0, so the measured model is the one to be trained.

    Raises:
        UserError: memory is not enough even for that; says what to set.
    """
    log.info("plan: counting the tokens of %d steps", len(_sample_of(run)))
    sizes = [
        size_step(number, prepare_step(run, number).draws, run.reranker.pairs, run.tokens_per_batch)
        for number in _sample_of(run)
    ]
    train, cuda = run.settings.train, run.accelerator.device.type == "cuda"
    reset_peak(run.accelerator.device)
    log.info("plan: taking a few of them with a learning rate of 0, to measure time and memory")
    seconds_a_token = _time_steps(run, sizes)
    log.info("plan: scoring some dev pairs")
    evaluation = _time_evaluation(run)
    model = run.reranker.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = _bytes(run, 0 if cuda else machine.used, tensor_bytes(trained))
    # On a GPU a process has the memory by itself; on CPUs the processes of this machine share it.
    local = 1 if cuda else min(run.accelerator.num_processes, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    existing = next(place for place in (run.output, *run.output.absolute().parents) if place.exists())
    return Plan(
        steps=run.steps,
        epochs=run.mix.epoch(run.steps * sizes[0].groups),
        groups=run.mix.length,
        sizes=sizes,
        parameters=(sum(p.numel() for p in model.parameters()), sum(p.numel() for p in trained)),
        bytes=parts,
        processes=local,
        available=machine.available + local * machine.used,
        step_seconds=seconds_a_token * float(np.mean([size.tokens for size in sizes])),
        evaluations=1 + -(-run.steps // train.eval_every),
        evaluation_seconds=evaluation,
        disk=disk_bytes(parts.weights, parts.states, parts.average, keep=train.keep_checkpoints),
        free=shutil.disk_usage(existing).free,
    )


def size_step(number: int, draws: Sequence[Draw], encoder: PairEncoder, budget: int) -> StepSize:
    """Count the pairs and tokens of a step."""
    nothing = int(encoder.full_lengths([("", "")])[0])  # special tokens
    lengths, cut_pairs, cut_queries = [], 0, 0
    for draw in draws:
        pairs = [(draw.query, passage) for passage in (*draw.positives, *draw.negatives)]
        full = encoder.full_lengths(pairs)
        query = int(encoder.full_lengths([(draw.query, "")])[0]) - nothing
        longest = int(full.max()) - nothing - query  # passage
        lengths.append(encoder.lengths(pairs))
        cut_pairs += int((full > encoder.max_tokens).sum())
        cut_queries += query > max(encoder.query_tokens, encoder.room - longest)  # contract 4
    sizes = [int(group.sum()) for group in lengths]
    return StepSize(
        number,
        groups=len(draws),
        pairs=sum(map(len, lengths)),
        tokens=sum(sizes),
        padded=padded_tokens(lengths, budget),
        longest_group=max(sizes),
        cut_pairs=cut_pairs,
        cut_queries=cut_queries,
    )


def padded_tokens(groups: Sequence[np.ndarray], budget: int) -> int:
    """Count the tokens of whole groups in batches padded to their longest pair.

    Args:
        groups: tokens of each pair, a group at a time.
        budget: tokens a batch, padding included; a larger group is a batch by itself.

    >>> padded_tokens([np.array([4, 2]), np.array([3, 3]), np.array([10])], 16)
    26
    """
    total = filled = longest = 0
    for lengths in groups:
        widest = max(longest, int(lengths.max()))
        if (filled + len(lengths)) * widest > budget:
            total += filled * longest
            filled, widest = 0, int(lengths.max())
        filled, longest = filled + len(lengths), widest
    return total + filled * longest


def tensor_bytes(tensors: Any) -> int:
    """Return the bytes of distinct tensors; tied weights count once."""
    distinct = {tensor.data_ptr(): tensor for tensor in tensors if tensor.numel()}
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())


def disk_bytes(model: int, states: int, average: int, *, keep: int) -> int:
    """Return the most bytes of a run folder: best and last model, checkpoints, one of them being written."""
    return 2 * model + (keep + 1) * (model + states + average)


def _sample_of(run: Run) -> Sequence[int]:
    """Return the numbers of the sampled steps, spread over the run; the first ones of a stream."""
    count = min(SAMPLE, run.steps)
    if any(isinstance(source.groups, Stream) for source in run.mix.sources):
        return range(count)  # later ones would need everything before them to be read
    return sorted({round(place) for place in np.linspace(0, run.steps - 1, count).tolist()})


def _time_steps(run: Run, sizes: list[StepSize]) -> float:
    """Return the seconds a token of three steps around the median, after the one that needs most memory."""
    budget = run.tokens_per_batch
    largest = max(sizes, key=lambda size: (max(budget, size.longest_group), size.tokens))
    by_tokens = sorted(sizes, key=lambda size: size.tokens)
    middle = [by_tokens[len(by_tokens) * part // 4] for part in (1, 2, 3)]
    order = [largest, *middle, largest]  # again at the end, with the optimizer's states in memory
    seconds: list[float] = []
    with ThreadPoolExecutor(1) as ahead:  # as in the training loop
        coming = ahead.submit(prepare_step, run, order[0].number)
        for size, follows in zip(order, [*order[1:], None], strict=True):
            begun = time.perf_counter()
            step: Step = coming.result()
            if follows:
                coming = ahead.submit(prepare_step, run, follows.number)
            with explaining(run, f"step {size.number + 1}", step.batches):
                while train_step(run, step).skipped:  # the first steps of fp16 search for its scale
                    begun = time.perf_counter()
            seconds.append(time.perf_counter() - begun)
    return sum(seconds[1:-1]) / sum(size.tokens for size in middle)


def _time_evaluation(run: Run) -> float:
    """Return the seconds of one evaluation, from some of its pairs."""
    dev = run.dev
    pairs = list(dict.fromkeys(dev.candidates.pairs))
    places = np.linspace(0, len(pairs) - 1, min(DEV_SAMPLE, len(pairs))).astype(int).tolist()
    texts = [(dev.collection.queries[pairs[i][0]], dev.collection.passages[pairs[i][1]]) for i in places]
    with explaining(run, "an evaluation"):
        run.reranker.score(texts[:: max(1, len(texts) // 16)])  # builds the fused forward
        begun = time.perf_counter()
        run.reranker.score(texts)
        seconds = time.perf_counter() - begun
    return seconds * len(pairs) / len(texts) / run.accelerator.num_processes


def _bytes(run: Run, before: int, trained: int) -> Bytes:
    """Split the peak into its parts, for the process that needs most."""
    weights = tensor_bytes(run.reranker.model.state_dict().values())
    states, average = state_bytes(run.optimizer), trained if run.settings.train.ema is not None else 0
    # At the end the best model is loaded beside this one, without gradients.
    least = weights - trained
    known = before + weights + trained + states
    cells = np.zeros(run.accelerator.num_processes)
    cells[run.accelerator.process_index] = max(0, least, peak_memory(run.accelerator.device) - known)
    return Bytes(before, weights, trained, states, average, int(run.total(cells).max()))
