"""The model as an ONNX graph: token ids in, one raw logit a pair out, any batch and any length."""

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

# The newest operator set that torch's exporter writes without further packages. It has LayerNormalization and
# Gelu as operators of their own: a small graph, which every runtime can fuse.
OPSET = 20
# A protobuf file ends at 2 GiB; with room for the graph itself.
LARGEST = 2**31 - 2**24


def export(reranker: Reranker, file: Path) -> None:
    """Write the graph of the published model in fp32, in one file.

    Inputs are those of transformers: `input_ids`, `attention_mask` and, if the model has several types,
    `token_type_ids`, each (batch, length) int64; the output is `logits`, (batch, 1) float32. optimum and
    sentence-transformers look for these names and for `onnx/model.onnx`.

    Args:
        reranker: on the CPU, in fp32.
        file: file to write.

    Raises:
        UserError: the model is too large for one file, or its forward cannot be traced.
    """
    import torch

    size = sum(parameter.numel() * 4 for parameter in reranker.model.parameters())
    if size > LARGEST:
        raise UserError(
            f"onnx.graphs: the model has {size / 1e9:.1f} GB of weights; an ONNX file holds 2.1 GB at most",
            advice="Set onnx.graphs=[] and serve the folder by transformers or sentence-transformers.",
        )
    names = input_names(reranker.model.config)
    axes = {name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}}
    try:
        with _as_traced(reranker.model) as forward, torch.inference_mode():
            torch.onnx.export(
                forward,
                tuple(_example(name) for name in names),
                str(file),
                input_names=list(names),
                output_names=["logits"],
                dynamic_axes=axes,
                opset_version=OPSET,
                # The other exporter needs onnxscript, and gives the same operators for these encoders.
                dynamo=False,
            )
    except Exception as error:  # whatever the tracer and the model's own code raise
        name = type(reranker.model).__name__
        raise UserError(
            f"onnx.graphs: {name} cannot be exported: {(str(error) or type(error).__name__).splitlines()[0]}",
            advice="Set onnx.graphs=[] to publish without ONNX.",
        ) from error


def input_names(config: Any) -> tuple[str, ...]:
    """Return the graph's inputs; XLM-R knows one type of token and gets no types."""
    types = getattr(config, "type_vocab_size", 0) > 1
    return ("input_ids", "attention_mask", "token_type_ids") if types else ("input_ids", "attention_mask")


def _example(name: str) -> torch.Tensor:
    """Return two pairs of unequal length, so that the tracer takes no size for a constant."""
    import torch

    if name == "token_type_ids":
        return torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0]])
    if name == "attention_mask":
        return torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
    return torch.tensor([[2, 3, 4, 5, 6, 7, 2], [2, 3, 4, 5, 2, 1, 1]])


@contextmanager
def _as_traced(model: Any) -> Iterator[torch.nn.Module]:
    """Yield a forward with positional inputs that returns logits; attention is written out, for fusions."""
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
