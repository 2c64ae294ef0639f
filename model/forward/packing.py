"""Packed batches: sequences laid end to end without padding, and the plan of what goes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...data.encoding import FlatPairs

# Token counts are rounded up to this: oneDNN builds a new bf16 kernel for every new number of
# rows, which costs as much as running it. The few tokens at the end belong to no sequence.
GRAIN = 32
# Few pairs are scored in about so many batches of at least so many tokens.
PARTS, SMALLEST = 8, 512


def suitable_tokens(device: str, *, training: bool = False) -> int:
    """Tokens of a batch where the user does not say: what stays in a core's cache, or what fills a GPU."""
    if device.startswith("cpu"):
        return 2048
    return 8192 if training else 16_384


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end, with fewer than `GRAIN` unused tokens behind the last.

    Attributes:
        ids: token ids, shape (T,), int64.
        types: token type ids, shape (T,), int64.
        positions: place of each token in its own sequence from 0, shape (T,), int64.
        offsets: sequence s is tokens `offsets[s]:offsets[s + 1]`; S + 1 numbers.
        keys: one number a sequence, from which its dropout is drawn; S numbers.
    """

    ids: torch.Tensor
    types: torch.Tensor
    positions: torch.Tensor
    offsets: list[int]
    keys: list[int]

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return self.offsets[-1]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [stop - start for start, stop in self.spans]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First token and end of each sequence."""
        return list(zip(self.offsets, self.offsets[1:], strict=False))


def pack(flat: FlatPairs, *, device: torch.device, keys: Sequence[int] | None = None) -> PackedBatch:
    """Pairs of `PairEncoder.encode_flat(…, multiple_of=GRAIN)` as a batch on a device."""
    offsets = flat.offsets.tolist()
    ids, types, positions = (torch.from_numpy(part) for part in (flat.ids, flat.types, flat.positions))
    return PackedBatch(
        ids.to(device),
        types.to(device),
        positions.to(device),
        offsets,
        list(keys) if keys is not None else [0] * (len(offsets) - 1),
    )


def plan_by_length(lengths: np.ndarray, budget: int, *, padded: bool = True) -> list[np.ndarray]:
    """Batches for scoring: indices of pairs, longest first, at most `budget` tokens each.

    Sorted, so that models that cannot be packed pad little, and neighbours of equal length share an
    attention kernel; the longest come first, so that too large a budget fails in the first batch
    and not in the last hour.

    Args:
        lengths: tokens of each pair, shape (N,).
        budget: tokens a batch; one pair that is longer makes a batch of its own.
        padded: whether every pair of a batch counts as long as the longest.

    Few pairs that are not padded are split into about `PARTS`, so that several streams have work. How many
    there are has no say: what stands in a batch, and with it the last bit of a score, is the same everywhere.
    """
    order = np.argsort(-lengths, kind="stable")
    total = int(lengths.sum())
    if not padded and total:
        budget = min(budget, max(SMALLEST, total // PARTS + int(lengths[order[0]]) // 2))
    ends = np.concatenate(([0], np.cumsum(lengths[order])))
    batches, start = [], 0
    while start < len(order):
        if padded:
            size = budget // int(lengths[order[start]])
        else:
            size = int(np.searchsorted(ends, ends[start] + budget, side="right")) - 1 - start
        batches.append(order[start : start + max(1, size)])
        start += max(1, size)
    return batches


def plan_groups(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Batches for training: indices of whole groups, in order, at most `budget` tokens together.

    A softmax needs the whole group, so a group is never split; one that is larger than the
    budget makes a batch of its own.

    Args:
        sizes: tokens of each group.
        budget: tokens a batch.
    """
    batches: list[list[int]] = []
    filled = budget
    for index, size in enumerate(sizes):
        if filled + size > budget:
            batches.append([])
            filled = 0
        batches[-1].append(index)
        filled += size
    return batches


def split_batch(batch: PackedBatch, budget: int) -> list[PackedBatch]:
    """A batch as several of at most `budget` tokens, in order; a longer sequence is one by itself.

    The sequences keep their keys, and so their dropout.
    """
    parts, first = [], 0
    for number in range(1, len(batch.keys)):
        if batch.offsets[number + 1] - batch.offsets[first] > budget:
            parts.append(_slice(batch, first, number))
            first = number
    return [*parts, _slice(batch, first, len(batch.keys))]


def _slice(batch: PackedBatch, first: int, end: int) -> PackedBatch:
    """Sequences `first` to `end` of a batch, with unused tokens behind them up to the grain."""
    start, stop = batch.offsets[first], batch.offsets[end]
    unused = -(stop - start) % GRAIN
    ids, types, positions = (
        torch.cat([flat[start:stop], flat.new_zeros(unused)])
        for flat in (batch.ids, batch.types, batch.positions)
    )
    offsets = [offset - start for offset in batch.offsets[first : end + 1]]
    return PackedBatch(ids, types, positions, offsets, batch.keys[first:end])


def share_out(sizes: Sequence[int], shares: int) -> list[list[int]]:
    """Split groups over processes so that each has about as many tokens: the largest go first.

    Deterministic, so every process computes the same plan without talking to the others.

    Args:
        sizes: tokens of each group.
        shares: number of processes.
    """
    loads = [0] * shares
    chosen: list[list[int]] = [[] for _ in range(shares)]
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        lightest = loads.index(min(loads))
        chosen[lightest].append(index)
        loads[lightest] += sizes[index]
    return [sorted(share) for share in chosen]
