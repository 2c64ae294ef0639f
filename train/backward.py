"""Gradients of one optimiser step, batch by batch, and in parts where a group is too large for the memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..configs.schema_train import LossSettings
from ..model.forward import Scorer, count_streams, run_in_streams, share_out, split_batch
from .batches import TrainBatch
from .losses import group_losses
from .optim import exchange

if TYPE_CHECKING:
    from .state import Run

log = logging.getLogger(__name__)


def backward(run: Run, batches: Sequence[TrainBatch], groups: int) -> list[np.ndarray]:
    """Gradients of a step of `groups` groups on all processes.

    On a CPU several streams of one thread work side by side. Which batch goes to which stream, and the
    order in which their gradients are added, depends on nothing but the batches.

    Returns:
        For each batch, shape (3, G): of its groups the loss, the loss of equal scores, and the standard
        deviation of the scores.
    """
    replicas = run.replicas
    told = [np.zeros((3, 0))] * len(batches)
    _say_if_cut(run, max(batch.packed.tokens for batch in batches))
    if not replicas or len(batches) == 1:
        for number, batch in enumerate(batches):
            more = number < len(batches) - 1
            told[number] = _backward_batch(run, run.scorer, batch, groups, more=more)
        return told
    for replica in replicas:
        replica.train()
    shares = share_out([batch.packed.tokens for batch in batches], len(replicas) + 1)

    def work(stream: int) -> None:
        scorer = [run.scorer, *replicas][stream]
        for number in shares[stream]:
            told[number] = _backward_batch(run, scorer, batches[number], groups, more=True)

    run_in_streams(work, range(len(shares)), len(shares))
    run.scorer.gather(replicas)
    return told


def _backward_batch(run: Run, scorer: Any, batch: TrainBatch, groups: int, *, more: bool) -> np.ndarray:
    # Processes average their gradients; the loss is a sum over groups, so it is multiplied back.
    weight = run.accelerator.num_processes / groups if batch.counts else 0.0
    weight *= run.scale.factor if run.scale else 1.0
    at_once = batch.packed.tokens <= run.largest_group
    scores, losses = (_at_once if at_once else _in_parts)(run, scorer, batch, weight, more=more)
    with torch.no_grad():
        chance = batch_losses(run.settings.loss, torch.zeros_like(scores), batch)
    values = scores.detach().double().cpu().numpy()
    spread = [values[start:stop].std() for start, stop in pairwise(batch.offsets)]
    return np.stack([losses.detach().double().cpu().numpy(), chance.double().cpu().numpy(), spread])


def _at_once(
    run: Run, scorer: Any, batch: TrainBatch, weight: float, *, more: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (N,) and losses (G,) of a batch after its backward pass."""
    with _no_exchange(run, scorer, more):
        scores = scorer(batch.packed, more=more)
        losses = batch_losses(run.settings.loss, scores, batch)
        run.accelerator.backward(losses.sum() * weight)
    return scores, losses


def _in_parts(
    run: Run, scorer: Any, batch: TrainBatch, weight: float, *, more: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, but for rounding, in the memory of one part of the batch.

    The scores first, without what a backward pass needs; the loss and its gradient by the scores; then part
    by part the forward pass again and the backward pass from these gradients. GradCache (Gao et al. 2021,
    arXiv:2101.06983) with scores for its embeddings. Dropout is a function of keys, so the second forward
    pass is the first one again.
    """
    parts = split_batch(batch.packed, run.tokens_per_batch)
    with torch.no_grad():
        scores = torch.cat([scorer(part) for part in parts])
    scores.requires_grad_()
    losses = batch_losses(run.settings.loss, scores, batch)
    (by_scores,) = torch.autograd.grad(losses.sum() * weight, scores)
    for number, (part, grad) in enumerate(
        zip(parts, by_scores.split([len(part.keys) for part in parts]), strict=True)
    ):
        follows = more or number < len(parts) - 1
        with _no_exchange(run, scorer, follows):
            run.accelerator.backward((scorer(part, more=follows) * grad).sum())
    return scores, losses


def _no_exchange(run: Run, scorer: Any, more: bool) -> Any:
    """Processes exchange their gradients once a step, with the last of them."""
    if run.sharded:
        exchange(scorer, last=not more)
        return nullcontext()
    return run.accelerator.no_sync(scorer) if more else nullcontext()


def _say_if_cut(run: Run, tokens: int) -> None:
    """Say it once a run; the largest group of a step is always one of the first process."""
    if tokens <= run.largest_group or run.cut_said:
        return
    run.cut_said = True
    log.info(
        "a group of %s tokens, where %s are held at once: gradients of such groups are computed in parts of "
        "%s, exactly, at the cost of one more forward pass; train.tokens_per_batch=%d spares it where memory "
        "allows",
        f"{tokens:,}", f"{run.largest_group:,}", f"{run.tokens_per_batch:,}", tokens,
    )  # fmt: skip


def batch_losses(settings: LossSettings, scores: torch.Tensor, batch: TrainBatch) -> torch.Tensor:
    """Loss of each group of a batch, shape (G,), from the scores (N,)."""
    return group_losses(settings, scores, batch.labels, batch.offsets, batch.teacher)


LARGEST_REPLICA = 30_000_000  # weights


def make_replicas(scorer: Any, accelerator: Any) -> list[Any]:
    """One replica for each stream but the first; several processes are streams enough."""
    if accelerator.num_processes > 1 or not isinstance(scorer, Scorer) or not scorer.packed:
        return []  # a launcher wraps the scorer even for one process
    # Larger layers do not stay in a core's cache, so that streams only cost the memory of their gradients.
    if sum(weight.numel() for weight in scorer.model.base_model.encoder.parameters()) > LARGEST_REPLICA:
        return []
    return [scorer.replica() for _ in range(count_streams(accelerator.device) - 1)]
