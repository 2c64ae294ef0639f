"""The forward for scoring on a CPU: no gradient, no dropout, linear layers fused with the next operation.

oneDNN adds bias, GELU and residual while a matrix product is still in the cache. The layers' weights are
copied once for each state of the model: query, key and value become one product, and bf16 weights get
oneDNN's layout. Embeddings and head are the model's own, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .attention import attend_by_length
from .dropout import KeyedDropout
from .linear import version_of
from .packed import embed, head_logits
from .packing import PackedBatch

_ROWS = 1024  # rows for which a bf16 weight is laid out; other numbers work as well


@dataclass(frozen=True)
class _Linear:
    """Weight (out, in), or oneDNN's layout of it, and bias (out)."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True)
class _Norm:
    weight: torch.Tensor
    bias: torch.Tensor
    eps: float


@dataclass(frozen=True)
class _Layer:
    """One transformer layer; `inputs` are (query, key, value) as one, or query alone and (key, value)."""

    inputs: tuple[_Linear, ...]
    mix: _Linear
    mix_norm: _Norm
    grow: _Linear
    shrink: _Linear
    shrink_norm: _Norm
    heads: int


def can_fuse(model: Any, dtype: torch.dtype = torch.float32) -> bool:
    """Return True for a packed model with plain layers and exact GELU on a CPU with oneDNN."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    encoder = model.base_model.encoder
    plain = all(
        type(module) is nn.Linear and module.bias is not None and not module._forward_hooks
        for layer in encoder.layer
        for module in _linears(layer)
    )
    return plain and model.config.hidden_act == "gelu" and next(encoder.parameters()).device.type == "cpu"


class FusedForward:
    """Scores of packed batches from one state of a model's weights.

    Args:
        model: a `…ForSequenceClassification` that `can_fuse` accepts.
        dtype: float32 or bfloat16, for products and the states between layers.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self._model = model
        self._dtype = dtype
        self._state = _state(model)
        # Keeps the addresses from being reused.
        self._kept = [weight.detach() for weight in model.base_model.encoder.parameters()]
        layers = model.base_model.encoder.layer
        with torch.no_grad():
            self._layers = [self._take(layer, last=layer is layers[-1]) for layer in layers]

    def is_current(self) -> bool:
        """Return True if the model's weights have not changed since."""
        return self._state == _state(self._model)

    def logits(self, batch: PackedBatch) -> torch.Tensor:
        """Return raw scores, shape (S,), float32."""
        states = embed(self._model, batch).to(self._dtype)  # (T, H)
        for layer in self._layers[:-1]:
            query, key, value = (
                _linear(states, layer.inputs[0]).view(len(states), 3, layer.heads, -1).unbind(1)
            )
            states = _rest(layer, states, attend_by_length(query, key, value, batch))
        layer = self._layers[-1]
        firsts = states[torch.tensor(batch.offsets[:-1])]  # (S, H)
        query = _linear(firsts, layer.inputs[0]).view(len(firsts), layer.heads, -1)
        key, value = _linear(states, layer.inputs[1]).view(len(states), 2, layer.heads, -1).unbind(1)
        firsts = _rest(layer, firsts, attend_by_length(query, key, value, batch))
        return head_logits(self._model, firsts.float(), KeyedDropout(batch, active=False))

    def _take(self, layer: Any, *, last: bool) -> _Layer:
        query, key, value, mix, grow, shrink = _linears(layer)
        return _Layer(
            inputs=(self._join(query), self._join(key, value)) if last else (self._join(query, key, value),),
            mix=self._join(mix),
            mix_norm=self._norm(layer.attention.output.LayerNorm),
            grow=self._join(grow),
            shrink=self._join(shrink),
            shrink_norm=self._norm(layer.output.LayerNorm),
            heads=layer.attention.self.num_attention_heads,
        )

    def _join(self, *parts: nn.Linear) -> _Linear:
        """Join layers with the same input; a single float32 layer is not copied."""
        weights, biases = ([getattr(part, name) for part in parts] for name in ("weight", "bias"))
        weight = (weights[0] if len(parts) == 1 else torch.cat(weights)).detach().to(self._dtype)
        bias = (biases[0] if len(parts) == 1 else torch.cat(biases)).detach().to(self._dtype)
        if self._dtype == torch.bfloat16:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        return _Linear(weight, bias)

    def _norm(self, norm: nn.LayerNorm) -> _Norm:
        weight, bias = (part.detach().to(self._dtype) for part in (norm.weight, norm.bias))
        return _Norm(weight, bias, norm.eps)


def _rest(layer: _Layer, states: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """Compute a layer after its attention; `states` is the residual."""
    states = _normed(_linear_plus(mixed, layer.mix, states), layer.mix_norm)
    grown = _linear(states, layer.grow, "gelu")
    return _normed(_linear_plus(grown, layer.shrink, states), layer.shrink_norm)


def _linear(states: torch.Tensor, linear: _Linear, then: str = "none") -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        states, linear.weight, linear.bias, then, [], "none" if then == "gelu" else ""
    )
    return product


def _linear_plus(states: torch.Tensor, linear: _Linear, residual: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
        states, residual, linear.weight, linear.bias, "add"
    )
    return total


def _normed(states: torch.Tensor, norm: _Norm) -> torch.Tensor:
    return functional.layer_norm(states, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _linears(layer: Any) -> tuple[Any, ...]:
    attention = layer.attention.self
    return (
        attention.query,
        attention.key,
        attention.value,
        layer.attention.output.dense,
        layer.intermediate.dense,
        layer.output.dense,
    )


def _state(model: Any) -> list[tuple[int, int]]:
    """Return a value that changes when a weight is written or replaced (but not through `.data`)."""
    return [(weight.data_ptr(), version_of(weight)) for weight in model.base_model.encoder.parameters()]
