"""OpenVINO with the face of an ONNX Runtime session, for graphs as OpenVINO IR."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.errors import UserError


@dataclass(frozen=True)
class Input:
    """An input of the graph."""

    name: str


class OpenVinoSession:
    """A compiled graph.

    Args:
        graph: `….xml`; its weights lie in `….bin` beside it.
        threads: of the CPU; OpenVINO's choice when None.
    """

    def __init__(self, graph: Path, threads: int | None) -> None:
        # On CPUs with bf16 products OpenVINO computes in bf16 unless it is told.
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
        self._compiled = import_openvino().Core().compile_model(str(graph), "CPU", settings)

    def get_inputs(self) -> list[Input]:
        """The inputs by name."""
        return [Input(entry.any_name) for entry in self._compiled.inputs]

    def run(self, outputs: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs."""
        return [np.array(values) for values in self._compiled(feed).values()]


def open_openvino(
    path: str, graph: Path, device: str | None, threads: int | None
) -> tuple[OpenVinoSession, str]:
    """The session and the device it runs on.

    Raises:
        UserError: the graph cannot be run, or not there.
    """
    if device not in (None, "cpu"):
        raise UserError(f"model.device={device}: backend openvino scores on the CPU here; allowed is cpu")
    if not graph.with_suffix(".bin").is_file():
        raise UserError(f"model.path={path}: {graph.with_suffix('.bin').name} is missing beside {graph.name}")
    try:
        return OpenVinoSession(graph, threads), "cpu"
    except Exception as error:  # whatever OpenVINO says against the file
        said = str(error).strip().splitlines()
        raise UserError(
            f"model.path={path}: {graph.name} cannot be run: {said[-1] if said else type(error).__name__}"
        ) from error


def import_openvino() -> Any:
    """The package, without the report of its import that `openvino-telemetry` sends to an analytics server.

    OpenVINO does without that package where it cannot be imported.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
