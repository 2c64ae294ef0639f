"""The training loop, written out."""

from __future__ import annotations

import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from typing import Any, NoReturn

from rich.progress import Progress as Bar

from ..configs.errors import UserError
from ..data.store import write_folder
from ..eval.scoring import LeftEarly
from .monitor import Health, Stopped, StopRequest, explaining, report
from .optim import rate_factor, set_rate, update_average
from .run_folder import (
    MetricsFile,
    Progress,
    gather_states,
    on_first,
    read_metrics,
    save_checkpoint,
)
from .state import Run, averaged
from .step import prepare_step, train_step

log = logging.getLogger(__name__)


def fit(
    run: Run, progress: Progress, metrics: MetricsFile | None, bar: Bar, request: StopRequest
) -> Progress:
    """Train from `progress` to the last step; evaluate, keep the best model and checkpoints.

    Returns:
        Where training ended: the last step, or earlier when patience ran out.

    Raises:
        Stopped: a signal asked for it; a checkpoint of the last step was made.
        UserError: a file could not be written, or a loss was not finite.
    """
    train, health = run.settings.train, _health(run)
    task = bar.add_task("training", total=run.steps, completed=progress.step, note="")
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as ahead:
        if _is_due(run, progress.step) and progress.evaluated < progress.step:
            _evaluate(run, progress, metrics, health, request, "stopped before it")
        coming = ahead.submit(prepare_step, run, progress.step)
        while progress.step < run.steps and not _out_of_patience(run, progress):
            begun = time.perf_counter()
            step = coming.result()
            waited = time.perf_counter() - begun
            if progress.step + 1 < run.steps:
                coming = ahead.submit(prepare_step, run, progress.step + 1)
            factor = rate_factor(progress.step, steps=run.steps, warmup_ratio=run.settings.optim.warmup_ratio)
            rate = set_rate(run.optimizer, factor)
            with explaining(run, f"step {progress.step + 1}", step.batches):
                told = train_step(run, step, stop=request.asked)
            progress.step += 1
            if told.skipped and run.scale:
                run.scale.say_skipped(progress.step)
            else:
                update_average(run.optimizer, train.ema, progress.step)
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
                row = {"loss": told.loss, "learning_rate": rate, **speed}
                row |= {} if told.skipped else {"grad_norm": told.grad_norm}
                row |= run.scale.told() if run.scale else {}
                row |= {
                    "loss_of_equal_scores": told.loss_of_equal_scores,
                    "score_spread": told.score_spread,
                }
                epoch = run.mix.epoch(progress.step * train.queries_per_step)
                row |= {} if epoch is None else {"epoch": epoch}
                _write(run, metrics, health, request, progress.step, row)
            if told.stop:
                wait([coming])
                _stop(run, progress, request, told.stop)
            if _is_due(run, progress.step):
                wait([coming])  # the tokenizer serves one thread at a time
                _evaluate(run, progress, metrics, health, request, note)
    on_first(run.share, partial(_refuse, request))
    bar.remove_task(task)
    return progress


def keep_best(run: Run, progress: Progress) -> None:
    """Write the best model if it is that of this step; after its checkpoint, from which it can be made again.

    Raises:
        UserError: it cannot be written.
    """
    if progress.best_step == progress.step > 0:
        with averaged(run):
            on_first(run.share, partial(write_folder, run.output / "best", run.reranker.save))


def _is_due(run: Run, step: int) -> bool:
    """Whether the dev queries are evaluated after this step."""
    return step > 0 and (step % run.settings.train.eval_every == 0 or step == run.steps)


def _evaluate(
    run: Run,
    progress: Progress,
    metrics: MetricsFile | None,
    health: Health,
    request: StopRequest,
    note: str,
) -> None:
    """Dev measures; a checkpoint is made, then the best model so far is kept.

    Raises:
        Stopped: a signal came; a run that goes on evaluates first.
    """
    try:
        name = f"step-{progress.step:06d}"
        with averaged(run), explaining(run, "an evaluation"):
            values = run.dev.evaluate(run.reranker, run.share, name, stop=request.asked)
    except LeftEarly:
        _stop(run, progress, request, request.signal or signal.SIGTERM)
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
    _write(run, metrics, health, request, progress.step, run.dev.row(name) if metrics else {})
    _save(run, progress, request)
    keep_best(run, progress)


def _save(run: Run, progress: Progress, request: StopRequest) -> None:
    """A checkpoint of this step, unless a line of metrics.jsonl before it could not be written."""
    main = run.accelerator.is_main_process
    states = gather_states(run.trained, run.optimizer, keep=main) if run.sharded else None

    def write() -> None:
        _refuse(request)
        keep = run.settings.train.keep_checkpoints
        folder = run.output / "checkpoints"
        save_checkpoint(folder, run.trained, run.optimizer, progress, keep=keep, states=states)

    on_first(run.share, write)


def _stop(run: Run, progress: Progress, request: StopRequest, number: int) -> NoReturn:
    """Save and leave; where a file could not be written, say so instead."""
    _save(run, progress, request)
    raise Stopped(number, progress.step)


def _refuse(request: StopRequest) -> None:
    if request.error:
        raise request.error


def _health(run: Run) -> Health:
    """What watches the run; of a run that is continued, with what it has seen before."""
    health = Health(judge_base=not run.reranker.new_head)
    file = run.output / "metrics.jsonl"
    for row in read_metrics(file) if run.accelerator.is_main_process and file.is_file() else []:
        if "dev" in row or "score_spread" in row:  # not of an older version
            health.update(row)
    return health


def _write(
    run: Run,
    metrics: MetricsFile | None,
    health: Health,
    request: StopRequest,
    step: int,
    row: dict[str, Any],
) -> None:
    if metrics is not None:  # the main process
        alarms = health.update({"step": step, **row})
        told = {"alarms": [asdict(alarm) for alarm in alarms]} if alarms else {}
        try:
            metrics.write(step=step, **row, **told)
        except UserError as error:  # the other processes learn of it after the next step
            request.error = request.error or error
        for alarm in alarms:
            log.warning("step %d: ALARM: %s", step, alarm.text)
        report(run, metrics, step, row)


def _out_of_patience(run: Run, progress: Progress) -> bool:
    patience = run.settings.train.patience
    return patience is not None and progress.waited >= patience
