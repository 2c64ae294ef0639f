"""One optimiser step: from the groups drawn for it to the weights after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configs.errors import UserError
from ..configs.schema import LossSettings, TrainCommand
from ..data.groups import Group
from ..data.sampling import Draw, draw_step
from ..eval.scoring import Share
from ..model.packing import share_out, suitable_tokens
from ..model.reranker import Reranker
from ..model.scorer import Scorer
from ..model.streams import count_streams, run_in_streams
from .batches import TrainBatch, step_batches
from .dev import Dev
from .loss import LOSSES


@dataclass
class Run:
    """What the loop works on.

    Attributes:
        settings: the run's settings.
        output: the run folder.
        accelerator: processes and devices.
        reranker: the model; its scorer holds the weights.
        scorer: the scorer as accelerate prepared it for several processes.
        optimizer: AdamW.
        groups: the training groups.
        dev: the dev queries.
        steps: optimiser steps of the whole run.
        replicas: the scorer again, with gradients of their own, for further streams on a CPU.
    """

    settings: TrainCommand
    output: Path
    accelerator: Any
    reranker: Reranker
    scorer: Any
    optimizer: torch.optim.Optimizer
    groups: Sequence[Group]
    dev: Dev
    steps: int
    replicas: list[Any] = field(default_factory=list)

    @property
    def tokens_per_batch(self) -> int:
        """Tokens of a batch: what was asked for, or what suits the device."""
        fitting = suitable_tokens(self.accelerator.device.type, training=True)
        return self.settings.train.tokens_per_batch or fitting

    @property
    def share(self) -> Share:
        """What of every evaluation falls to this process."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes, self.total)

    def total(self, array: np.ndarray) -> np.ndarray:
        """Sum of an array over all processes."""
        if self.accelerator.num_processes == 1:
            return array
        tensor = torch.from_numpy(array).to(self.accelerator.device)
        summed: np.ndarray = self.accelerator.reduce(tensor, reduction="sum").cpu().numpy()
        return summed


@dataclass(frozen=True)
class Step:
    """What one optimiser step learns from.

    Attributes:
        draws: the groups of all processes.
        batches: what of them falls to this process.
    """

    draws: list[Draw]
    batches: list[TrainBatch]


def prepare_step(run: Run, number: int) -> Step:
    """The groups and batches of a step counted from 0: a function of settings and data alone."""
    train = run.settings.train
    draws = draw_step(
        run.groups,
        start=number * train.queries_per_step,
        count=train.queries_per_step,
        group_size=train.group_size,
        positives=train.positives_per_group,
        seed=run.settings.seed,
    )
    return Step(draws, make_batches(run, draws))


def make_batches(run: Run, draws: list[Draw]) -> list[TrainBatch]:
    """What of these groups falls to this process, as batches."""
    return step_batches(
        draws,
        run.reranker.pairs,
        seed=run.settings.seed,
        budget=run.tokens_per_batch,
        process=run.accelerator.process_index,
        processes=run.accelerator.num_processes,
        device=run.accelerator.device,
    )


def train_step(run: Run, step: Step) -> tuple[float, float, int]:
    """One optimiser step over the groups of all processes.

    The gradient is that of the mean loss over the groups of the step, whatever the token
    budget and the number of processes (contract 1).

    Returns:
        Mean loss over the groups, norm of the gradient before clipping, tokens of all processes.

    Raises:
        UserError: the loss or the gradient is not finite; nothing was learned from this step.
    """
    run.scorer.train()
    run.optimizer.zero_grad(set_to_none=True)
    sums = np.zeros(2)  # loss, tokens
    for batch, loss in zip(step.batches, backward(run, step.batches, len(step.draws)), strict=True):
        if batch.counts:
            sums += (loss, batch.packed.tokens)
    loss, tokens = run.total(sums)
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, run.settings.optim.max_grad_norm or math.inf))
    if not math.isfinite(loss) or not math.isfinite(norm):
        rows = sorted({run.groups[draw.index].where for draw in step.draws})
        raise UserError(
            f"loss {loss}, gradient norm {norm}: not finite; the step was not taken. "
            f"Its groups: {', '.join(rows[:10])}",
            advice="Lower optim.learning_rate, use model.precision=fp32, or look at these rows.",
        )
    run.optimizer.step()
    run.reranker.scorer.weights_changed()
    return float(loss), norm, int(tokens)


def backward(run: Run, batches: Sequence[TrainBatch], groups: int) -> list[float]:
    """Gradients of a step of `groups` groups on all processes; each batch's share of the mean loss.

    On a CPU several streams of one thread work side by side. Which batch goes to which stream, and the
    order in which their gradients are added, depends on nothing but the batches.
    """
    replicas = run.replicas
    losses = [0.0] * len(batches)
    if not replicas or len(batches) == 1:
        for number, batch in enumerate(batches):
            more = number < len(batches) - 1
            with run.accelerator.no_sync(run.scorer) if more else nullcontext():
                losses[number] = _backward_batch(run, run.scorer, batch, groups, more=more)
        return losses
    for replica in replicas:
        replica.train()
    shares = share_out([batch.packed.tokens for batch in batches], len(replicas) + 1)

    def work(stream: int) -> None:
        scorer = [run.scorer, *replicas][stream]
        for number in shares[stream]:
            losses[number] = _backward_batch(run, scorer, batches[number], groups, more=True)

    run_in_streams(work, range(len(shares)), len(shares))
    run.scorer.gather(replicas)
    return losses


def _backward_batch(run: Run, scorer: Any, batch: TrainBatch, groups: int, *, more: bool) -> float:
    losses = batch_losses(run.settings.loss, scorer(batch.packed, more=more), batch)
    # Processes average their gradients; the loss is a sum over groups, so it is multiplied back.
    share = losses.sum() * (run.accelerator.num_processes / groups)
    run.accelerator.backward(share if batch.counts else share * 0.0)
    return float(losses.detach().sum()) / groups


def batch_losses(settings: LossSettings, scores: torch.Tensor, batch: TrainBatch) -> torch.Tensor:
    """Loss of each group of a batch, shape (G,), from the scores (N,)."""
    return LOSSES[settings.name](scores, batch.positive, batch.offsets, temperature=settings.temperature)


LARGEST_REPLICA = 30_000_000  # weights


def make_replicas(scorer: Any, accelerator: Any) -> list[Any]:
    """One replica for each stream but the first; several processes are streams enough."""
    if accelerator.num_processes > 1 or not isinstance(scorer, Scorer) or not scorer.packed:
        return []  # a launcher wraps the scorer even for one process
    # Larger layers do not stay in a core's cache, so that streams only cost the memory of their gradients.
    if sum(weight.numel() for weight in scorer.model.base_model.encoder.parameters()) > LARGEST_REPLICA:
        return []
    return [scorer.replica() for _ in range(count_streams(accelerator.device) - 1)]
