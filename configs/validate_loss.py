"""Requirements of each loss, and validation of the loss settings."""

from __future__ import annotations

import math
from typing import NamedTuple

from .schema_train import LossSettings, TrainSettings
from .validate import above_zero, one_of

WEIGHTINGS = ("ndcg_loss1", "ndcg_loss2", "lambdarank", "ndcg_loss2++")
GAINS = ("exponential", "linear")


class Need(NamedTuple):
    """Inputs of a loss besides scores, labels and `loss.temperature`.

    Attributes:
        options: fields of LossSettings that only this loss reads.
        teacher: learns from `pos_scores` and `neg_scores`.
        grades: equals `listwise` unless positives have different grades.
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
    """Return each chosen loss with its weight."""
    return loss.weights if loss.weights and isinstance(loss.weights, dict) else {loss.name: 1.0}


def needs_teacher(loss: LossSettings) -> bool:
    """Return whether a chosen loss learns from a teacher's scores."""
    return any(NEEDS[name].teacher for name in chosen_losses(loss))


def loss_problems(loss: LossSettings, train: TrainSettings) -> list[str]:
    """Return the problems of the loss settings."""
    problems = []
    if loss.weights is not None and not (loss.weights and isinstance(loss.weights, dict)):
        problems.append(
            f"loss.weights={loss.weights}: must be losses with weights, like {{kl: 1, listwise: 0.2}}"
        )
    for name, weight in chosen_losses(loss).items():
        problems += one_of("loss.weights" if loss.weights else "loss.name", name, tuple(NEEDS))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            problems.append(f"loss.weights.{name}={weight}: must be a number above 0")
    for name in ("temperature", "teacher_temperature"):
        if not 0 < getattr(loss, name) < math.inf:
            problems.append(f"loss.{name}={getattr(loss, name)}: must be a number above 0")
    if not 0 <= loss.label_smoothing < 1:
        problems.append(
            f"loss.label_smoothing={loss.label_smoothing}: must be a share, at least 0 and below 1"
        )
    if loss.positive_share is not None and not 0 < loss.positive_share < 1:
        problems.append(f"loss.positive_share={loss.positive_share}: must be a share above 0 and below 1")
    problems += above_zero({"loss.k": loss.k})
    problems += one_of("loss.weighting", loss.weighting, WEIGHTINGS)
    problems += one_of("loss.gain", loss.gain, GAINS)
    return problems or _loss_combinations(loss, train)


def _loss_combinations(loss: LossSettings, train: TrainSettings) -> list[str]:
    """Return options that no chosen loss reads, and losses that cannot work with these groups."""
    chosen, problems = chosen_losses(loss), []
    if loss.name not in (*chosen, LossSettings().name):
        problems.append(f"loss.name={loss.name}: not among loss.weights")
    own = {option for name in chosen for option in NEEDS[name].options}
    for option in dict.fromkeys(option for need in NEEDS.values() for option in need.options):
        value = getattr(loss, option)
        if option not in own and value != getattr(LossSettings(), option):
            having = ", ".join(name for name, need in NEEDS.items() if option in need.options)
            problems.append(
                f"loss.{option}={value}: applies only to {having}, not to loss={'+'.join(chosen)}"
            )
    for name in chosen:
        if NEEDS[name].teacher and train.in_batch_negatives:
            problems.append(
                f"train.in_batch_negatives={train.in_batch_negatives}: loss={name} learns from a teacher's "
                "scores, and passages of other queries have none"
            )
        if NEEDS[name].grades and train.positives_per_group < 2:
            problems.append(
                f"train.positives_per_group={train.positives_per_group}: loss={name} orders positives of "
                "different grades; with one per group it equals loss=listwise. Set that, or draw at least 2"
            )
    return problems
