"""A training run from settings to verdict."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ..configs.check import check_train
from ..configs.errors import UserError, collect
from ..configs.schema import TrainCommand
from ..data.groups import Collection, Group, collection_fingerprint
from ..data.read import read_groups, read_judged, require
from ..data.store import fingerprint_of, shared_queries
from ..data.tokens import prepare_groups, prepare_texts
from ..eval.candidates import resolve_source
from ..eval.measure import parse_measures
from ..model.load import base_card, locate, location_kind
from .checkpoint import Progress, load_newest
from .dev import Dev, make_dev
from .finish import finish
from .loop import count_steps, fit
from .run_folder import environment, lock, prepare, read_manifest, write_start
from .step import Run, make_replicas
from .track import MetricsFile, log_to_file, progress_bar, set_up_logging

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Everything that is read and checked before the model is loaded.

    Attributes:
        groups: the training groups.
        dev: the dev queries with their candidates.
        fingerprints: of the training groups and the dev queries.
        resuming: whether the output folder holds a run to continue.
    """

    groups: Sequence[Group]
    dev: Dev
    fingerprints: dict[str, str]
    resuming: bool


def train(settings: TrainCommand) -> None:
    """Fine-tune, evaluate and say what it gained; everything lands in the run folder.

    Raises:
        UserError: anything the user can mend; nothing is overwritten, and everything that can
            be checked without the model is checked before the model is loaded.
    """
    inputs = _read_inputs(settings)
    accelerator = _accelerator(settings)
    main = accelerator.is_main_process
    output = Path(settings.output)
    held = lock(output) if main else None
    console = Console(stderr=True)
    set_up_logging(console, main=main)
    queries = len(inputs.dev.collection.queries)
    log.info("%d training groups, %d dev queries, %s", len(inputs.groups), queries, accelerator.device)
    run = _make_run(settings, accelerator, inputs)
    if main and not inputs.resuming:
        write_start(output, settings, _manifest(run, inputs.fingerprints))
    accelerator.wait_for_everyone()
    if main:
        log_to_file(run.output / "train.log")
    if not run.dev.has("base"):  # now, while the weights are still those of the base
        _evaluate_base(run)
    progress = load_newest(run.output / "checkpoints", run.reranker.model, run.optimizer) or Progress()
    if inputs.resuming:
        log.info("continuing the run in %s after step %d of %d", run.output, progress.step, run.steps)
        _require_best(run, progress)
    metrics = MetricsFile(run.output / "metrics.jsonl", after=progress.step) if main else None
    if metrics and not progress.step:
        metrics.write(step=0, dev=run.dev.values("base"))
    _start_tracker(run)
    with progress_bar(console, enabled=main) as bar:
        progress = fit(run, progress, metrics, bar)
    if main:
        finish(run, progress)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    if held:
        held.release()


def _read_inputs(settings: TrainCommand) -> Inputs:
    """Check settings, paths and data; every problem found is raised together with the others."""
    output = Path(settings.output)
    problems: list[str] = []
    collect(problems, check_train, settings)
    collect(problems, parse_measures, settings.dev.measures)
    asked = settings.dev
    collect(problems, resolve_source, asked.candidates, asked.depth, settings.data.dev, asked.dense)
    collect(problems, locate, settings.model.path)
    resuming = bool(collect(problems, prepare, output, settings))
    groups, collection = _read_data(settings, problems)
    fingerprints = {"train": fingerprint_of(groups), "dev": collection_fingerprint(collection)}
    if resuming:
        _require_same_data(output, fingerprints)
    dev = make_dev(collection, settings.dev, output / "eval", seed=settings.seed)
    return Inputs(groups, dev, fingerprints, resuming)


def _read_data(settings: TrainCommand, problems: list[str]) -> tuple[Sequence[Group], Collection]:
    """Training groups and dev queries; raises their problems together with those found before."""
    groups = read_groups(settings.data.train, problems)
    collection = read_judged(settings.data.dev, problems, split="dev")
    if collection is not None and not problems:
        problems += [
            f"{settings.data.dev}: query is also in {settings.data.train}: {text!r:.80}"
            for text in shared_queries(groups, collection.queries.values())
        ]
    require(problems)
    assert collection is not None  # a collection that could not be read left a problem
    return groups, collection


def _require_same_data(output: Path, fingerprints: dict[str, str]) -> None:
    old = read_manifest(output)["data"]
    changed = [name for name, value in fingerprints.items() if old[name]["fingerprint"] != value]
    if changed:
        raise UserError(
            [f"data.{name} has changed since the run in {output} began" for name in changed],
            advice="Give a new output folder to start anew, or put the old data back to continue.",
        )


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
    from ..model.reranker import Reranker
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
    steps = count_steps(settings, len(inputs.groups))
    # Few steps on many groups: tokenising what they draw takes less time than tokenising all.
    many = steps * settings.train.queries_per_step >= len(inputs.groups) / 4
    prepare_groups(reranker.pairs, inputs.groups, build=many)
    prepare_texts(reranker.pairs, _dev_texts(inputs.dev))
    scorer = accelerator.prepare(reranker.scorer)
    return Run(
        settings,
        Path(settings.output),
        accelerator,
        reranker,
        scorer,
        make_optimizer(reranker.model, settings.optim, new_head=reranker.new_head),
        inputs.groups,
        inputs.dev,
        steps,
        make_replicas(scorer, accelerator),
    )


def _dev_texts(dev: Dev) -> list[str]:
    documents = dict.fromkeys(doc for row in dev.candidates.run.values() for doc in row)
    return [*dev.collection.queries.values(), *(dev.collection.passages[doc] for doc in documents)]


def _manifest(run: Run, fingerprints: dict[str, str]) -> dict[str, Any]:
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
            "train": {
                "path": settings.data.train,
                "fingerprint": fingerprints["train"],
                "groups": len(run.groups),
            },
            "dev": {
                "path": settings.data.dev,
                "fingerprint": fingerprints["dev"],
                "queries": len(run.dev.collection.queries),
            },
        },
        "budgets": {
            "query_tokens": run.reranker.budgets[0],
            "max_tokens": run.reranker.budgets[1],
        },
        "steps": run.steps,
    }


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
