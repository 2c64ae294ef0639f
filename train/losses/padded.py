"""Building blocks of the losses: groups of different sizes as one padded array.

Values (N,), group after group, become (G, n) with n the largest size; pairs are (G, n, n). Padding is 0, also
for scores, so that no gradient through it is infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence


def pad(values: Tensor, offsets: Sequence[int], fill: float = 0.0) -> Tensor:
    """Pad (N,) to (G, n).

    >>> pad(torch.tensor([1.0, 2.0, 3.0]), [0, 1, 3])
    tensor([[1., 0.],
            [2., 3.]])
    """
    sizes = [stop - start for start, stop in pairwise(offsets)]
    return pad_sequence(list(values.split(sizes)), batch_first=True, padding_value=fill)


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return means (G,) over the values that the mask selects, both (G, …); 0 if there are none."""
    over = tuple(range(1, values.dim()))
    return torch.where(mask, values, 0).sum(over) / mask.sum(over).clamp(min=1)


def minus(values: Tensor) -> Tensor:
    """Return differences (G, n, n), value i minus value j, of values (G, n)."""
    return values[:, :, None] - values[:, None, :]


def log_softmax(scores: Tensor, offsets: Sequence[int]) -> Tensor:
    """Return the logarithm of each group's softmax, (G, n); 0 on padding."""
    real = pad(torch.ones_like(scores), offsets) > 0
    values = pad(scores, offsets, -float("inf")).log_softmax(1)
    return values.masked_fill(~real, 0)


def better(grades: Tensor) -> Tensor:
    """Return a mask (G, n, n), True if i has a higher grade than j, from grades (G, n), -1 on padding."""
    return (minus(grades) > 0) & (grades >= 0)[:, None, :]


def gains(grades: Tensor, k: int | None, gain: str) -> Tensor:
    """Return gains (G, n) over the group's ideal DCG@k, from grades (G, n), -1 on padding."""
    known = grades.clamp(min=0)
    if gain == "exponential":
        top = known.amax(1, keepdim=True)
        known = torch.exp2(known - top) - torch.exp2(-top)  # over 2^top, which would overflow
    places = torch.arange(known.shape[1], dtype=known.dtype, device=known.device)[:k]
    ideal = known.sort(dim=1, descending=True).values[:, :k] / torch.log2(2 + places)
    return known / ideal.sum(1, keepdim=True).clamp(min=torch.finfo(known.dtype).tiny)


def ranks(scores: Tensor, grades: Tensor) -> Tensor:
    """Return ranks (G, n) from 1 by falling score, then rising grade; ties in both share the mean rank."""
    tied, real = minus(scores) == 0, (grades >= 0)[:, None, :]
    before = real & ((minus(scores) < 0) | (tied & (minus(grades) > 0)))
    same = real & tied & (minus(grades) == 0)
    return before.sum(2).to(scores) + (same.sum(2).to(scores) + 1) / 2


def choices(scores: Tensor, grades: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log probability that i is chosen from itself and lower grades, and a mask of i with such.

    Both (G, n), from scores (G, n) and grades (G, n), -1 on padding.
    """
    lower = better(grades)
    counted = lower.any(2)
    # Only rows with lower grades: a logsumexp over nothing has no gradient.
    gaps = (-minus(scores))[counted].masked_fill(~lower[counted], -float("inf"))  # (rows, n)
    terms = functional.softplus(gaps.logsumexp(1))
    return torch.zeros_like(scores).masked_scatter(counted, terms), counted
