"""Run OpenVINO IR graphs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.errors import UserError

Run = Callable[[dict[str, np.ndarray]], list[Any]]  # inputs by name -> outputs


def open_openvino(
    path: str, graph: Path, device: str | None, threads: int | None
) -> tuple[list[str], Run, str]:
    """Open a graph.

    Args:
        path: `model.path`, for messages.
        graph: `….xml`; its weights are in `….bin` beside it.
        device: `cpu` or None.
        threads: CPU threads; OpenVINO's choice if None.

    Returns:
        Names of the inputs, the function that runs the graph, and its device.

    Raises:
        UserError: the graph cannot be run, or its weights are missing.
    """
    if device not in (None, "cpu"):
        raise UserError(f"model.device={device}: backend openvino scores on the CPU here; allowed is cpu")
    if not graph.with_suffix(".bin").is_file():
        raise UserError(f"model.path={path}: {graph.with_suffix('.bin').name} is missing beside {graph.name}")
    try:
        compiled = compile_graph(graph, threads)
    except Exception as error:  # OpenVINO raises RuntimeError and others
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"model.path={path}: {graph.name} cannot be run: {lines[-1]}") from error
    names = [entry.any_name for entry in compiled.inputs]
    return names, lambda inputs: [np.array(values) for values in compiled(inputs).values()], "cpu"


def compile_graph(graph: Path, threads: int | None) -> Any:
    """Compile a graph for the CPU in fp32; on CPUs with bf16 products OpenVINO's default is bf16."""
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    return import_openvino().Core().compile_model(str(graph), "CPU", settings)


def import_openvino() -> Any:
    """Import OpenVINO without `openvino-telemetry`, which reports the import to an analytics server.

    OpenVINO runs without that package if it cannot be imported.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
