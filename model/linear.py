"""Linear layers and the word table of training: what a step needs only once is done once a step.

fp32 master weights, products in fp32 or bf16. A step is many batches on the same weights, so the bf16
copies live as long as the weights do; and the gradient of a word table with 250,000 rows, of which
a batch touches some hundreds, is written once a step and not once a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional


class Products:
    """Matrix products in the precision of training, with copies of the weights that follow the weights.

    Args:
        dtype: float32 or bfloat16.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._copies: dict[int, tuple[int, torch.Tensor]] = {}

    def __call__(self, states: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
        """(T, in) to (T, out) in `dtype`."""
        if self.dtype == torch.float32 or type(layer) is not nn.Linear:
            return layer(states)
        weight, bias = layer.weight, layer.bias
        product: torch.Tensor = _Linear.apply(
            states.to(self.dtype), weight, bias, self._copy(weight), self._copy(bias)
        )
        return product

    def _copy(self, parameter: torch.Tensor) -> torch.Tensor:
        place = parameter.data_ptr()  # the replicas of several streams have weights in common
        version, copy = self._copies.get(place, (-1, parameter))
        if version != parameter._version:
            copy = parameter.detach().to(self.dtype)
            self._copies[place] = (parameter._version, copy)
        return copy


class _Linear(Function):
    """states wᵀ + b from the copies; the gradient goes to the master weights in their own precision."""

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


class WordTable:
    """Looks tokens up in the word embeddings; the gradient of several batches is written at the last."""

    def __init__(self) -> None:
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, ids: torch.Tensor, embedding: nn.Embedding, *, more: bool) -> torch.Tensor:
        """(T,) ids to (T, H) states; `more` says that further batches of the step follow."""
        weight = embedding.weight
        if type(embedding) is not nn.Embedding or not (weight.requires_grad and torch.is_grad_enabled()):
            return embedding(ids)
        states: torch.Tensor = _Lookup.apply(weight, ids, embedding.padding_idx, self, more)
        return states

    def wait(self, ids: torch.Tensor, grad: torch.Tensor) -> None:
        """Keep the gradient (T, H) of the states of these ids (T,)."""
        self._waiting.append((ids, grad))

    def collect(self, weight: torch.Tensor, padding: int | None) -> torch.Tensor:
        """The gradient of the whole table, (V, H), from all that waits."""
        table = torch.zeros_like(weight)
        for ids, grad in self._waiting:
            table.index_add_(0, ids, grad)
        self._waiting.clear()
        if padding is not None:
            table[padding] = 0  # as nn.Embedding has it
        return table

    def take(self, other: WordTable) -> None:
        """Take over what waits in another one."""
        self._waiting += other._waiting
        other._waiting = []


class _Lookup(Function):
    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, ids: torch.Tensor, padding: int | None, table: WordTable, more: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, ids)
        ctx.padding, ctx.table, ctx.more = padding, table, more
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, ids = ctx.saved_tensors
        ctx.table.wait(ids, grad)
        whole = None if ctx.more else ctx.table.collect(weight, ctx.padding)
        return whole, None, None, None, None
