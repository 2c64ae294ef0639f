"""A training run from settings to verdict."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..configs.errors import UserError
from ..configs.schema_train import TrainCommand
from ..data.sampling import EXAMPLES, Mix
from ..data.store import put_back
from ..eval.processes import Processes
from ..eval.scoring import LeftEarly
from ..model.locate import base_card, location_kind
from .loop import fit, keep_best
from .monitor import (
    Monitor,
    Stopped,
    available_memory,
    explaining,
    explaining_model,
    log_to_file,
    progress_bar,
    set_up_logging,
    settle,
    used_memory,
)
from .planning import Machine, make_plan, print_plan
from .run_folder import (
    Progress,
    changed_best,
    environment,
    load_checkpoint,
    lock,
    newest_checkpoint,
    on_first,
    write_start,
)
from .start import Inputs, make_accelerator, make_run, read_inputs, warn_unused
from .state import Run
from .verdict import end

log = logging.getLogger(__name__)


def train(settings: TrainCommand) -> None:
    """Fine-tune a reranker, evaluate it, and write model, checkpoints and verdict to the run folder.

    Raises:
        UserError: the user must mend something. Nothing is overwritten, and what can be checked without the
            model is checked before the model is loaded.
        Stopped: a signal came; the same command continues the run.
    """
    if settings.model.precision == "auto":  # decided before the settings are kept, for a continued run
        from ..model.reranker import choose_device, choose_precision

        settings.model.precision = choose_precision("auto", choose_device(settings.model.device))
    inputs = read_inputs(settings)
    accelerator = make_accelerator(settings)
    if settings.plan:
        _plan(settings, inputs, accelerator)
        return
    with lock(Path(settings.output), Processes(accelerator.process_index, accelerator.num_processes)):
        console, main = Console(stderr=True), accelerator.is_main_process
        set_up_logging(console, main=main)
        queries = len(inputs.dev.collection.queries)
        groups = "a stream of" if inputs.mix.length is None else f"{inputs.mix.length:,}"
        log.info("%s training groups, %d dev queries, %s", groups, queries, accelerator.device)
        run = make_run(settings, accelerator, inputs)
        with run.whole():
            on_first(run.share, lambda: _open_folder(run, inputs))
        _log_data(run.mix, inputs.lines)
        warn_unused(run)
        try:
            with Monitor(run) as monitor:
                progress = _begin(run, inputs, monitor)
                monitor.open(progress)
                with progress_bar(console, enabled=main) as bar:
                    fit(run, progress, monitor, bar)
            with explaining_model("closing the run", "The same command closes it, given more memory."):
                end(run, progress)
        except Stopped as stopped:
            log.info("%s; the same command continues it", stopped)
            accelerator.end_training()
            raise
        finally:
            settle(accelerator.num_processes)
        accelerator.end_training()


def _open_folder(run: Run, inputs: Inputs) -> None:
    if inputs.resuming:
        for folder in (run.output, run.output / "checkpoints", run.output / "eval"):
            put_back(folder)
    else:
        write_start(run.output, run.settings, _manifest(run, inputs.dev_fingerprint))
    log_to_file(run.output / "train.log")


def _begin(run: Run, inputs: Inputs, monitor: Monitor) -> Progress:
    """Evaluate the base unless that is done, load the newest checkpoint, and return where training starts.

    Raises:
        Stopped: a signal came during the evaluation of the base; there is nothing to save yet.
        UserError: a continued run misses files, or memory was not enough.
    """
    if not run.dev.has("base"):  # must come first: loading a checkpoint replaces the base's weights
        try:
            with run.whole(), explaining(run, "an evaluation"):
                values = run.dev.evaluate(run.reranker, run.share, "base", stop=monitor.asked)
        except LeftEarly:
            raise Stopped(monitor.signal, 0) from None
        shown = ", ".join(f"{measure} {value:.4f}" for measure, value in values.items())
        log.info("base (before the first step): dev %s", shown)
    folder = run.output / "checkpoints"
    newest = np.array([newest_checkpoint(folder) if run.accelerator.is_main_process else 0])
    progress = load_checkpoint(folder, int(run.total(newest)[0]), run.trained, run.optimizer)
    run.scale = progress.scale = progress.scale or run.scale
    if inputs.resuming:
        log.info("continuing the run in %s after step %d of %d", run.output, progress.step, run.steps)
        _require_best(run, progress)
        keep_best(run, progress)  # a kill may have come between the checkpoint and the best model
    return progress


def _require_best(run: Run, progress: Progress) -> None:
    """Check before hours are spent that the files which the end of the run needs are there.

    Raises:
        UserError: the best model so far, or its scores, are gone.
    """
    if not progress.best_step:
        return
    scores = f"step-{progress.best_step:06d}"
    gone = []
    if not run.dev.has(scores):
        gone.append(f"{run.dev.folder / scores}: is gone or damaged, with the scores of the best model")
    newest = progress.best_step == progress.step  # then the checkpoint has the model
    if not newest and not (run.output / "best" / "config.json").is_file():
        gone.append(f"{run.output / 'best'}: is gone, with the best model so far")
    elif not newest:
        changed = changed_best(run.output, progress.best_step, progress.step)
        gone += [f"{file}: is not as it was written for step {progress.best_step}" for file in changed]
    if gone:
        raise UserError(gone, advice="The run cannot be continued without them: give a new output folder.")


def _plan(settings: TrainCommand, inputs: Inputs, accelerator: Any) -> None:
    """Print what the run will take, without starting it."""
    set_up_logging(Console(stderr=True), main=accelerator.is_main_process)
    log.info("plan: loading the model and counting; nothing is written")
    machine = Machine(used_memory(accelerator.device), available_memory(accelerator.device))
    run = make_run(settings, accelerator, inputs)
    warn_unused(run)
    plan = make_plan(run, machine)
    if accelerator.is_main_process:
        print_plan(plan, run, Console())
    accelerator.end_training()


def _manifest(run: Run, dev_fingerprint: str) -> dict[str, Any]:
    model, reranker = run.settings.model, run.reranker
    return environment(str(run.accelerator.device), run.accelerator.num_processes) | {
        "seed": run.settings.seed,
        "base": {
            "path": model.path,
            "kind": location_kind(model.path),
            "revision": getattr(reranker.model.config, "_commit_hash", None) or model.revision,
            "weights": reranker.weights_hash(),
            "new_head": reranker.new_head,
            **base_card(model.path, model.revision),
        },
        "data": {
            "train": run.mix.facts(),
            "dev": {
                "path": run.settings.data.dev,
                "fingerprint": dev_fingerprint,
                "queries": len(run.dev.collection.queries),
            },
        },
        "budgets": {"query_tokens": reranker.budgets[0], "max_tokens": reranker.budgets[1]},
        "prompts": reranker.prompts.stated(),
        "steps": run.steps,
    }


def _log_data(mix: Mix, lines: list[str]) -> None:
    """Log the data's check, the share of each of several sources, and skipped rows."""
    for place, line in enumerate(lines):
        log.log(logging.WARNING if place else logging.INFO, "%s", line)
    for source, share in zip(mix.sources, mix.shares, strict=True):
        if len(mix.sources) > 1:
            known = "streamed" if source.length is None else f"{source.length:,} groups"
            part = 100 * share / mix.per_epoch
            log.info("%s: %s, %.1f %% of the training groups", source.name, known, part)
        if source.skipped:
            count, shown = len(source.skipped), "; ".join(source.skipped[:EXAMPLES])
            log.warning("%s: rows skipped (data.on_error=skip), %d problems: %s", source.name, count, shown)
