"""A training run from settings to verdict."""

from __future__ import annotations

import logging
import signal
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
from ..model.load import base_card, location_kind
from .loop import fit, keep_best
from .monitor import (
    Stopped,
    StopRequest,
    available_memory,
    explaining,
    explaining_model,
    log_to_file,
    progress_bar,
    report,
    set_up_logging,
    settle,
    start_tracker,
    used_memory,
)
from .planning import Machine, make_plan, print_plan
from .run_folder import (
    MetricsFile,
    Progress,
    environment,
    load_checkpoint,
    lock,
    newest_checkpoint,
    on_first,
    write_start,
)
from .start import Inputs, make_accelerator, make_run, read_inputs, warn_unused
from .state import Run, whole
from .verdict import end

log = logging.getLogger(__name__)


def train(settings: TrainCommand) -> None:
    """Fine-tune, evaluate and say what it gained; everything lands in the run folder.

    Raises:
        UserError: anything the user can mend; nothing is overwritten, and everything that can
            be checked without the model is checked before the model is loaded.
    """
    inputs = read_inputs(settings)
    accelerator = make_accelerator(settings)
    if settings.plan:
        _plan(settings, inputs, accelerator)
        return
    with lock(Path(settings.output), Processes(accelerator.process_index, accelerator.num_processes)):
        _train(settings, inputs, accelerator)


def _train(settings: TrainCommand, inputs: Inputs, accelerator: Any) -> None:
    console = Console(stderr=True)
    set_up_logging(console, main=accelerator.is_main_process)
    queries = len(inputs.dev.collection.queries)
    groups = "a stream of" if inputs.mix.length is None else f"{inputs.mix.length:,}"
    log.info("%s training groups, %d dev queries, %s", groups, queries, accelerator.device)
    run = make_run(settings, accelerator, inputs)
    with whole(run):
        on_first(run.share, lambda: _open_folder(run, inputs))
    _tell_data(run.mix, inputs.found)
    warn_unused(run)
    try:
        with StopRequest() as request:
            progress = _fit(run, inputs, console, request)
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


def _fit(run: Run, inputs: Inputs, console: Console, request: StopRequest) -> Progress:
    """Train from where the run stands; where it ended."""
    main = run.accelerator.is_main_process
    if not run.dev.has("base"):  # now, while the weights are still those of the base
        _evaluate_base(run, request)
    folder = run.output / "checkpoints"
    chosen = np.array([newest_checkpoint(folder) if main else 0])
    progress = load_checkpoint(folder, int(run.total(chosen)[0]), run.trained, run.optimizer)
    run.scale = progress.scale = progress.scale or run.scale
    if inputs.resuming:
        log.info("continuing the run in %s after step %d of %d", run.output, progress.step, run.steps)
        _require_best(run, progress)
        keep_best(run, progress)  # a kill may have come between the checkpoint and it
    opened: list[MetricsFile] = []
    on_first(run.share, lambda: opened.append(_open_metrics(run, progress)))
    metrics = opened[0] if opened else None
    with progress_bar(console, enabled=main) as bar:
        return fit(run, progress, metrics, bar, request)


def _open_metrics(run: Run, progress: Progress) -> MetricsFile:
    file = run.output / "metrics.jsonl"
    metrics = MetricsFile(file, after=progress.step, evaluated=progress.evaluated)
    start_tracker(run, progress.step)
    if not progress.step:
        base = run.dev.row("base")
        metrics.write(step=0, **base)
        report(run, metrics, 0, base)
    return metrics


def _plan(settings: TrainCommand, inputs: Inputs, accelerator: Any) -> None:
    """Say what the run will take, without beginning it."""
    set_up_logging(Console(stderr=True), main=accelerator.is_main_process)
    machine = Machine(used_memory(accelerator.device), available_memory(accelerator.device))
    run = make_run(settings, accelerator, inputs)
    warn_unused(run)
    plan = make_plan(run, machine)
    if accelerator.is_main_process:
        print_plan(plan, run, Console())
    accelerator.end_training()


def _manifest(run: Run, dev_fingerprint: str) -> dict[str, Any]:
    settings = run.settings
    card = base_card(settings.model.path, settings.model.revision)
    return environment(str(run.accelerator.device), run.accelerator.num_processes) | {
        "seed": settings.seed,
        "base": {
            "path": settings.model.path,
            "kind": location_kind(settings.model.path),
            "revision": getattr(run.reranker.model.config, "_commit_hash", None) or settings.model.revision,
            "weights": run.reranker.weights_hash(),
            "new_head": run.reranker.new_head,
            **card,
        },
        "data": {
            "train": run.mix.facts(),
            "dev": {
                "path": settings.data.dev,
                "fingerprint": dev_fingerprint,
                "queries": len(run.dev.collection.queries),
            },
        },
        "budgets": {
            "query_tokens": run.reranker.budgets[0],
            "max_tokens": run.reranker.budgets[1],
        },
        "prompts": run.reranker.prompts.stated(),
        "steps": run.steps,
    }


def _tell_data(mix: Mix, found: list[str]) -> None:
    """What is learned from, where it is more than one file read whole, and what its check found."""
    for place, line in enumerate(found):
        log.log(logging.WARNING if place else logging.INFO, "%s", line)
    for source, share in zip(mix.sources, mix.shares, strict=True):
        if len(mix.sources) > 1:
            known = "streamed" if source.length is None else f"{source.length:,} groups"
            part = 100 * share / mix.per_epoch
            log.info("%s: %s, %.1f %% of what is learned from", source.name, known, part)
        if source.skipped:
            count, shown = len(source.skipped), "; ".join(source.skipped[:EXAMPLES])
            log.warning("%s: rows left out by data.on_error=skip, %d problems: %s", source.name, count, shown)


def _evaluate_base(run: Run, request: StopRequest) -> None:
    """The untuned model on the dev queries: what every later figure is compared with.

    Raises:
        Stopped: a signal came; there is nothing yet to save.
    """
    try:
        with whole(run), explaining(run, "an evaluation"):
            values = run.dev.evaluate(run.reranker, run.share, "base", stop=request.asked)
    except LeftEarly:
        raise Stopped(request.signal or signal.SIGTERM, 0) from None
    shown = ", ".join(f"{measure} {value:.4f}" for measure, value in values.items())
    log.info("base (before the first step): dev %s", shown)


def _require_best(run: Run, progress: Progress) -> None:
    """What the end of the run needs of its beginning has to be there before hours are spent.

    Raises:
        UserError: the best model so far, or its scores, are gone.
    """
    if not progress.best_step:
        return
    scores = f"step-{progress.best_step:06d}"
    gone = (
        []
        if run.dev.has(scores)
        else [f"{run.dev.folder / scores}: is gone, with the scores of the best model"]
    )
    here = progress.best_step == progress.step  # then it can be made again
    if not here and not (run.output / "best" / "config.json").is_file():
        gone.append(f"{run.output / 'best'}: is gone, with the best model so far")
    if gone:
        raise UserError(gone, advice="The run cannot be continued without them: give a new output folder.")
