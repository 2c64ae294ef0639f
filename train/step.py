"""One optimizer step: from the groups drawn for it to the weights after it."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..configs.errors import UserError
from ..configs.schema_train import TrainCommand
from ..data.sampling import Draw, draw_visits, in_batch_negatives
from .backward import backward
from .batches import TrainBatch, step_batches
from .optim import full
from .state import Run


def count_steps(settings: TrainCommand, groups: int) -> int:
    """Return the optimizer steps of a run with `groups` an epoch; a step may span the end of an epoch."""
    if settings.train.max_steps is not None:
        return settings.train.max_steps
    return max(1, math.ceil(settings.train.epochs * groups / settings.train.queries_per_step))


@dataclass(frozen=True)
class Step:
    """The data of one optimizer step.

    Attributes:
        draws: the groups of all ranks.
        batches: this rank's share of them.
    """

    draws: list[Draw]
    batches: list[TrainBatch]


def prepare_step(run: Run, number: int) -> Step:
    """Draw the groups of a step counted from 0 and make its batches, from settings and data alone.

    Raises:
        UserError: a row of a stream is wrong.
    """
    train = run.settings.train
    visits = list(run.mix.visits(number * train.queries_per_step, train.queries_per_step))
    draws = draw_visits(
        visits,
        group_size=train.group_size,
        positives=train.positives_per_group,
        seed=run.settings.seed,
    )
    draws = in_batch_negatives(
        draws,
        [visit.group for visit in visits],
        per_group=train.in_batch_negatives,
        seed=run.settings.seed,
        repeated=run.repeated,
    )
    return Step(draws, make_batches(run, draws))


def make_batches(run: Run, draws: list[Draw]) -> list[TrainBatch]:
    """Make the batches of this rank's share of the groups."""
    return step_batches(
        draws,
        run.reranker.pairs,
        seed=run.settings.seed,
        budget=run.tokens_per_batch,
        share=(run.accelerator.process_index, run.accelerator.num_processes),
        device=run.accelerator.device,
    )


@dataclass(frozen=True)
class Outcome:
    """The statistics of one optimizer step over all ranks.

    Attributes:
        loss: mean over the groups.
        loss_of_equal_scores: the loss if all passages had the same score.
        score_spread: standard deviation of the scores within a group, mean over the groups.
        grad_norm: norm of the whole gradient before clipping.
        tokens: tokens of all batches.
        stop: number of the signal that asked some rank to stop, 0 if none did.
        skipped: True if the gradient overflowed fp16 and no weight changed; `grad_norm` is then not finite.
    """

    loss: float
    loss_of_equal_scores: float
    score_spread: float
    grad_norm: float
    tokens: int
    stop: int = 0
    skipped: bool = False


def train_step(run: Run, step: Step, *, stop: Callable[[], int] = int) -> Outcome:
    """Take an optimizer step over the groups of all ranks.

    The gradient is that of the mean loss over the groups of the step, for every token budget and number of
    ranks (contract 1).

    Args:
        run: the run; its weights change.
        step: the groups.
        stop: called after the backward pass; returns the signal that asks this rank to stop, or 0. All ranks
            learn of it.

    Raises:
        UserError: the loss or the gradient is not finite, and no loss scale helps; no weight changed.
    """
    run.scorer.train()
    run.optimizer.zero_grad(set_to_none=True)
    stats = backward(run, step.batches, len(step.draws))
    sums = np.zeros(5)  # loss, loss of equal scores, spread, tokens, signal
    for batch, values in zip(step.batches, stats, strict=True):
        if batch.counts:
            sums += [*values.sum(axis=1) / len(step.draws), batch.packed.tokens, 0]
    asked_here = sums[-1] = stop()
    loss, chance, spread, tokens, asked = map(float, run.total(sums))
    norm = _unscale_and_clip(run)
    finite = math.isfinite(norm)
    if run.scale and math.isfinite(loss):
        run.scale.update(finite=finite)
    if not math.isfinite(loss) or not (finite or (run.scale and not run.scale.hopeless)):
        raise _not_finite(run, step, stats, loss, norm)
    if finite:
        run.optimizer.step()
        run.reranker.scorer.weights_changed()
    number = int(asked_here) or (signal.SIGTERM if asked else 0)
    return Outcome(loss, chance, spread, norm, int(tokens), number, skipped=not finite)


def _unscale_and_clip(run: Run) -> float:
    """Unscale and clip the gradient; return its norm before clipping, equal on every rank."""
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    if run.scale:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(run.scale.factor)
    norm = torch.nn.utils.clip_grad_norm_(parameters, run.settings.optim.max_grad_norm or math.inf)
    return float(full(norm))


def _not_finite(run: Run, step: Step, stats: Sequence[np.ndarray], loss: float, norm: float) -> UserError:
    """Return the error, which names the groups without a finite loss, or all of the step."""
    wrong = np.zeros(len(step.draws))
    for batch, values in zip(step.batches, stats, strict=True):
        wrong[batch.places] += ~np.isfinite(values[0]) * batch.counts
    wrong = run.total(wrong)  # collective: loss and norm are equal on every rank, so every rank is here
    at_fault = [draw.where for draw, count in zip(step.draws, wrong, strict=True) if count]
    rows = sorted(set(at_fault or [draw.where for draw in step.draws]))
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    which = "Groups without a finite loss" if at_fault else "Its groups"
    before = ""
    if run.scale and math.isfinite(loss):
        before = f"{run.scale.in_a_row} steps in a row skipped, loss scale now {run.scale.factor:g}: "
    return UserError(
        f"{before}loss {loss}, gradient norm {norm}: not finite; the step was not taken. "
        f"{which}: {', '.join(rows[:10])}{more}",
        advice="Lower optim.learning_rate, use model.precision=fp32, or look at these rows.",
    )
