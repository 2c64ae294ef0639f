"""The training loop."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any, NoReturn

from rich.progress import Progress as Bar

from ..data.store import write_folder
from ..eval.scoring import LeftEarly
from .monitor import Monitor, Stopped, explaining
from .optim import rate_factor, set_rate, update_average
from .run_folder import Progress, gather_states, note_best, on_first, save_checkpoint
from .state import Run
from .step import Outcome, prepare_step, train_step

log = logging.getLogger(__name__)
SILENCE = 60  # seconds without a line


def fit(run: Run, progress: Progress, monitor: Monitor, bar: Bar) -> None:
    """Train from `progress`, which is updated, to the last step or until patience runs out.

    Evaluates, writes checkpoints and keeps the best model.

    Raises:
        Stopped: a signal came; a checkpoint of the last step was written.
        UserError: a file could not be written, or a loss was not finite.
    """
    train = run.settings.train
    said = time.perf_counter()
    task = bar.add_task("training", total=run.steps, completed=progress.step, note="")
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as ahead:
        if _is_due(run, progress.step) and progress.evaluated < progress.step:
            _evaluate(run, progress, monitor, "stopped before it")
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
                outcome = train_step(run, step, stop=monitor.asked)
            progress.step += 1
            if outcome.skipped and run.scale:
                run.scale.log_skipped(progress.step)
            else:
                update_average(run.optimizer, train.ema, progress.step)
            seconds = time.perf_counter() - begun
            progress.seconds += seconds
            queries, tokens = len(step.draws) / seconds, outcome.tokens / seconds
            note = f"loss {outcome.loss:.3f}  {queries:.1f} queries/s  {tokens:.0f} tokens/s"
            bar.update(task, completed=progress.step, note=note)
            if bar.disable and time.perf_counter() - said > SILENCE:  # without a terminal
                said, left = (
                    time.perf_counter(),
                    progress.seconds / progress.step * (run.steps - progress.step),
                )
                log.info(
                    "step %d of %d: %s; about %.0f minutes left", progress.step, run.steps, note, left / 60
                )
            if progress.step % train.log_every == 0 or progress.step == run.steps:
                speed = {
                    "queries_per_second": queries,
                    "tokens_per_second": tokens,
                    "data_share": waited / seconds,
                }
                monitor.write(progress.step, _row(run, outcome, progress.step, rate, speed))
            if outcome.stop:
                wait([coming])
                _stop(run, progress, monitor, outcome.stop)
            if _is_due(run, progress.step):
                wait([coming])  # the tokenizer serves one thread at a time
                _evaluate(run, progress, monitor, note)
    on_first(run.share, monitor.refuse)
    bar.remove_task(task)


def keep_best(run: Run, progress: Progress) -> None:
    """Write the best model if it is this step's; its checkpoint comes first, from which it can be made again.

    Raises:
        UserError: it cannot be written.
    """
    if progress.best_step == progress.step > 0:
        with run.averaged():
            on_first(run.share, partial(write_folder, run.output / "best", run.reranker.save))
        on_first(run.share, partial(note_best, run.output, progress.step))


def _is_due(run: Run, step: int) -> bool:
    """Return True if the dev queries are evaluated after this step."""
    return step > 0 and (step % run.settings.train.eval_every == 0 or step == run.steps)


def _out_of_patience(run: Run, progress: Progress) -> bool:
    patience = run.settings.train.patience
    return patience is not None and progress.waited >= patience


def _row(run: Run, outcome: Outcome, step: int, rate: float, speed: dict[str, float]) -> dict[str, Any]:
    """Return the step's row of metrics.jsonl."""
    row = {"loss": outcome.loss, "learning_rate": rate, **speed}
    row |= {} if outcome.skipped else {"grad_norm": outcome.grad_norm}
    row |= run.scale.stats() if run.scale else {}
    row |= {"loss_of_equal_scores": outcome.loss_of_equal_scores, "score_spread": outcome.score_spread}
    epoch = run.mix.epoch(step * run.settings.train.queries_per_step)
    return row | ({} if epoch is None else {"epoch": epoch})


def _evaluate(run: Run, progress: Progress, monitor: Monitor, note: str) -> None:
    """Measure the dev queries, write a checkpoint, then keep the best model.

    Raises:
        Stopped: a signal came; the continued run evaluates first.
    """
    try:
        name = f"step-{progress.step:06d}"
        with run.averaged(), explaining(run, "an evaluation"):
            values = run.dev.evaluate(run.reranker, run.share, name, stop=monitor.asked)
    except LeftEarly:
        _stop(run, progress, monitor, monitor.signal)
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
    monitor.write(progress.step, run.dev.row(name) if run.accelerator.is_main_process else {})
    _save(run, progress, monitor)
    keep_best(run, progress)


def _save(run: Run, progress: Progress, monitor: Monitor) -> None:
    """Write a checkpoint of this step, unless metrics.jsonl lacks a row before it."""
    main = run.accelerator.is_main_process
    states = gather_states(run.trained, run.optimizer, keep=main) if run.sharded else None

    def write() -> None:
        monitor.refuse()
        keep = run.settings.train.keep_checkpoints
        folder = run.output / "checkpoints"
        save_checkpoint(folder, run.trained, run.optimizer, progress, keep=keep, states=states)

    on_first(run.share, write)


def _stop(run: Run, progress: Progress, monitor: Monitor, number: int) -> NoReturn:
    """Write a checkpoint and leave; if a file could not be written, raise that instead."""
    _save(run, progress, monitor)
    raise Stopped(number, progress.step)
