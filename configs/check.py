"""Values and combinations that no run can mean; all of them at once, before anything is loaded."""

from __future__ import annotations

import math
import os
from pathlib import Path

from .errors import UserError
from .schema import (
    LossSettings,
    ModelSettings,
    OptimSettings,
    ScoredModelSettings,
    TrainCommand,
    TrainSettings,
)

LOSSES = ("listwise",)
PRECISIONS = ("fp32", "bf16")
BACKENDS = ("uprank", "sentence_transformers", "flag_embedding", "onnx")
TRACKERS = ("none", "wandb")


def check_train(settings: TrainCommand) -> None:
    """Raise UserError with everything that is wrong with the settings of a training run."""
    problems = [
        *model_problems(settings.model),
        *_train_problems(settings.train),
        *_optim_problems(settings.optim),
        *_loss_problems(settings.loss),
        *one_of("tracker.name", settings.tracker.name, TRACKERS),
        *above_zero({"threads": settings.threads, "dev.max_queries": settings.dev.max_queries}),
        *seed_problems(settings.seed),
    ]
    if problems:
        raise UserError(problems)


def model_problems(model: ModelSettings) -> list[str]:
    """What is wrong with the settings of a model."""
    problems = one_of("model.precision", model.precision, PRECISIONS)
    if isinstance(model, ScoredModelSettings):
        problems += one_of("model.backend", model.backend, BACKENDS)
    problems += above_zero({"model.query_tokens": model.query_tokens, "model.max_tokens": model.max_tokens})
    for name in ("attention_dropout", "hidden_dropout"):
        rate = getattr(model, name)
        if rate is not None and not 0 <= rate < 1:
            problems.append(f"model.{name}={rate}: allowed is 0 up to, not including, 1")
    return problems


def seed_problems(seed: int) -> list[str]:
    """A problem if the seed is one that no generator takes."""
    return [] if 0 <= seed < 2**63 else [f"seed={seed}: allowed are whole numbers from 0 to 2**63 - 1"]


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> list[str]:
    """A problem if the value is not one of those allowed."""
    return [] if value in allowed else [f"{key}={value}: allowed are {', '.join(allowed)}"]


def above_zero(values: dict[str, int | None]) -> list[str]:
    """A problem for each number that is given and below 1."""
    return [
        f"{key}={value}: allowed are whole numbers from 1"
        for key, value in values.items()
        if value is not None and value < 1
    ]


def _train_problems(train: TrainSettings) -> list[str]:
    counts = ["max_steps", "queries_per_step", "positives_per_group", "tokens_per_batch"]
    counts += ["eval_every", "patience", "log_every", "keep_checkpoints"]
    problems = above_zero({f"train.{name}": getattr(train, name) for name in counts})
    if train.group_size <= train.positives_per_group:
        problems.append(
            f"train.group_size={train.group_size}: has to be above train.positives_per_group="
            f"{train.positives_per_group}, or no place is left for a negative"
        )
    if not 0 < train.epochs < math.inf:
        problems.append(f"train.epochs={train.epochs}: has to be a number above 0")
    return problems


def _optim_problems(optim: OptimSettings) -> list[str]:
    problems = []
    for name in ("learning_rate", "head_learning_rate", "eps"):
        value = getattr(optim, name)
        if value is not None and not 0 < value < math.inf:
            problems.append(f"optim.{name}={value}: has to be a number above 0")
    for name in ("weight_decay", "max_grad_norm"):
        if not 0 <= getattr(optim, name) < math.inf:
            problems.append(f"optim.{name}={getattr(optim, name)}: has to be a number from 0")
    if not 0 <= optim.warmup_ratio <= 1:
        problems.append(f"optim.warmup_ratio={optim.warmup_ratio}: a share of the steps, 0 to 1")
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        problems.append(f"optim.betas={optim.betas}: two numbers from 0 up to, not including, 1")
    return problems


def _loss_problems(loss: LossSettings) -> list[str]:
    problems = one_of("loss.name", loss.name, LOSSES)
    if not 0 < loss.temperature < math.inf:
        problems.append(f"loss.temperature={loss.temperature}: has to be a number above 0")
    return problems


def output_problems(output: Path) -> list[str]:
    """A problem if nothing can be written at this place; found before hours of work, not after."""
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if there != output and not there.is_dir():
        return [f"output={output}: {there} is a file, not a folder"]
    if not os.access(there, os.W_OK):
        return [f"output={output}: no permission to write in {there}"]
    return []
