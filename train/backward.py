"""The gradients of one optimizer step, batch by batch; groups too large for memory in parts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..model.forward import PackedBatch, Scorer, count_streams, run_in_streams, share_out, split_batch
from .batches import TrainBatch
from .losses import group_losses
from .optim import exchange

if TYPE_CHECKING:
    from .state import Run

log = logging.getLogger(__name__)
LARGEST_REPLICA = 30_000_000  # weights


def backward(run: Run, batches: Sequence[TrainBatch], groups: int) -> list[np.ndarray]:
    """Compute the gradients of a step of `groups` groups on all ranks.

    On a CPU several streams of one thread each work side by side. The batches alone decide which stream gets
    which batch and in which order gradients are added.

    Returns:
        For each batch, shape (3, G): each group's loss, loss of equal scores, and standard deviation of the
        scores.
    """
    _log_if_cut(run, max(batch.packed.tokens for batch in batches))
    replicas = run.replicas if len(batches) > 1 else []
    # The gradients of streams are gathered after all of them, so none of their batches is the last.
    batches = [
        replace(batch, packed=replace(batch.packed, last=not replicas and batch is batches[-1]))
        for batch in batches
    ]
    stats = [np.zeros((3, 0))] * len(batches)
    if not replicas:
        for number, batch in enumerate(batches):
            stats[number] = _backward_batch(run, run.scorer, batch, groups)
        return stats
    for replica in replicas:
        replica.train()
    shares = share_out([batch.packed.tokens for batch in batches], len(replicas) + 1)

    def work(stream: int) -> None:
        scorer = [run.scorer, *replicas][stream]
        for number in shares[stream]:
            stats[number] = _backward_batch(run, scorer, batches[number], groups)

    run_in_streams(work, range(len(shares)), len(shares))
    run.scorer.gather(replicas)
    return stats


def _backward_batch(run: Run, scorer: Any, batch: TrainBatch, groups: int) -> np.ndarray:
    """Run forward and backward pass of a batch.

    A batch above `run.largest_group` is computed in parts: less memory, the same gradient up to rounding:
    first the scores, without what a backward pass needs; then the loss and its gradient by the scores; then,
    part by part, the forward pass again and the backward pass from that gradient. This is GradCache (Gao et
    al. 2021, arXiv:2101.06983) with scores in place of embeddings. Dropout is a function of keys, so the
    second forward pass repeats the first.
    """
    packed = batch.packed
    # Ranks average their gradients; the loss is a sum over groups, so it is multiplied back.
    weight = run.accelerator.num_processes / groups if batch.counts else 0.0
    weight *= run.scale.factor if run.scale else 1.0
    losses_of = partial(
        group_losses, run.settings.loss, labels=batch.labels, offsets=batch.offsets, teacher=batch.teacher
    )
    if packed.tokens <= run.largest_group:
        with _gradient_exchange(run, scorer, packed):
            scores = scorer(packed)
            losses = losses_of(scores)
            run.accelerator.backward(losses.sum() * weight)
    else:
        parts = split_batch(packed, run.tokens_per_batch)
        with torch.no_grad():
            scores = torch.cat([scorer(part) for part in parts])
        scores.requires_grad_()
        losses = losses_of(scores)
        (by_scores,) = torch.autograd.grad(losses.sum() * weight, scores)
        for part, grad in zip(parts, by_scores.split([len(part.keys) for part in parts]), strict=True):
            with _gradient_exchange(run, scorer, part):
                run.accelerator.backward((scorer(part) * grad).sum())
    with torch.no_grad():
        chance = losses_of(torch.zeros_like(scores))
    values = scores.detach().double().cpu().numpy()
    spread = [values[start:stop].std() for start, stop in pairwise(batch.offsets)]
    return np.stack([losses.detach().double().cpu().numpy(), chance.double().cpu().numpy(), spread])


def _gradient_exchange(run: Run, scorer: Any, packed: PackedBatch) -> Any:
    """Return a context in which ranks exchange gradients only with the last batch of a step."""
    if run.sharded:
        exchange(scorer, last=packed.last)
        return nullcontext()
    return nullcontext() if packed.last else run.accelerator.no_sync(scorer)


def _log_if_cut(run: Run, tokens: int) -> None:
    """Log once a run that groups are cut; rank 0 always has the largest group of a step."""
    if tokens <= run.largest_group or run.cut_said:
        return
    run.cut_said = True
    log.info(
        "a group of %s tokens is above the %s computed at once: the gradient of such groups is computed in "
        "parts of %s, exactly, with one more forward pass; train.tokens_per_batch=%d avoids that",
        f"{tokens:,}", f"{run.largest_group:,}", f"{run.tokens_per_batch:,}", tokens,
    )  # fmt: skip


def make_replicas(scorer: Any, accelerator: Any) -> list[Any]:
    """Make one replica for each stream but the first; several processes need no streams."""
    if accelerator.num_processes > 1 or not isinstance(scorer, Scorer) or not scorer.packed:
        return []  # a launcher wraps the scorer even for one process
    # Larger layers do not stay in a core's cache: streams would only cost the memory of their gradients.
    if sum(weight.numel() for weight in scorer.model.base_model.encoder.parameters()) > LARGEST_REPLICA:
        return []
    return [scorer.replica() for _ in range(count_streams(accelerator.device) - 1)]
