"""Validate the settings of `uprank publish`, before anything is read."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from .schema_publish import MergeSettings, OnnxSettings, PublishCommand
from .validate import above_zero, one_of

TYPES = ("fp32", "fp16", "bf16")


def setting_problems(settings: PublishCommand) -> list[str]:
    """Return the problems of all values and combinations."""
    problems = one_of("weights", settings.weights, TYPES) + _merge_problems(settings.merge)
    problems += onnx_problems(settings.onnx)
    merge = settings.merge
    if (merge.weights or merge.average) and settings.run is None:
        problems.append("merge needs run=FOLDER, which names the base and holds the checkpoints")
    if (merge.weights or merge.average) and settings.reports:
        problems.append(
            "merge cannot go with reports: no report covers weights that are yet to be merged. Publish "
            "without reports=, evaluate the published folder with `uprank eval`, and publish it again with "
            "model.path= and report="
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
        problems.append("merge.guard needs merge.weights or merge.average: there is nothing to choose")
    problems += [
        f"merge.guard: {path}: no such file or folder"
        for path in merge.guard
        if "://" not in path and not Path(path).exists()
    ]
    return problems


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1


# The names that optimum, sentence-transformers and transformers.js look for.
FILES = {
    "fp32": "onnx/model.onnx",
    "int8": "onnx/model_int8.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "openvino": "openvino/openvino_model.xml",
}
PACKAGES = ("onnx", "onnxruntime")


def onnx_problems(onnx: OnnxSettings) -> list[str]:
    """Return the problems of the ONNX settings."""
    problems = [line for kind in onnx.graphs or [] for line in one_of("onnx.graphs", kind, tuple(FILES))]
    if onnx.graphs and missing_packages():
        names = " and ".join(missing_packages())
        problems.append(f'onnx.graphs={onnx.graphs}: {names} not installed: pip install "uprank[onnx]"')
    if "openvino" in (onnx.graphs or []) and missing_packages(["openvino"]):
        problems.append(f'onnx.graphs={onnx.graphs}: openvino not installed: pip install "uprank[openvino]"')
    if onnx.graphs and "fp32" not in onnx.graphs:
        problems.append(f"onnx.graphs={onnx.graphs}: the other graphs are made from fp32; add it")
    if onnx.pairs < 1:
        problems.append(f"onnx.pairs={onnx.pairs}: allowed are whole numbers from 1")
    if not 0 <= onnx.min_tau <= 1:
        problems.append(f"onnx.min_tau={onnx.min_tau}: allowed is 0 to 1")
    if not 0 <= onnx.max_loss <= 1:
        problems.append(f"onnx.max_loss={onnx.max_loss}: allowed is 0 to 1")
    return problems


def name_of(kind: str) -> str:
    """Return the name of a graph for the terminal."""
    return "OpenVINO" if kind == "openvino" else f"ONNX {kind}"


def missing_packages(names: Sequence[str] | None = None) -> list[str]:
    """Return the packages that are not installed, of those named or of the extra `onnx`."""
    return [name for name in names or PACKAGES if importlib.util.find_spec(name) is None]
