"""A training run from settings to verdict."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rich.console import Console

from ..configs.errors import UserError
from ..configs.schema_train import TrainCommand
from ..data.mix import Mix
from ..data.stream import EXAMPLES, Stream
from ..data.tokens import prepare_groups, prepare_texts
from ..model.load import base_card, location_kind
from .checkpoint import Progress, load_newest, put_back
from .dev import Dev
from .finish import finish
from .inputs import Inputs, read_inputs
from .loop import count_steps, fit
from .run_folder import environment, lock, read_manifest, write_start
from .step import Run, make_replicas
from .stop import Stopped
from .track import MetricsFile, log_to_file, progress_bar, set_up_logging

log = logging.getLogger(__name__)


def train(settings: TrainCommand) -> None:
    """Fine-tune, evaluate and say what it gained; everything lands in the run folder.

    Raises:
        UserError: anything the user can mend; nothing is overwritten, and everything that can
            be checked without the model is checked before the model is loaded.
    """
    inputs = read_inputs(settings)
    accelerator = _accelerator(settings)
    held = lock(Path(settings.output)) if accelerator.is_main_process else None
    try:
        _train(settings, inputs, accelerator)
    finally:
        if held:
            held.release()


def _train(settings: TrainCommand, inputs: Inputs, accelerator: Any) -> None:
    main, output = accelerator.is_main_process, Path(settings.output)
    console = Console(stderr=True)
    set_up_logging(console, main=main)
    queries = len(inputs.dev.collection.queries)
    groups = "a stream of" if inputs.mix.length is None else f"{inputs.mix.length:,}"
    log.info("%s training groups, %d dev queries, %s", groups, queries, accelerator.device)
    run = _make_run(settings, accelerator, inputs)
    if main and not inputs.resuming:
        write_start(output, settings, _manifest(run, inputs.dev_fingerprint))
    accelerator.wait_for_everyone()
    if main:
        log_to_file(run.output / "train.log")
    _tell_data(run.mix, inputs.found)
    if not run.dev.has("base"):  # now, while the weights are still those of the base
        _evaluate_base(run)
    progress = load_newest(run.output / "checkpoints", run.reranker.model, run.optimizer) or Progress()
    if inputs.resuming:
        log.info("continuing the run in %s after step %d of %d", run.output, progress.step, run.steps)
        put_back(run.output)
        _require_best(run, progress)
    metrics = MetricsFile(run.output / "metrics.jsonl", after=progress.step) if main else None
    if metrics and not progress.step:
        metrics.write(step=0, dev=run.dev.values("base"))
    _start_tracker(run)
    try:
        with progress_bar(console, enabled=main) as bar:
            progress = fit(run, progress, metrics, bar)
    except Stopped as stopped:
        stopped.command = read_manifest(output)["command"]
        log.info("%s; the same command continues it", stopped)
        accelerator.end_training()
        raise
    if main:
        finish(run, progress)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def _accelerator(settings: TrainCommand) -> Any:
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs

    from ..model.reranker import works_on_cpu

    if settings.threads:
        torch.set_num_threads(settings.threads)
    trackers = None
    if settings.tracker.name == "wandb":
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise UserError(
                "tracker=wandb: wandb is not installed", advice='pip install "uprank[wandb]"'
            ) from error
        trackers = "wandb"
    cpu = works_on_cpu(settings.model.device)
    # Processes may have different numbers of batches in a step, so only the gradients are exchanged.
    gradients_only = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(mixed_precision="no", cpu=cpu, log_with=trackers, kwargs_handlers=[gradients_only])


def _make_run(settings: TrainCommand, accelerator: Any, inputs: Inputs) -> Run:
    from ..model.adapters import add_adapters
    from ..model.reranker import Reranker
    from .freeze import freeze
    from .optimizer import make_optimizer

    reranker = Reranker.load(
        settings.model.path,
        precision=settings.model.precision,
        query_tokens=settings.model.query_tokens,
        max_tokens=settings.model.max_tokens,
        device=settings.model.device or str(accelerator.device),
        revision=settings.model.revision,
        tokens_per_batch=settings.train.tokens_per_batch,
        seed=settings.seed,
    )
    reranker.set_dropout(attention=settings.model.attention_dropout, hidden=settings.model.hidden_dropout)
    lora = settings.model.lora
    if lora.rank:
        trained = add_adapters(
            reranker.model, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=settings.seed
        )
        log.info("LoRA of rank %d: %s parameters are trained", lora.rank, f"{trained:,}")
    freeze(reranker.model, settings.model.freeze)
    steps = count_steps(settings, inputs.mix.per_epoch)
    epochs = steps * settings.train.queries_per_step / inputs.mix.per_epoch
    for source, share in zip(inputs.mix.sources, inputs.mix.shares, strict=True):
        if not isinstance(source.groups, Stream):
            # Few steps on many groups: tokenising what they draw takes less time than tokenising all.
            prepare_groups(reranker.pairs, source.groups, build=epochs * share >= len(source.groups) / 4)
    prepare_texts(reranker.pairs, _dev_texts(inputs.dev))
    scorer = accelerator.prepare(reranker.scorer)
    return Run(
        settings,
        Path(settings.output),
        accelerator,
        reranker,
        scorer,
        make_optimizer(reranker.model, settings.optim, new_head=reranker.new_head),
        inputs.mix,
        inputs.dev,
        steps,
        make_replicas(scorer, accelerator),
    )


def _dev_texts(dev: Dev) -> list[str]:
    documents = dict.fromkeys(doc for row in dev.candidates.run.values() for doc in row)
    return [*dev.collection.queries.values(), *(dev.collection.passages[doc] for doc in documents)]


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


def _start_tracker(run: Run) -> None:
    from .run_folder import flat

    folder = run.output.resolve()
    run.accelerator.init_trackers(
        run.settings.tracker.project,
        config=flat(run.settings),
        init_kwargs={"wandb": {"dir": str(folder), "name": folder.name}},
    )


def _evaluate_base(run: Run) -> None:
    """The untuned model on the dev queries: what every later figure is compared with."""
    values = run.dev.evaluate(run.reranker, run.share, "base")
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
    if not (run.output / "best" / "config.json").is_file():
        gone.append(f"{run.output / 'best'}: is gone, with the best model so far")
    if gone:
        raise UserError(gone, advice="The run cannot be continued without them: give a new output folder.")
