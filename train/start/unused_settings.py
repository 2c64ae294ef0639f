"""Warn about settings that have no effect in this run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ...configs.schema_train import DevSettings, OptimSettings, TrackerSettings, TrainCommand, TrainSettings
from ...configs.schema_train import TrainDataSettings as DataSettings

if TYPE_CHECKING:
    from ..state import Run

log = logging.getLogger(__name__)
WITHOUT_PROJECTS = ("none", "tensorboard")


def warn_unused(run: Run) -> None:
    """Log the settings without effect."""
    for line in unused_settings(run.settings, new_head=run.reranker.new_head, steps=run.steps):
        log.warning("%s", line)


def unused_settings(settings: TrainCommand, *, new_head: bool, steps: int) -> list[str]:
    """Return a line for each setting that differs from its default and has no effect.

    Args:
        settings: the run's settings.
        new_head: True if the model came without a head.
        steps: optimizer steps of the run.
    """
    train, optim, data, dev = settings.train, settings.optim, settings.data, settings.dev
    lines = _optim(optim, new_head=new_head, steps=steps)
    if data.stream_block != DataSettings().stream_block and not data.streaming:
        lines.append(f"data.stream_block={data.stream_block} changes nothing without data.streaming=true")
    if train.max_steps is not None and train.epochs != TrainSettings().epochs:
        lines.append(f"train.epochs={train.epochs} changes nothing beside train.max_steps={train.max_steps}")
    evaluations = -(-steps // train.eval_every)
    if train.patience is not None and train.patience >= evaluations:
        lines.append(f"train.patience={train.patience} changes nothing: there are {evaluations} evaluations")
    others = train.positives_per_group * (train.queries_per_step - 1)
    if train.in_batch_negatives > others:
        lines.append(f"train.in_batch_negatives={train.in_batch_negatives}: a step has {others} at most")
    if dev.dense != DevSettings().dense and dev.candidates not in ("dense", "hybrid"):
        lines.append(f"dev.dense changes nothing with dev.candidates={dev.candidates}")
    if settings.tracker.project != TrackerSettings().project and settings.tracker.name in WITHOUT_PROJECTS:
        lines.append(f"tracker.project changes nothing with tracker.name={settings.tracker.name}")
    return lines


def _optim(optim: OptimSettings, *, new_head: bool, steps: int) -> list[str]:
    lines = []
    if optim.head_learning_rate is not None and not new_head:
        rate = optim.head_learning_rate
        lines.append(f"optim.head_learning_rate={rate} changes nothing: the model came with its head")
    if optim.name == "adafactor":
        given: dict[str, Any] = {"betas": list(optim.betas), "eps": optim.eps}
        lines += [
            f"optim.{name}={value} changes nothing with optim.name=adafactor"
            for name, value in given.items()
            if value != getattr(OptimSettings(), name)
        ]
    if optim.warmup_ratio and not round(steps * optim.warmup_ratio):
        lines.append(f"optim.warmup_ratio={optim.warmup_ratio} of {steps} steps is none: there is no warm-up")
    return lines
