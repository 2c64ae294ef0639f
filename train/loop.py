"""The training loop, written out."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from rich.progress import Progress as Bar

from ..configs.schema_train import TrainCommand
from .checkpoint import Progress, save_checkpoint, write_folder
from .health import Health
from .optimizer import rate_factor, set_rate
from .step import Run, prepare_step, train_step
from .stop import Stopped, StopRequest
from .track import MetricsFile, read_metrics

log = logging.getLogger(__name__)


def count_steps(settings: TrainCommand, groups: int) -> int:
    """Optimiser steps of a run with so many groups an epoch; a step may reach over the end of an epoch."""
    if settings.train.max_steps is not None:
        return settings.train.max_steps
    return max(1, math.ceil(settings.train.epochs * groups / settings.train.queries_per_step))


def fit(run: Run, progress: Progress, metrics: MetricsFile | None, bar: Bar) -> Progress:
    """Train from `progress` to the last step; evaluate, keep the best model and checkpoints.

    Returns:
        Where training ended: the last step, or earlier when patience ran out.

    Raises:
        Stopped: a signal asked for it; a checkpoint of the last step was made.
    """
    train, health = run.settings.train, _health(run)
    task = bar.add_task("training", total=run.steps, completed=progress.step, note="")
    with StopRequest() as request, ThreadPoolExecutor(1, thread_name_prefix="batches") as ahead:
        if _is_due(run, progress.step) and progress.evaluated < progress.step:
            _evaluate(run, progress, metrics, health, "stopped before it")
        coming = ahead.submit(prepare_step, run, progress.step)
        while progress.step < run.steps and not _out_of_patience(run, progress):
            begun = time.perf_counter()
            step = coming.result()
            waited = time.perf_counter() - begun
            if progress.step + 1 < run.steps:
                coming = ahead.submit(prepare_step, run, progress.step + 1)
            factor = rate_factor(progress.step, steps=run.steps, warmup_ratio=run.settings.optim.warmup_ratio)
            rate = set_rate(run.optimizer, factor)
            told = train_step(run, step, stop=lambda: request.signal)
            progress.step += 1
            seconds = time.perf_counter() - begun
            progress.seconds += seconds
            speed = {
                "queries_per_second": len(step.draws) / seconds,
                "tokens_per_second": told.tokens / seconds,
                "data_share": waited / seconds,
            }
            queries, words, _ = speed.values()
            note = f"loss {told.loss:.3f}  {queries:.1f} queries/s  {words:.0f} tokens/s"
            bar.update(task, completed=progress.step, note=note)
            if progress.step % train.log_every == 0 or progress.step == run.steps:
                row = {"loss": told.loss, "learning_rate": rate, "grad_norm": told.grad_norm, **speed}
                row |= {
                    "loss_of_equal_scores": told.loss_of_equal_scores,
                    "score_spread": told.score_spread,
                }
                epoch = run.mix.epoch(progress.step * train.queries_per_step)
                row |= {} if epoch is None else {"epoch": epoch}
                _write(run, metrics, health, progress.step, row)
            if told.stop and progress.step < run.steps:
                wait([coming])
                _save(run, progress)
                raise Stopped(told.stop, progress.step)
            if _is_due(run, progress.step):
                wait([coming])  # the tokenizer serves one thread at a time
                _evaluate(run, progress, metrics, health, note)
    bar.remove_task(task)
    return progress


def _is_due(run: Run, step: int) -> bool:
    """Whether the dev queries are evaluated after this step."""
    return step > 0 and (step % run.settings.train.eval_every == 0 or step == run.steps)


def _evaluate(run: Run, progress: Progress, metrics: MetricsFile | None, health: Health, note: str) -> None:
    """Dev measures; the best model so far is kept, then a checkpoint is made."""
    values = run.dev.evaluate(run.reranker, run.share, f"step-{progress.step:06d}")
    leading = next(iter(values.values()))
    better = leading > progress.best_value
    if better:
        progress.best_step, progress.best_value, progress.waited = progress.step, leading, 0
    else:
        progress.waited += 1
    progress.evaluated = progress.step
    shown = ", ".join(f"{measure} {value:.4f}" for measure, value in values.items())
    log.info(
        "step %d of %d: dev %s%s; %s", progress.step, run.steps, shown, " (best)" if better else "", note
    )
    _write(run, metrics, health, progress.step, {"dev": values})
    if better and run.accelerator.is_main_process:
        write_folder(run.output / "best", run.reranker.save)
    _save(run, progress)


def _save(run: Run, progress: Progress) -> None:
    if run.accelerator.is_main_process:
        save_checkpoint(
            run.output / "checkpoints",
            run.reranker.model,
            run.optimizer,
            progress,
            keep=run.settings.train.keep_checkpoints,
        )
    run.accelerator.wait_for_everyone()


def _health(run: Run) -> Health:
    """What watches the run; of a run that is continued, with what it has seen before."""
    health = Health(judge_base=not run.reranker.new_head)
    file = run.output / "metrics.jsonl"
    for row in read_metrics(file) if run.accelerator.is_main_process and file.is_file() else []:
        if "dev" in row or "score_spread" in row:  # not of an older version
            health.update(row)
    return health


def _write(run: Run, metrics: MetricsFile | None, health: Health, step: int, row: dict[str, Any]) -> None:
    if metrics is not None:  # the main process
        alarms = health.update({"step": step, **row})
        told = {"alarms": [alarm.kind for alarm in alarms]} if alarms else {}
        metrics.write(step=step, **row, **told)
        for alarm in alarms:
            log.warning("step %d: ALARM: %s", step, alarm.text)
        flat = {f"dev/{key}": value for key, value in row["dev"].items()} if "dev" in row else row
        run.accelerator.log(flat, step=step)


def _out_of_patience(run: Run, progress: Progress) -> bool:
    patience = run.settings.train.patience
    return patience is not None and progress.waited >= patience
