"""Smaller graphs from the fp32 one: int8 for CPUs, fp16 for GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...model.backends import import_onnxruntime

MICROSOFT = "com.microsoft"  # operators of ONNX Runtime beyond the standard
BLOCK = 4096  # rows that are rounded together
TABLE_ROWS = 1000  # a table with fewer rows is no word table
LEVELS = 127  # symmetric: -127 to 127
MIDDLE = 128  # the zero of unsigned activations, which x86 multiplies with signed weights
GELU_LEAST = 0.16997121  # -min of x * Phi(x), at x = -0.7518

USED = {
    "int8_one": np.float32(1),
    "int8_middle": np.uint8(MIDDLE),
    "int8_none": np.uint8(0),
    "int8_least": np.float32(1e-10),
    "int8_levels": np.float32(LEVELS),
    "int8_all": np.float32(255),
    "int8_gelu": np.float32(GELU_LEAST),
    "int8_last": np.array([-1], dtype=np.int64),
}


def to_int8(source: Path, target: Path) -> None:
    """Quantise the encoder's matrices and the word table; head, attention and norms stay fp32.

    Weights are int8 with one scale a column, the word table with one a row. Activations are quantised at run
    time, each token by its own largest value (Yao et al. 2022, ZeroQuant, NeurIPS, section 4.1). With one
    scale for a whole batch, as in onnxruntime's `quantize_dynamic`, a few large values cost all others their
    digits, and a score depends on the rest of the batch.

    Args:
        source: the fp32 graph.
        target: file to write.
    """
    import onnx

    model = onnx.load(str(source))
    if all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    _quantise_tables(model.graph)
    _quantise_products(model.graph)
    _drop_unread(model.graph)
    onnx.save(model, str(target))


def to_fp16(source: Path, target: Path) -> None:
    """Convert weights and sums to fp16; inputs and the logit keep their types.

    Args:
        source: the fp32 graph.
        target: file to write.
    """
    import onnx

    import_onnxruntime()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
    onnx.save(model, str(target))


def _quantise_products(graph: Any) -> None:
    """Turn every product of activations with a constant matrix (K, N) into one of bytes."""
    from onnx import numpy_helper
    from onnx.helper import make_node

    constants = {tensor.name: tensor for tensor in graph.initializer}
    positive = {node.output[0] for node in graph.node if _is_gelu(node)}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in USED.items())
    quantised: set[str] = set()
    nodes: list[Any] = []
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != 2:
            nodes.append(node)
            continue
        x, out, name, shifted = node.input[0], node.output[0], weight.name, node.input[0] in positive
        if x not in quantised:  # query, key and value read the same states
            quantised.add(x)
            nodes += _shifted_rows(x) if shifted else _rows(x)
        if name not in quantised:  # ALBERT's layers share theirs
            quantised.add(name)
            values, scales = _rounded(numpy_helper.to_array(weight), axis=0)
            parts = {"_int8": values, "_scale": scales.ravel(), "_zero": np.zeros(scales.size, dtype=np.int8)}
            if shifted:  # the share of the shift in each column, subtracted again
                parts["_shift"] = (-GELU_LEAST * values.sum(axis=0) * scales.ravel()).astype(np.float32)
            _add(graph, name, parts)
        zero = "int8_none" if shifted else "int8_middle"
        inputs = [f"{x}_int8", f"{name}_int8", "int8_one", f"{name}_scale", zero, f"{name}_zero"]
        nodes.append(make_node("MatMulIntegerToFloat", inputs, [f"{out}_rows"], domain=MICROSOFT))
        nodes.append(make_node("Mul", [f"{out}_rows", f"{x}_scale"], [f"{out}_scaled" if shifted else out]))
        if shifted:
            nodes.append(make_node("Add", [f"{out}_scaled", f"{name}_shift"], [out]))
    _set_nodes(graph, nodes)


def _is_gelu(node: Any) -> bool:
    """Return True for the exact GELU; its approximations have another least value."""
    return node.op_type == "Gelu" and not any(
        a.name == "approximate" and a.s != b"none" for a in node.attribute
    )


def _rows(x: str) -> list[Any]:
    """Make `x_scale` (…, 1), each token's largest absolute value / 127, and `x_int8`, x / scale + 128."""
    from onnx.helper import make_node

    return [
        make_node("Abs", [x], [f"{x}_abs"]),
        make_node("ReduceMax", [f"{x}_abs", "int8_last"], [f"{x}_max"], keepdims=1),
        *_by_row(x, x, f"{x}_max", "int8_levels", "int8_middle"),
    ]


