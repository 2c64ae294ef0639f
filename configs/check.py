"""Values and combinations that no run can mean; all of them at once, before anything is loaded."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from .errors import UserError
from .schema import ModelSettings, ScoredModelSettings
from .schema_train import (
    LoraSettings,
    LossSettings,
    OptimSettings,
    TrainCommand,
    TrainDataSettings,
    TrainSettings,
)

PRECISIONS = ("fp32", "bf16")
BACKENDS = ("uprank", "sentence_transformers", "flag_embedding", "onnx")
TRACKERS = ("none", "wandb")
ON_ERROR = ("stop", "skip")
WEIGHTINGS = ("ndcg_loss1", "ndcg_loss2", "lambdarank", "ndcg_loss2++")
GAINS = ("exponential", "linear")


class Need(NamedTuple):
    """What a loss takes besides scores, labels and `loss.temperature`.

    Attributes:
        options: the fields of LossSettings that are its own.
        teacher: learns from `pos_scores` and `neg_scores`.
        grades: is `listwise` unless positives have different grades.
    """

    options: tuple[str, ...] = ()
    teacher: bool = False
    grades: bool = False


NEEDS = {
    "listwise": Need(("label_smoothing",)),
    "softmax": Need(("label_smoothing",)),
    "bce": Need(("label_smoothing", "positive_share")),
    "ranknet": Need(),
    "lambdaloss": Need(("weighting", "k", "gain")),
    "listmle": Need(grades=True),
    "p_listmle": Need(grades=True),
    "approx_ndcg": Need(("gain",)),
    "margin_mse": Need(teacher=True),
    "kl": Need(("teacher_temperature",), teacher=True),
}


def chosen_losses(loss: LossSettings) -> dict[str, float]:
    """The losses that are added, and the weight of each."""
    return loss.weights if loss.weights and isinstance(loss.weights, dict) else {loss.name: 1.0}


def needs_teacher(loss: LossSettings) -> bool:
    """Whether one of the losses learns from a teacher's scores."""
    return any(NEEDS[name].teacher for name in chosen_losses(loss))


