"""The model as an ONNX graph: token ids in, one raw logit a pair out, any batch and any length.

An ONNX file with one large tensor, written without holding a copy of it.

`onnx.save` builds the whole file in memory beside the message, so that a word table of 770 MB would be there
three times. An ONNX file is a protobuf message: what is before the tensor, the tensor, nothing more.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError

if TYPE_CHECKING:
    import torch

    from ...model.reranker import Reranker
if TYPE_CHECKING:
    import numpy as np


# The newest operator set that torch's exporter writes without further packages. It has LayerNormalization and
# Gelu as operators of their own: a small graph, which every runtime can fuse.
OPSET = 20
# A protobuf file ends at 2 GiB; with room for the graph itself.
LARGEST = 2**31 - 2**24


def export(reranker: Reranker, file: Path) -> None:
    """Write the graph of the published model in fp32, in one file.

    Inputs are those of transformers: `input_ids`, `attention_mask` and, where the model has several types,
    `token_type_ids`, each (batch, length) int64; the output is `logits`, (batch, 1) float32. These names and
    `onnx/model.onnx` are what optimum and sentence-transformers look for.

    Args:
        reranker: on the CPU, in fp32.
        file: to write.

    Raises:
        UserError: the model is too large for one file, or its forward cannot be traced.
    """
    import onnx
    import torch

    size = sum(parameter.numel() * 4 for parameter in reranker.model.parameters())
    if size > LARGEST:
        raise UserError(
            f"onnx.graphs: the model has {size / 1e9:.1f} GB of weights; an ONNX file holds 2.1 GB at most",
            advice="Set onnx.graphs=[] and serve the folder by transformers or sentence-transformers.",
        )
    names = input_names(reranker.model.config)
    # Unequal rows and lengths, so that nothing is taken for a constant that is none.
    inputs = tuple(_example(name) for name in names)
    axes = {name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}}
    part = file.with_suffix(".part")
    try:
        with _as_traced(reranker.model) as forward, _small_table(forward) as table, torch.inference_mode():
            torch.onnx.export(
                forward,
                inputs,
                str(part),
                input_names=list(names),
                output_names=["logits"],
                dynamic_axes=axes,
                opset_version=OPSET,
                # The other exporter needs onnxscript, and gives the same operators for these encoders.
                dynamo=False,
            )
        name, weight = table
        save_with(onnx.load(str(part)), name, weight.detach().numpy(), file)
    except (RuntimeError, ValueError, TypeError) as error:
        name = type(reranker.model).__name__
        raise UserError(
            f"onnx.graphs: {name} cannot be exported: {str(error).splitlines()[0]}",
            advice="Set onnx.graphs=[] to publish without ONNX.",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def input_names(config: Any) -> tuple[str, ...]:
    """The inputs that the graph has; XLM-R knows one type of token and is given none."""
    types = getattr(config, "type_vocab_size", 0) > 1
    return ("input_ids", "attention_mask", "token_type_ids") if types else ("input_ids", "attention_mask")


def _example(name: str) -> torch.Tensor:
    """Two pairs, the second one shorter."""
    import torch

    if name == "token_type_ids":
        return torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0]])
    if name == "attention_mask":
        return torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
    return torch.tensor([[2, 3, 4, 5, 6, 7, 2], [2, 3, 4, 5, 2, 1, 1]])


@contextmanager
def _as_traced(model: Any) -> Iterator[torch.nn.Module]:
    """Forward with positional inputs and logits alone; attention written out, as fusions know it."""
    import torch

    names = input_names(model.config)

    class Forward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(**dict(zip(names, inputs, strict=True))).logits
            return logits

    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of every size that transformers looks at
            yield Forward().eval()
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _small_table(forward: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The model with the first rows of its word table only, for the exporter copies every weight twice.

    Yields name and weight of the whole table, which is most of a multilingual model.
    """
    import torch

    table = forward.model.get_input_embeddings()  # type: ignore[operator,union-attr]
    whole = table.weight
    name = next(name for name, weight in forward.named_parameters() if weight is whole)
    rows = max(8, (table.padding_idx or 0) + 1)
    table.weight = torch.nn.Parameter(whole[:rows].detach(), requires_grad=False)
    try:
        yield name, whole
    finally:
        table.weight = whole


# Numbers of the fields in onnx.proto; all three have the wire type 2: a length, then so many bytes.
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9


def save_with(model: Any, name: str, values: np.ndarray, file: Path) -> None:
    """Write a model with the initializer of that name replaced by an array.

    Args:
        model: ModelProto whose graph has the initializer, of any shape; it is emptied.
        name: of the initializer.
        values: float32, in the memory of whoever holds it.
        file: to write.
    """
    import numpy as np
    from onnx import TensorProto

    graph = model.graph
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))
    before = graph.SerializeToString()
    model.ClearField("graph")
    values = np.ascontiguousarray(values, dtype="<f4")
    about = TensorProto(dims=values.shape, data_type=TensorProto.FLOAT, name=name).SerializeToString()
    about += _header(RAW_DATA, values.nbytes)
    tensor = _header(INITIALIZER, len(about) + values.nbytes) + about
    with file.open("wb") as stream:
        stream.write(model.SerializeToString())
        stream.write(_header(GRAPH, len(before) + len(tensor) + values.nbytes))
        stream.write(before)
        stream.write(tensor)
        stream.write(values.data.cast("B"))


def _header(field: int, length: int) -> bytes:
    """Tag and length of a field as protobuf writes them: seven bits a byte, the lowest first.

    >>> _header(7, 300).hex()
    '3aac02'
    """
    out, rest = bytearray([field << 3 | 2]), length
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*out, rest])
