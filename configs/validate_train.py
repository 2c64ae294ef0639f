"""Validate training settings: all problems at once, before anything is loaded."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

from .errors import UserError
from .schema_train import LoraSettings, OptimSettings, TrainCommand, TrainDataSettings, TrainSettings
from .validate import ON_ERROR, above_zero, model_problems, one_of, seed_problems
from .validate_loss import loss_problems

TRACKERS = ("none", "wandb", "tensorboard", "trackio")
OPTIMIZERS = ("adamw", "adamw_8bit", "adafactor")


def check_train(settings: TrainCommand) -> None:
    """Raise UserError with all problems of the training settings."""
    problems = [
        *model_problems(settings.model),
        *_freeze_problems(settings.model.freeze),
        *_lora_problems(settings.model.lora),
        *_train_problems(settings.train),
        *_data_problems(settings.data, settings.train),
        *_optim_problems(settings.optim),
        *loss_problems(settings.loss, settings.train),
        *one_of("tracker.name", settings.tracker.name, TRACKERS),
        *above_zero({"threads": settings.threads, "train.timeout": settings.train.timeout}),
        *above_zero({"dev.max_queries": settings.dev.max_queries}),
        *seed_problems(settings.seed),
    ]
    if problems:
        raise UserError(problems)


def _freeze_problems(freeze: Any) -> list[str]:
    names = [freeze] if isinstance(freeze, str) else freeze
    if isinstance(names, list) and all(isinstance(name, str) and name for name in names):
        return []
    return [f"model.freeze={freeze}: must be a part of parameter names, or a list like [embeddings, layer.0]"]


def _lora_problems(lora: LoraSettings) -> list[str]:
    problems = above_zero({"model.lora.rank": lora.rank})
    if lora.alpha is not None and not 0 < lora.alpha < math.inf:
        problems.append(f"model.lora.alpha={lora.alpha}: must be a number above 0")
    changed = [name for name in ("alpha", "targets") if getattr(lora, name) != getattr(LoraSettings(), name)]
    if lora.rank is None and changed:
        problems.append(
            f"model.lora.{changed[0]} has no effect without model.lora.rank: there are no adapters"
        )
    return problems


def _train_problems(train: TrainSettings) -> list[str]:
    counts = ["max_steps", "queries_per_step", "positives_per_group", "tokens_per_batch"]
    counts += ["eval_every", "patience", "log_every", "keep_checkpoints"]
    problems = above_zero({f"train.{name}": getattr(train, name) for name in counts})
    if train.in_batch_negatives < 0:
        problems.append(f"train.in_batch_negatives={train.in_batch_negatives}: whole numbers from 0")
    if train.group_size <= train.positives_per_group:
        problems.append(
            f"train.group_size={train.group_size}: must exceed train.positives_per_group="
            f"{train.positives_per_group}, to leave room for a negative"
        )
    if train.ema is not None and not 0 < train.ema < 1:
        problems.append(f"train.ema={train.ema}: must be a share above 0 and below 1, for example 0.999")
    if not 0 < train.epochs < math.inf:
        problems.append(f"train.epochs={train.epochs}: must be a number above 0")
    return problems


def _data_problems(data: TrainDataSettings, train: TrainSettings) -> list[str]:
    problems = one_of("data.on_error", data.on_error, ON_ERROR)
    if not isinstance(data.dev, (str, dict)) or not data.dev:
        problems.append(f"data.dev={data.dev}: allowed are a path, or files by role {{…}}")
    problems += above_zero({"data.stream_block": data.stream_block})
    sources = data.train if isinstance(data.train, list) else [data.train]
    if not sources or not all(isinstance(source, (str, dict)) and source for source in sources):
        problems.append(
            f"data.train={data.train}: allowed are a path, files by role {{…}}, or a list of them"
        )
    problems += _mix_problems(data.mix, len(sources))
    if data.streaming and train.max_steps is None:
        problems.append(
            "data.streaming=true: set train.max_steps; the number of groups in a stream is unknown, "
            "so train.epochs cannot tell when training ends"
        )
    if data.streaming and len(sources) > 1 and data.mix is None:
        problems.append("data.streaming=true with several data sets: set data.mix to their weights")
    return problems


def _mix_problems(mix: Any, sources: int) -> list[str]:
    """Return a problem unless there is a whole number or a decimal above 0 for each data set."""
    if mix is None:
        return []
    allowed = (
        "one whole number (groups an epoch) for each entry of data.train, or one decimal (weight) for each"
    )
    numbers = isinstance(mix, list) and [type(size) for size in mix]
    if numbers not in ([int] * sources, [float] * sources):
        mixed = numbers and sorted({kind.__name__ for kind in numbers}) == ["float", "int"]
        return [f"data.mix={mix}: {allowed}" + ("; write 1.0 for a weight of 1" if mixed else "")]
    if not all(0 < size < math.inf for size in mix):
        return [f"data.mix={mix}: must be numbers above 0"]
    return []


def _optim_problems(optim: OptimSettings) -> list[str]:
    problems = one_of("optim.name", optim.name, OPTIMIZERS)
    if optim.name == "adamw_8bit" and find_spec("bitsandbytes") is None:
        problems.append('optim.name=adamw_8bit: bitsandbytes is not installed: pip install "uprank[8bit]"')
    for name in ("learning_rate", "head_learning_rate", "eps"):
        value = getattr(optim, name)
        if value is not None and not 0 < value < math.inf:
            problems.append(f"optim.{name}={value}: must be a number above 0")
    for name in ("weight_decay", "max_grad_norm"):
        if not 0 <= getattr(optim, name) < math.inf:
            problems.append(f"optim.{name}={getattr(optim, name)}: must be at least 0")
    if not 0 <= optim.warmup_ratio <= 1:
        problems.append(f"optim.warmup_ratio={optim.warmup_ratio}: must be a share of the steps, 0 to 1")
    if not 0 < optim.layer_decay <= 1:
        problems.append(f"optim.layer_decay={optim.layer_decay}: must be a share above 0; 1 means no decay")
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        problems.append(f"optim.betas={optim.betas}: must be two numbers, at least 0 and below 1")
    return problems