def _shifted_rows(x: str) -> list[Any]:
    """Quantise x + 0.17, which is never below 0 behind GELU, so that all 255 steps are used."""
    from onnx.helper import make_node

    return [
        make_node("Add", [x, "int8_gelu"], [f"{x}_above"]),
        make_node("ReduceMax", [f"{x}_above", "int8_last"], [f"{x}_max"], keepdims=1),
        *_by_row(x, f"{x}_above", f"{x}_max", "int8_all", "int8_none"),
    ]


def _by_row(x: str, values: str, largest: str, levels: str, zero: str) -> list[Any]:
    from onnx.helper import make_node

    return [
        make_node("Max", [largest, "int8_least"], [f"{x}_above0"]),
        make_node("Div", [f"{x}_above0", levels], [f"{x}_scale"]),
        make_node("Reciprocal", [f"{x}_scale"], [f"{x}_inverse"]),
        make_node("Mul", [values, f"{x}_inverse"], [f"{x}_steps"]),
        make_node("QuantizeLinear", [f"{x}_steps", "int8_one", zero], [f"{x}_int8"]),
    ]


def _quantise_tables(graph: Any) -> None:
    """Keep large tables (R, H) as bytes; only the rows that are read become fp32."""
    from onnx import TensorProto, numpy_helper
    from onnx.helper import make_node

    constants = {tensor.name: tensor for tensor in graph.initializer}
    quantised: set[str] = set()
    nodes: list[Any] = []
    for node in graph.node:
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or table.dims[0] < TABLE_ROWS:
            nodes.append(node)
            continue
        name, rows, out = table.name, node.input[1], node.output[0]
        if name not in quantised:
            quantised.add(name)
            values, scales = _rounded(numpy_helper.to_array(table), axis=1)
            _add(graph, name, {"_int8": values, "_scale": scales})
        nodes += [
            make_node("Gather", [f"{name}_int8", rows], [f"{out}_int8"], axis=0),
            make_node("Gather", [f"{name}_scale", rows], [f"{out}_scale"], axis=0),
            make_node("Cast", [f"{out}_int8"], [f"{out}_float"], to=TensorProto.FLOAT),
            make_node("Mul", [f"{out}_float", f"{out}_scale"], [out]),
        ]
    _set_nodes(graph, nodes)


def _rounded(weight: np.ndarray, *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes and scales (1 along `axis`) whose product is nearest to the weight."""
    largest = np.maximum(weight.max(axis=axis, keepdims=True), -weight.min(axis=axis, keepdims=True))
    scales = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    values = np.empty(weight.shape, dtype=np.int8)
    for start in range(0, len(weight), BLOCK):  # a word table has 200 million numbers: no fp32 copies of it
        part = slice(start, start + BLOCK)
        steps = np.rint(weight[part] / (scales[part] if axis else scales))
        values[part] = np.clip(steps, -LEVELS, LEVELS)
    return values, scales


def _add(graph: Any, name: str, parts: dict[str, np.ndarray]) -> None:
    from onnx import numpy_helper

    graph.initializer.extend(numpy_helper.from_array(part, name + ending) for ending, part in parts.items())


def _drop_unread(graph: Any) -> None:
    """Remove the constants that nothing reads; DeBERTa reads some quantised matrices in other ways, too."""
    read = _read(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _read(graph: Any) -> set[str]:
    """Return the names that outputs and nodes read, those in the branches of a node included."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _read(inner)
    return names


def _set_nodes(graph: Any, nodes: Sequence[Any]) -> None:
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)
