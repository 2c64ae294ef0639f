"""ONNX Runtime as the backend opens it: no telemetry, and products of bytes that do not saturate."""

import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.model.backends.onnx import _open

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def bytes_graph(path, *, signed=False):
    """Save y = x @ w of bytes, all weights 127; activations uint8, or int8 if signed."""
    helper, numpy = onnx.helper, onnx.numpy_helper
    x = helper.make_tensor_value_info(
        "x", onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8, ["b", 64]
    )
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", 8])
    constants = {
        "w": np.full((64, 8), 127, np.int8),
        "x_scale": np.float32(1),
        "w_scale": np.ones(8, np.float32),
        "x_zero": np.int8(0) if signed else np.uint8(0),
        "w_zero": np.zeros(8, np.int8),
    }
    inputs = ["x", "w", "x_scale", "w_scale", "x_zero", "w_zero"]
    node = helper.make_node("MatMulIntegerToFloat", inputs, ["y"], domain="com.microsoft")
    weights = [numpy.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph([node], "g", [x], [y], weights)
    sets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=9), path)
    return path


def test_a_graph_that_fails_while_it_runs_is_a_sentence(tmp_path):
    _, run, _ = _open("a", bytes_graph(tmp_path / "a.onnx"), "cpu", 1)
    with pytest.raises(UserError, match=r"model\.path=a: a\.onnx cannot be run: "):
        run({"x": np.zeros((1, 3), np.uint8)})


@pytest.mark.parametrize(("signed", "largest"), [(False, 255), (True, 127)])
def test_products_of_bytes_do_not_saturate(tmp_path, signed, largest):
    """x86 without VNNI gives 1,048,544 for 2,072,640 by itself; signed ones have no such kernel."""
    graph = bytes_graph(tmp_path / "a.onnx", signed=signed)
    _, run, _ = _open("a", graph, "cpu", 1)
    (found,) = run({"x": np.full((3, 64), largest, np.int8 if signed else np.uint8)})
    assert (found == 64 * 127 * largest).all()


def test_opening_a_graph_sends_and_keeps_nothing(tmp_path):
    """Without the switch, ONNX Runtime writes an identifier into the cache and calls its collector."""
    graph, home = bytes_graph(tmp_path / "a.onnx"), tmp_path / "home"
    home.mkdir()
    script = f"""
        from pathlib import Path
        import numpy as np
        from uprank.model.backends.onnx import _open
        _, run, _ = _open("a", Path({str(graph)!r}), "cpu", 1)
        run({{"x": np.ones((1, 64), np.uint8)}})
    """
    quiet = ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")  # would hide the fault
    env = {key: value for key, value in os.environ.items() if key not in quiet and "PYTEST" not in key}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    if tracer := shutil.which("strace"):
        command = [
            tracer,
            "-f",
            "-qq",
            "-e",
            "trace=connect,sendto",
            "-s",
            "90",
            "-o",
            str(tmp_path / "calls"),
            *command,
        ]
    subprocess.run(command, env=env | {"HOME": str(home)}, check=True, timeout=120)
    assert [path.name for path in home.rglob("*") if "icrosoft" in str(path)] == []
    calls = (tmp_path / "calls").read_text() if tracer else ""
    assert "microsoft" not in calls
    assert "sin_port" not in calls
