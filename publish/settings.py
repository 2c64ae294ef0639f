"""What is wrong with the settings of `uprank publish` by themselves, before anything is read."""

from __future__ import annotations

from pathlib import Path

from ..configs.check import above_zero, one_of
from ..configs.schema_publish import MergeSettings, PublishCommand
from .chain import TYPES
from .onnx_settings import onnx_problems


def setting_problems(settings: PublishCommand) -> list[str]:
    """Every value and combination that cannot be meant."""
    problems = one_of("weights", settings.weights, TYPES) + _merge_problems(settings.merge)
    problems += onnx_problems(settings.onnx)
    merge = settings.merge
    if (merge.weights or merge.average) and settings.run is None:
        problems.append("merge needs run=FOLDER, which names the base and has the checkpoints")
    if (merge.weights or merge.average) and settings.reports:
        problems.append(
            "merge and reports are given: no report is about weights that are still to be mixed. Publish "
            "without reports=, evaluate what comes out with `uprank eval`, and publish that folder once more "
            "with model.path= and report="
        )
    return problems


def _merge_problems(merge: MergeSettings) -> list[str]:
    problems = above_zero(
        {"merge.guard_queries": merge.guard_queries, "merge.guard_depth": merge.guard_depth}
    )
    allowed = "`auto`, or shares of the tuned model between 0 and 1: [0.4, 0.6, 0.8]"
    shares = merge.weights
    if shares is not None and shares != "auto":
        numbers = isinstance(shares, list) and shares and all(_is_share(share) for share in shares)
        if not numbers:
            problems.append(f"merge.weights={shares}: allowed is {allowed}")
    if merge.average is not None and merge.average < 2:
        problems.append(f"merge.average={merge.average}: allowed are whole numbers from 2")
    if merge.guard and not (merge.weights or merge.average):
        problems.append(
            "merge.guard is given without merge.weights or merge.average: there is nothing to choose"
        )
    problems += [
        f"merge.guard: {path}: no such file or folder"
        for path in merge.guard
        if "://" not in path and not Path(path).exists()
    ]
    return problems


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1
