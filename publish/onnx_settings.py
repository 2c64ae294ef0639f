"""Which graphs can be asked for, and whether this machine can make and prove them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from ..configs.check import one_of
from ..configs.schema_publish import OnnxSettings

# The names that optimum, sentence-transformers and transformers.js look for.
FILES = {
    "fp32": "onnx/model.onnx",
    "int8": "onnx/model_int8.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "openvino": "openvino/openvino_model.xml",
}
PACKAGES = ("onnx", "onnxruntime")


def onnx_problems(onnx: OnnxSettings) -> list[str]:
    """What is wrong with the settings, before anything is loaded."""
    problems = [line for kind in onnx.graphs or [] for line in one_of("onnx.graphs", kind, tuple(FILES))]
    if onnx.graphs and missing_packages():
        names = " and ".join(missing_packages())
        problems.append(f'onnx.graphs={onnx.graphs}: {names} not installed: pip install "uprank[onnx]"')
    if "openvino" in (onnx.graphs or []) and missing_packages(["openvino"]):
        problems.append(f'onnx.graphs={onnx.graphs}: openvino not installed: pip install "uprank[openvino]"')
    if onnx.graphs and "fp32" not in onnx.graphs:
        problems.append(f"onnx.graphs={onnx.graphs}: the other graphs are made of fp32; add it")
    if onnx.pairs < 1:
        problems.append(f"onnx.pairs={onnx.pairs}: allowed are whole numbers from 1")
    if not 0 <= onnx.min_tau <= 1:
        problems.append(f"onnx.min_tau={onnx.min_tau}: allowed is 0 to 1")
    if not 0 <= onnx.max_loss <= 1:
        problems.append(f"onnx.max_loss={onnx.max_loss}: allowed is 0 to 1")
    return problems


def name_of(kind: str) -> str:
    """A graph in a line for the terminal."""
    return "OpenVINO" if kind == "openvino" else f"ONNX {kind}"


def missing_packages(names: Sequence[str] | None = None) -> list[str]:
    """Those that are not installed, of all that the extra `onnx` brings or of those named."""
    return [name for name in names or PACKAGES if importlib.util.find_spec(name) is None]
