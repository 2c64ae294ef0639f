"""Linear layers and the word table of training, with work that is done once a step and not once a batch.

Master weights are fp32, products fp32 or 16 bit. A step has many batches on the same weights, so the 16-bit
copies live as long as the weights do. A batch touches some hundreds of the 250,000 rows of a word table, so
its gradient is written once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional

from ..lora import adapted


class Products:
    """Matrix products in the training precision, with cached 16-bit copies of the weights.

    Args:
        dtype: float32, bfloat16 or float16.
        keep: False makes a copy for each use, for weights that come and go at the same address (FSDP).
    """

    def __init__(self, dtype: torch.dtype = torch.float32, *, keep: bool = True) -> None:
        self.dtype = dtype
        self._keep = keep
        self._copies: dict[int, tuple[int, torch.Tensor, torch.Tensor]] = {}

    def forget(self) -> None:
        """Drop the copies; fused optimizers write weights without raising their version."""
        self._copies.clear()

    def __call__(self, states: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
        """Map (T, in) to (T, out) in `dtype`."""
        if self.dtype == torch.float32:
            return layer(states)
        if (parts := adapted(layer)) is not None:
            base, first, second, scale = parts
            inner = states.to(self.dtype)
            low = functional.linear(functional.linear(inner, first.to(self.dtype)), second.to(self.dtype))
            return self(inner, base) + scale * low
        if type(layer) is not nn.Linear or layer.bias is None:
            return layer(states.to(layer.weight.dtype)).to(self.dtype)
        weight, bias = layer.weight, layer.bias
        product: torch.Tensor = _Linear.apply(
            states.to(self.dtype), weight, bias, self._copy(weight), self._copy(bias)
        )
        return product

    def _copy(self, parameter: torch.Tensor) -> torch.Tensor:
        if not self._keep:
            return parameter.detach().to(self.dtype)
        place = parameter.data_ptr()  # replicas share their weights
        version, copy, _ = self._copies.get(place, (-1, parameter, parameter))
        if version != version_of(parameter):
            # Scoring may make the copy, and tensors of inference mode cannot be trained with.
            with torch.inference_mode(False), torch.no_grad():
                kept = parameter.detach()  # keeps the address from being reused
                copy = kept.to(self.dtype)
            self._copies[place] = (version_of(parameter), copy, kept)
        return copy


def version_of(weight: torch.Tensor) -> int:
    """Return a number that changes whenever a weight is written; 0 for tensors of inference mode."""
    return 0 if weight.is_inference() else weight._version


class _Linear(Function):
    """states wᵀ + b from the copies; the gradient goes to the master weights in their precision."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        weight_copy: torch.Tensor,
        bias_copy: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(states, weight_copy)
        ctx.dtype = weight.dtype
        return functional.linear(states, weight_copy, bias_copy)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        wanted: Sequence[bool] = ctx.needs_input_grad
        return (
            grad @ weight if wanted[0] else None,
            (grad.T @ states).to(ctx.dtype) if wanted[1] else None,
            grad.sum(0, dtype=ctx.dtype) if wanted[2] else None,
            None,
            None,
        )


# Most rows of gradients kept before they are folded, so that memory does not grow with the step.
MOST_ROWS = 32_768


class WordTable:
    """Look-up in the word embeddings; the gradient of a step is written with its last batch."""

    def __init__(self) -> None:
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, ids: torch.Tensor, embedding: nn.Embedding, *, last: bool) -> torch.Tensor:
        """Map ids (T,) to states (T, H); `last` as in `PackedBatch`."""
        weight = embedding.weight
        if type(embedding) is not nn.Embedding or not (weight.requires_grad and torch.is_grad_enabled()):
            return embedding(ids)
        states: torch.Tensor = _Lookup.apply(weight, ids, embedding.padding_idx, self, last)
        return states

    def wait(self, ids: torch.Tensor, grad: torch.Tensor, most: int) -> None:
        """Keep the gradient (T, H) for ids (T,); fold equal ids once there are more than `most` rows."""
        self._waiting.append((ids, grad))
        if len(self._waiting) > 1 and sum(len(waiting) for waiting, _ in self._waiting) > most:
            ids = torch.cat([waiting for waiting, _ in self._waiting])
            distinct, places = ids.unique(return_inverse=True)
            folded = grad.new_zeros(len(distinct), grad.shape[1])
            folded.index_add_(0, places, torch.cat([rows for _, rows in self._waiting]))
            self._waiting = [(distinct, folded)]

    @property
    def waits(self) -> bool:
        """True if there is a gradient to collect."""
        return bool(self._waiting)

    def collect(self, weight: torch.Tensor, padding: int | None) -> torch.Tensor:
        """Return the gradient of the whole table, (V, H), from everything kept."""
        table = torch.zeros_like(weight)
        for ids, grad in self._waiting:
            table.index_add_(0, ids, grad)
        self._waiting.clear()
        if padding is not None:
            table[padding] = 0  # as in nn.Embedding
        return table

    def take(self, other: WordTable) -> None:
        """Take over the gradients kept in another table."""
        self._waiting += other._waiting
        other._waiting = []


class _Lookup(Function):
    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, ids: torch.Tensor, padding: int | None, table: WordTable, last: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, ids)
        ctx.padding, ctx.table, ctx.last = padding, table, last
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, ids = ctx.saved_tensors
        ctx.table.wait(ids, grad, MOST_ROWS)
        whole = ctx.table.collect(weight, ctx.padding) if ctx.last else None
        return whole, None, None, None, None
