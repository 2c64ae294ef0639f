"""Dropout as a pure function of (sequence key, place in the network).

The mask of a sequence does not depend on what else is in the batch, on the process or on
history. So the gradient of a step is the same for every token budget and number of
processes (contract 1), and a resumed run needs no generator states (contract 3).
"""

from __future__ import annotations

import torch

from .packing import PackedBatch

_MIX = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: spreads neighbouring keys over all bits


def mix(*numbers: int) -> int:
    """One 63-bit key from several numbers."""
    key = 0
    for number in numbers:
        key = (key ^ (number & (2**64 - 1))) * _MIX % 2**64
        key ^= key >> 29
    return key >> 1


class KeyedDropout:
    """Dropout for one packed batch.

    Args:
        batch: gives the spans and the keys of its sequences.
        active: False leaves everything as it is (evaluation).
    """

    def __init__(self, batch: PackedBatch, *, active: bool) -> None:
        self.batch = batch
        self.active = active
        self._generator = torch.Generator(device=batch.ids.device)

    def tokens(self, states: torch.Tensor, rate: float, site: int) -> torch.Tensor:
        """Drop elements of states of shape (T, H), token by token of each sequence."""
        return self._apply(states, rate, site, self.batch.spans)

    def firsts(self, states: torch.Tensor, rate: float, site: int) -> torch.Tensor:
        """Drop elements of states of shape (S, H), one row a sequence."""
        return self._apply(states, rate, site, [(row, row + 1) for row in range(len(states))])

    def weights(self, weights: torch.Tensor, rate: float, site: int, sequence: int) -> torch.Tensor:
        """Drop attention weights of one sequence, any shape."""
        if not self.active or rate == 0.0:
            return weights
        mask = torch.empty_like(weights)
        self._fill(mask, rate, site, self.batch.keys[sequence])
        return weights * mask

    def _apply(
        self, states: torch.Tensor, rate: float, site: int, spans: list[tuple[int, int]]
    ) -> torch.Tensor:
        if not self.active or rate == 0.0:
            return states
        mask = torch.zeros_like(states, requires_grad=False)  # unused tokens stay 0
        for (start, stop), key in zip(spans, self.batch.keys, strict=True):
            self._fill(mask[start:stop], rate, site, key)
        return states * mask

    def _fill(self, mask: torch.Tensor, rate: float, site: int, key: int) -> None:
        self._generator.manual_seed(mix(key, site))
        mask.bernoulli_(1.0 - rate, generator=self._generator).div_(1.0 - rate)
