"""Build what the loop works on from settings: processes, model, optimizer, token ids."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from ...configs.schema_train import TrainCommand
from ...data.encoding import prepare_groups, prepare_texts
from ...data.groups import Group
from ...data.prompts import Prompts
from ...data.sampling import Stream, positives_of_repeated
from ..backward import make_replicas
from ..dev import Dev
from ..monitor import explaining_model, require_login, require_tracker
from ..optim import LossScale, is_wanted, shard
from ..state import Run
from ..step import count_steps
from .preflight import Inputs

log = logging.getLogger(__name__)


def make_accelerator(settings: TrainCommand) -> Any:
    """Make the accelerator: processes, devices and tracker.

    Raises:
        UserError: the tracker's package is not installed, or the device is not there.
    """
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

    from ...model.reranker import works_on_cpu

    require_tracker(settings.tracker.name)
    if not settings.plan:
        require_login(settings.tracker.name)
    tracker = None if settings.tracker.name == "none" else settings.tracker.name
    cpu = works_on_cpu(settings.model.device)
    # Ranks may have different numbers of batches in a step, so only gradients are exchanged. Older versions
    # of torch, and accelerate, lack the argument that replaces this one.
    warnings.filterwarnings("ignore", message=".?broadcast_buffers.? is deprecated", category=FutureWarning)
    gradients_only = DistributedDataParallelKwargs(broadcast_buffers=False)
    patience = timedelta(seconds=settings.train.timeout)
    accelerator = Accelerator(
        mixed_precision="no",
        cpu=cpu,
        log_with=tracker,
        project_dir=settings.output,
        kwargs_handlers=[gradients_only, InitProcessGroupKwargs(timeout=patience)],
    )
    if settings.threads:  # accelerate has set a number of its own
        torch.set_num_threads(settings.threads)
    return accelerator


def make_run(settings: TrainCommand, accelerator: Any, inputs: Inputs) -> Run:
    """Load the model, make its optimizer, and tokenize the data.

    Raises:
        UserError: the model cannot be loaded, or not trained with these settings.
    """
    from ...model.lora import add_adapters
    from ...model.reranker import Reranker
    from ..optim import freeze_parameters, make_optimizer

    with explaining_model("loading the model", "Choose a smaller model.path, or a machine with more memory."):
        reranker = Reranker.from_settings(
            settings.model,
            device=settings.model.device or str(accelerator.device),
            tokens_per_batch=settings.train.tokens_per_batch,
            seed=settings.seed,
        )
    inputs.mix.prompts = prompts = reranker.prompts
    reranker.set_dropout(attention=settings.model.attention_dropout, hidden=settings.model.hidden_dropout)
    if settings.train.gradient_checkpointing:
        reranker.scorer.checkpoint_layers()
    lora = settings.model.lora
    if lora.rank:
        count = add_adapters(
            reranker.model, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=settings.seed
        )
        log.info("LoRA of rank %d: %s parameters are trained", lora.rank, f"{count:,}")
    freeze_parameters(reranker.model, settings.model.freeze)
    steps = count_steps(settings, inputs.mix.per_epoch)
    epochs = steps * settings.train.queries_per_step / inputs.mix.per_epoch
    for source, share in zip(inputs.mix.sources, inputs.mix.shares, strict=True):
        if not isinstance(source.groups, Stream):
            # For few steps on many groups it is faster to tokenize only what they draw.
            build = epochs * share >= len(source.groups) / 4
            prepare_groups(reranker.pairs, source.groups, prompts=prompts, build=build)
    prepare_texts(reranker.pairs, _dev_texts(inputs.dev, prompts))
    sharded = is_wanted()
    scorer = shard(reranker.scorer, accelerator) if sharded else accelerator.prepare(reranker.scorer)
    trained = scorer.model if sharded else reranker.model
    return Run(
        settings,
        Path(settings.output),
        accelerator,
        reranker,
        scorer,
        make_optimizer(trained, settings.optim, new_head=reranker.new_head),
        inputs.mix,
        inputs.dev,
        steps,
        make_replicas(scorer, accelerator),
        LossScale() if settings.model.precision == "fp16" else None,
        sharded=sharded,
        repeated=positives_of_repeated(_rows(inputs)) if settings.train.in_batch_negatives else {},
    )


def _rows(inputs: Inputs) -> Iterator[Group]:
    """Yield the rows of all data sets but streams, whose rows are not known yet."""
    for source in inputs.mix.sources:
        if not isinstance(source.groups, Stream):
            yield from source.groups


def _dev_texts(dev: Dev, prompts: Prompts) -> list[str]:
    documents = dict.fromkeys(doc for row in dev.candidates.run.values() for doc in row)
    read = prompts.collection(dev.collection)
    return [*read.queries.values(), *(read.passages[doc] for doc in documents)]
