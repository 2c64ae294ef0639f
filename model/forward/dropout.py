"""Dropout as a pure function of (sequence key, place in the network).

The mask of a sequence does not depend on the rest of the batch, on the rank or on history. So the gradient of
a step is the same for every token budget and number of ranks (contract 1), and a resumed run needs no
generator states (contract 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import Function

from .packing import PackedBatch

_MIX = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: spreads neighbouring keys over all bits


def mix_bits(*numbers: int) -> int:
    """Return a 63-bit key from several numbers."""
    key = 0
    for number in numbers:
        key = (key ^ (number & (2**64 - 1))) * _MIX % 2**64
        key ^= key >> 29
    return key >> 1


class KeyedDropout:
    """Dropout for one packed batch.

    Args:
        batch: gives spans and keys of the sequences.
        active: False drops nothing (evaluation).
    """

    def __init__(self, batch: PackedBatch, *, active: bool) -> None:
        self.batch = batch
        self.active = active

    def tokens(self, states: torch.Tensor, rate: float, site: int) -> torch.Tensor:
        """Drop elements of states (T, H), all tokens of each sequence."""
        return self._apply(states, rate, site, self.batch.lengths)

    def firsts(self, states: torch.Tensor, rate: float, site: int) -> torch.Tensor:
        """Drop elements of states (S, H), one row a sequence."""
        return self._apply(states, rate, site, [1] * len(states))

    def kept(self, shape: Sequence[int], rate: float, site: int, sequence: int) -> torch.Tensor:
        """Return the mask of one sequence's attention weights: uint8 of this shape, 1 keeps and 0 drops."""
        size = int(np.prod(shape))
        return self._draw([size], [self.batch.keys[sequence]], size, rate, site).view(*shape)

    def _apply(self, states: torch.Tensor, rate: float, site: int, rows: list[int]) -> torch.Tensor:
        if not self.active or rate == 0.0:
            return states
        sizes = [count * states.shape[1] for count in rows]
        kept = self._draw(sizes, self.batch.keys, states.numel(), rate, site).view(states.shape)
        dropped: torch.Tensor = _Drop.apply(states, kept, 1.0 / (1.0 - rate))
        return dropped

    def _draw(
        self, sizes: list[int], keys: Sequence[int], total: int, rate: float, site: int
    ) -> torch.Tensor:
        """Return a mask (total,) uint8, 1 to keep: `sizes[i]` elements from `keys[i]`, one after the other.

        Elements beyond the last key are dropped. Each element takes 16 random bits: the rate is exact to
        1/65,536, at a fifth of the cost of torch's Bernoulli numbers, which would take longer than attention.
        """
        bits = np.full(total, 2**16 - 1, dtype=np.uint16)
        at = 0
        for size, key in zip(sizes, keys, strict=True):
            words = np.random.SFC64(mix_bits(key, site)).random_raw(-(-size // 4))
            bits[at : at + size] = words.view(np.uint16)[:size]
            at += size
        kept = (bits < round((1.0 - rate) * 2**16)).view(np.uint8)  # a bool takes three times as long to use
        return torch.from_numpy(kept).to(self.batch.ids.device)


class _Drop(Function):
    """states * kept * scale, keeping one byte an element for the backward pass."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, kept: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return (states * kept.to(states.dtype)).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (kept,) = ctx.saved_tensors
        return (grad * kept.to(grad.dtype)).mul_(ctx.scale), None, None
