"""The training loop, written out."""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress as Bar

from ..configs.errors import UserError
from ..configs.schema import TrainCommand
from ..data.groups import Group
from ..data.sampling import Draw, draw_step
from ..eval.scoring import Share
from ..model.reranker import Reranker
from ..model.scorer import precision_context
from .batches import TrainBatch, step_batches
from .checkpoint import Progress, save_checkpoint, write_folder
from .dev import Dev
from .loss import LOSSES
from .optimizer import rate_factor, set_rate
from .track import MetricsFile

log = logging.getLogger(__name__)


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
    """

    settings: TrainCommand
    output: Path
    accelerator: Any
    reranker: Reranker
    scorer: Any
    optimizer: torch.optim.Optimizer
    groups: list[Group]
    dev: Dev
    steps: int

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


def count_steps(settings: TrainCommand, groups: int) -> int:
    """Optimiser steps of a run; a step may reach over the end of an epoch."""
    if settings.train.max_steps is not None:
        return settings.train.max_steps
    return max(1, math.ceil(settings.train.epochs * groups / settings.train.queries_per_step))


def fit(run: Run, progress: Progress, metrics: MetricsFile | None, bar: Bar) -> Progress:
    """Train from `progress` to the last step; evaluate, keep the best model and checkpoints.

    Returns:
        Where training ended: the last step, or earlier when patience ran out.
    """
    train = run.settings.train
    task = bar.add_task("training", total=run.steps, completed=progress.step, note="")
    while progress.step < run.steps and not _out_of_patience(run, progress):
        begun = time.perf_counter()
        draws = draw_step(
            run.groups,
            start=progress.step * train.queries_per_step,
            count=train.queries_per_step,
            group_size=train.group_size,
            positives=train.positives_per_group,
            seed=run.settings.seed,
        )
        rate = set_rate(
            run.optimizer,
            rate_factor(progress.step, steps=run.steps, warmup_ratio=run.settings.optim.warmup_ratio),
        )
        loss, norm, tokens = train_step(run, draws)
        progress.step += 1
        seconds = time.perf_counter() - begun
        progress.seconds += seconds
        speed = {"queries_per_second": len(draws) / seconds, "tokens_per_second": tokens / seconds}
        queries, words = speed.values()
        note = f"loss {loss:.3f}  {queries:.1f} queries/s  {words:.0f} tokens/s"
        bar.update(task, completed=progress.step, note=note)
        if progress.step % train.log_every == 0 or progress.step == run.steps:
            epoch = progress.step * train.queries_per_step / len(run.groups)
            row = {"loss": loss, "learning_rate": rate, "grad_norm": norm, "epoch": epoch, **speed}
            _write(run, metrics, progress.step, row)
        if progress.step % train.eval_every == 0 or progress.step == run.steps:
            _evaluate(run, progress, metrics, note)
    bar.remove_task(task)
    return progress


def train_step(run: Run, draws: list[Draw]) -> tuple[float, float, int]:
    """One optimiser step over the groups of all processes.

    The gradient is that of the mean loss over the groups of the step, whatever the token
    budget and the number of processes (contract 1).

    Returns:
        Mean loss over the groups, norm of the gradient before clipping, tokens of all processes.

    Raises:
        UserError: the loss or the gradient is not finite; nothing was learned from this step.
    """
    batches = step_batches(
        draws,
        run.reranker.pairs,
        seed=run.settings.seed,
        budget=run.settings.train.tokens_per_batch,
        process=run.accelerator.process_index,
        processes=run.accelerator.num_processes,
        device=run.accelerator.device,
    )
    run.scorer.train()
    run.optimizer.zero_grad(set_to_none=True)
    sums = np.zeros(2)  # loss, tokens
    for number, batch in enumerate(batches):
        last = number == len(batches) - 1
        with nullcontext() if last else run.accelerator.no_sync(run.scorer):
            losses = batch_losses(run, batch)
            # Processes average their gradients; the loss is a sum over groups, so it is multiplied back.
            share = losses.sum() * (run.accelerator.num_processes / len(draws))
            run.accelerator.backward(share if batch.counts else share * 0.0)
        if batch.counts:
            sums += (float(losses.detach().sum()) / len(draws), batch.packed.tokens)
    loss, tokens = run.total(sums)
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, run.settings.optim.max_grad_norm or math.inf))
    if not math.isfinite(loss) or not math.isfinite(norm):
        rows = sorted({run.groups[draw.index].where for draw in draws})
        raise UserError(
            f"loss {loss}, gradient norm {norm}: not finite; the step was not taken. "
            f"Its groups: {', '.join(rows[:10])}",
            advice="Lower optim.learning_rate, use model.precision=fp32, or look at these rows.",
        )
    run.optimizer.step()
    return float(loss), norm, int(tokens)


def batch_losses(run: Run, batch: TrainBatch) -> torch.Tensor:
    """Loss of each group of a batch, shape (G,)."""
    with precision_context(run.accelerator.device, run.settings.model.precision):
        scores = run.scorer(batch.packed)
    settings = run.settings.loss
    return LOSSES[settings.name](scores, batch.positive, batch.offsets, temperature=settings.temperature)


def _evaluate(run: Run, progress: Progress, metrics: MetricsFile | None, note: str) -> None:
    """Dev measures; the best model so far is kept, then a checkpoint is made."""
    values = run.dev.evaluate(run.reranker, run.share, f"step-{progress.step:06d}")
    leading = next(iter(values.values()))
    better = leading > progress.best_value
    if better:
        progress.best_step, progress.best_value, progress.waited = progress.step, leading, 0
    else:
        progress.waited += 1
    shown = ", ".join(f"{measure} {value:.4f}" for measure, value in values.items())
    log.info(
        "step %d of %d: dev %s%s; %s", progress.step, run.steps, shown, " (best)" if better else "", note
    )
    _write(run, metrics, progress.step, {"dev": values})
    if run.accelerator.is_main_process:
        if better:
            write_folder(run.output / "best", run.reranker.save)
        save_checkpoint(
            run.output / "checkpoints",
            run.reranker.model,
            run.optimizer,
            progress,
            keep=run.settings.train.keep_checkpoints,
        )
    run.accelerator.wait_for_everyone()


def _write(run: Run, metrics: MetricsFile | None, step: int, row: dict[str, Any]) -> None:
    if metrics is not None:  # the main process
        metrics.write(step=step, **row)
        flat = {f"dev/{key}": value for key, value in row["dev"].items()} if "dev" in row else row
        run.accelerator.log(flat, step=step)


def _out_of_patience(run: Run, progress: Progress) -> bool:
    patience = run.settings.train.patience
    return patience is not None and progress.waited >= patience
