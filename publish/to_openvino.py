"""The graph as OpenVINO IR."""

from __future__ import annotations

from pathlib import Path

from ..model.openvino_session import import_openvino


def to_openvino(source: Path, target: Path) -> None:
    """Convert the fp32 graph; weights stay fp32, in a file `.bin` beside the target.

    Args:
        source: the fp32 ONNX graph.
        target: `….xml` to write.
    """
    openvino = import_openvino()
    target.parent.mkdir(exist_ok=True)
    # Not `convert_model`, which reports to an analytics server what it converts.
    openvino.save_model(openvino.Core().read_model(str(source)), str(target), compress_to_fp16=False)
    for path in (target, target.with_suffix(".bin")):
        path.chmod(source.stat().st_mode)
