"""The objective of a run: the weighted losses of its settings, and the data that they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch

from ...configs.errors import UserError
from ...configs.schema_train import LossSettings, TrainCommand
from ...configs.validate_loss import NEEDS, chosen_losses, needs_teacher
from ...data.groups import Group
from .losses import LOSSES

SHOWN = 10
ADVICE = (
    "`uprank score model.path=MODEL input=ROWS.jsonl output=SCORED.jsonl` adds pos_scores and neg_scores to "
    "rows with negatives; `uprank mine teacher.path=MODEL teacher.scores=true` mines and scores"
)


def group_losses(
    settings: LossSettings,
    scores: torch.Tensor,
    labels: torch.Tensor,
    offsets: Sequence[int],
    teacher: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the weighted sum of losses for each group, (G,), in float32 or the scores' higher precision.

    Args:
        settings: the losses and their options.
        scores: raw scores (N,), group after group.
        labels: grade of each positive, 0 for a negative (N,).
        offsets: group g is `offsets[g]:offsets[g + 1]`.
        teacher: a teacher's scores (N,).

    Raises:
        UserError: a loss needs a teacher's scores and these groups have none.

    >>> one = group_losses(LossSettings(), torch.zeros(2), torch.tensor([1.0, 0.0]), [0, 2])
    >>> two = LossSettings(weights={"listwise": 1.0, "bce": 0.5})
    >>> (group_losses(two, torch.zeros(2), torch.tensor([1.0, 0.0]), [0, 2]) / one).item()
    1.5
    """
    if teacher is None and needs_teacher(settings):
        raise UserError(f"{_named(settings)}: a group has no scores of a teacher. {ADVICE}")
    scaled = scores.to(torch.promote_types(scores.dtype, torch.float32)) / settings.temperature
    parts = []
    for name, weight in chosen_losses(settings).items():
        options: dict[str, Any] = {option: getattr(settings, option) for option in NEEDS[name].options}
        taught = [teacher] if NEEDS[name].teacher else []
        parts.append(weight * LOSSES[name](scaled, labels, offsets, *taught, **options))
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def data_problems(settings: TrainCommand, groups: Iterable[Group]) -> list[str]:
    """Return what the losses need and the training groups lack, with the first such rows.

    Takes one pass over the groups, and none if positives and negatives are enough.
    """
    loss = settings.loss
    problems: list[str] = []
    if needs_teacher(loss):
        lacking = (group.where for group in groups if not group.scores)
        problems += [
            f"{where}: no pos_scores and neg_scores, from which {_named(loss)} learns. {ADVICE}"
            for where in islice(lacking, SHOWN)
        ]
        if more := sum(1 for _ in lacking):
            problems.append(f"… and {more:,} more rows without pos_scores and neg_scores")
    graded = [name for name in chosen_losses(loss) if NEEDS[name].grades]
    if graded and not any(len(set(group.grades)) > 1 for group in groups):
        problems.append(
            f"loss={graded[0]}: orders positives of different grades, and no query has such, so that it is "
            "loss=listwise: set that, or give pos_grades"
        )
    return problems


def _named(settings: LossSettings) -> str:
    names = [name for name in chosen_losses(settings) if NEEDS[name].teacher]
    return f"loss={' and '.join(names)}"
