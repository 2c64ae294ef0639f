"""Packed batches: sequences laid end to end without padding, and plans of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...data.encoding import FlatPairs

# Token counts are rounded up to this: oneDNN builds a new bf16 kernel for every new number of rows, which
# costs as much as running it. The unused tokens at the end belong to no sequence.
GRAIN = 32
# Few pairs are scored in about PARTS batches of at least SMALLEST tokens.
PARTS, SMALLEST = 8, 512


def suitable_tokens(device: str, *, training: bool = False) -> int:
    """Return the default token budget of a batch: what stays in a core's cache, or what fills a GPU."""
    if device.startswith("cpu"):
        return 2048
    return 8192 if training else 16_384


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end, followed by fewer than `GRAIN` unused tokens.

    Attributes:
        ids: token ids, shape (T,), int64.
        types: token type ids, shape (T,), int64.
        positions: position of each token in its sequence from 0, shape (T,), int64.
        offsets: sequence s is tokens `offsets[s]:offsets[s + 1]`; S + 1 numbers.
        keys: dropout key of each sequence; S numbers.
        last: False if more batches of the same step follow. Until the last one's backward pass the gradient
            of the word table is incomplete, and ranks exchange no gradients.
    """

    ids: torch.Tensor
    types: torch.Tensor
    positions: torch.Tensor
    offsets: list[int]
    keys: list[int]
    last: bool = True

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
        """First and end token of each sequence."""
        return list(zip(self.offsets, self.offsets[1:], strict=False))


def pack(flat: FlatPairs, *, device: torch.device, keys: Sequence[int] | None = None) -> PackedBatch:
    """Make a batch on a device from pairs of `PairEncoder.encode_flat(…, multiple_of=GRAIN)`."""
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
    """Plan batches for scoring: indices of pairs, longest first, at most `budget` tokens each.

    Sorted, so that unpacked models pad little and neighbours of equal length share an attention kernel;
    longest first, so that too large a budget fails in the first batch and not in the last hour.

    Args:
        lengths: tokens of each pair, shape (N,).
        budget: tokens a batch; a longer pair is a batch by itself.
        padded: count every pair of a batch as long as the longest.

    Few pairs that are not padded are split into about `PARTS` batches, so that several streams have work. The
    plan ignores how many streams there are: batches, and so the last bit of a score, are the same everywhere.
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
    """Plan batches for training: indices of whole groups, in order, at most `budget` tokens a batch.

    A softmax needs the whole group, so a group is never split; one above the budget is a batch by itself.

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
    """Split a batch into batches of at most `budget` tokens, in order; a longer sequence is one by itself.

    Sequences keep their keys, and so their dropout. Only the last part can be the last batch of a step.
    """
    parts, first = [], 0
    for number in range(1, len(batch.keys)):
        if batch.offsets[number + 1] - batch.offsets[first] > budget:
            parts.append(_slice(batch, first, number, last=False))
            first = number
    return [*parts, _slice(batch, first, len(batch.keys), last=batch.last)]


def _slice(batch: PackedBatch, first: int, end: int, *, last: bool) -> PackedBatch:
    """Return sequences `first` to `end` of a batch, followed by unused tokens up to the grain."""
    start, stop = batch.offsets[first], batch.offsets[end]
    unused = -(stop - start) % GRAIN
    ids, types, positions = (
        torch.cat([flat[start:stop], flat.new_zeros(unused)])
        for flat in (batch.ids, batch.types, batch.positions)
    )
    offsets = [offset - start for offset in batch.offsets[first : end + 1]]
    return PackedBatch(ids, types, positions, offsets, batch.keys[first:end], last)


def share_out(sizes: Sequence[int], shares: int) -> list[list[int]]:
    """Share groups out, largest first, so that each share has about as many tokens.

    Deterministic, so every rank computes the same plan without communication.

    Args:
        sizes: tokens of each group.
        shares: number of shares.
    """
    loads = [0] * shares
    chosen: list[list[int]] = [[] for _ in range(shares)]
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        lightest = loads.index(min(loads))
        chosen[lightest].append(index)
        loads[lightest] += sizes[index]
    return [sorted(share) for share in chosen]