def check_train(settings: TrainCommand) -> None:
    """Raise UserError with everything that is wrong with the settings of a training run."""
    problems = [
        *model_problems(settings.model),
        *_freeze_problems(settings.model.freeze),
        *_lora_problems(settings.model.lora),
        *_train_problems(settings.train),
        *_data_problems(settings.data, settings.train),
        *_optim_problems(settings.optim),
        *_loss_problems(settings.loss, settings.train),
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


def _freeze_problems(freeze: Any) -> list[str]:
    names = [freeze] if isinstance(freeze, str) else freeze
    if isinstance(names, list) and all(isinstance(name, str) and name for name in names):
        return []
    return [f"model.freeze={freeze}: a part of parameter names, or a list of them, [embeddings, layer.0]"]


def _lora_problems(lora: LoraSettings) -> list[str]:
    problems = above_zero({"model.lora.rank": lora.rank})
    if lora.alpha is not None and not 0 < lora.alpha < math.inf:
        problems.append(f"model.lora.alpha={lora.alpha}: has to be a number above 0")
    changed = [name for name in ("alpha", "targets") if getattr(lora, name) != getattr(LoraSettings(), name)]
    if lora.rank is None and changed:
        problems.append(f"model.lora.{changed[0]} is set, but without model.lora.rank there are no adapters")
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
    if train.in_batch_negatives < 0:
        problems.append(f"train.in_batch_negatives={train.in_batch_negatives}: whole numbers from 0")
    if train.group_size <= train.positives_per_group:
        problems.append(
            f"train.group_size={train.group_size}: has to be above train.positives_per_group="
            f"{train.positives_per_group}, or no place is left for a negative"
        )
    if not 0 < train.epochs < math.inf:
        problems.append(f"train.epochs={train.epochs}: has to be a number above 0")
    return problems


def _data_problems(data: TrainDataSettings, train: TrainSettings) -> list[str]:
    problems = one_of("data.on_error", data.on_error, ON_ERROR)
    problems += above_zero({"data.stream_block": data.stream_block})
    sources = data.train if isinstance(data.train, list) else [data.train]
    if not sources or not all(isinstance(source, (str, dict)) and source for source in sources):
        problems.append(
            f"data.train={data.train}: allowed are a path, files by role {{…}}, or a list of them"
        )
    problems += _mix_problems(data.mix, len(sources))
    if data.streaming and train.max_steps is None:
        problems.append(
            "data.streaming=true: set train.max_steps; nobody knows how many groups a stream has, "
            "so that train.epochs cannot say when training ends"
        )
    if data.streaming and len(sources) > 1 and data.mix is None:
        problems.append("data.streaming=true with several data sets: set data.mix to their weights")
    return problems


def _mix_problems(mix: Any, sources: int) -> list[str]:
    """Whole numbers or decimals above 0, one for each data set."""
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
        return [f"data.mix={mix}: has to be numbers above 0"]
    return []


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
    if not 0 < optim.layer_decay <= 1:
        problems.append(f"optim.layer_decay={optim.layer_decay}: a share above 0, 1 for no decay")
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        problems.append(f"optim.betas={optim.betas}: two numbers from 0 up to, not including, 1")
    return problems


def _loss_problems(loss: LossSettings, train: TrainSettings) -> list[str]:
    problems = []
    if loss.weights is not None and not (loss.weights and isinstance(loss.weights, dict)):
        problems.append(f"loss.weights={loss.weights}: losses and their weights, as {{kl: 1, listwise: 0.2}}")
    for name, weight in chosen_losses(loss).items():
        problems += one_of("loss.weights" if loss.weights else "loss.name", name, tuple(NEEDS))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            problems.append(f"loss.weights.{name}={weight}: has to be a number above 0")
    for name in ("temperature", "teacher_temperature"):
        if not 0 < getattr(loss, name) < math.inf:
            problems.append(f"loss.{name}={getattr(loss, name)}: has to be a number above 0")
    if not 0 <= loss.label_smoothing < 1:
        problems.append(f"loss.label_smoothing={loss.label_smoothing}: a share, 0 up to, not including, 1")
    if loss.positive_share is not None and not 0 < loss.positive_share < 1:
        problems.append(f"loss.positive_share={loss.positive_share}: a share above 0 and below 1")
    problems += above_zero({"loss.k": loss.k})
    problems += one_of("loss.weighting", loss.weighting, WEIGHTINGS)
    problems += one_of("loss.gain", loss.gain, GAINS)
    return problems or _loss_combinations(loss, train)


def _loss_combinations(loss: LossSettings, train: TrainSettings) -> list[str]:
    """Options that none of the losses has, and what a loss cannot do with these groups."""
    chosen, problems = chosen_losses(loss), []
    if loss.name not in (*chosen, LossSettings().name):
        problems.append(f"loss.name={loss.name}: loss.weights names the losses, and does not name this one")
    own = {option for name in chosen for option in NEEDS[name].options}
    for option in dict.fromkeys(option for need in NEEDS.values() for option in need.options):
        value = getattr(loss, option)
        if option not in own and value != getattr(LossSettings(), option):
            having = ", ".join(name for name, need in NEEDS.items() if option in need.options)
            problems.append(f"loss.{option}={value}: only for {having}, not for loss={'+'.join(chosen)}")
    for name in chosen:
        if NEEDS[name].teacher and train.in_batch_negatives:
            problems.append(
                f"train.in_batch_negatives={train.in_batch_negatives}: passages of other queries have no "
                f"score of the teacher that loss={name} learns from"
            )
        if NEEDS[name].grades and train.positives_per_group < 2:
            problems.append(
                f"train.positives_per_group={train.positives_per_group}: loss={name} orders positives of "
                "different grades; with one in a group it is loss=listwise: set that, or draw at least 2"
            )
    return problems


def output_problems(output: Path) -> list[str]:
    """A problem if nothing can be written at this place; found before hours of work, not after."""
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if there != output and not there.is_dir():
        return [f"output={output}: {there} is a file, not a folder"]
    if not os.access(there, os.W_OK):
        return [f"output={output}: no permission to write in {there}"]
    return []
