"""Packed batches: sequences laid end to end without padding, and the plan of what goes together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data.pairs import EncodedPair

# Token counts are rounded up to this: oneDNN builds a new bf16 kernel for every new number of
# rows, which costs as much as running it. The few tokens at the end belong to no sequence.
GRAIN = 64


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


def pack(
    pairs: Sequence[EncodedPair], *, device: torch.device, keys: Sequence[int] | None = None
) -> PackedBatch:
    """Lay encoded pairs end to end on a device."""
    lengths = [len(pair.ids) for pair in pairs]
    offsets = [0, *np.cumsum(lengths).tolist()]
    unused = np.zeros(-offsets[-1] % GRAIN, dtype=np.int64)

    def lay(parts: Iterable[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([*parts, unused]).astype(np.int64)).to(device)

    return PackedBatch(
        lay(pair.ids for pair in pairs),
        lay(pair.types for pair in pairs),
        lay(np.arange(length) for length in lengths),
        offsets,
        list(keys) if keys is not None else [0] * len(pairs),
    )


def plan_by_length(lengths: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Batches for scoring: indices of pairs, longest first, at most `budget` tokens if padded.

    Sorted, so that models that cannot be packed pad little; the longest come first, so that
    too large a budget fails in the first batch and not in the last hour.

    Args:
        lengths: tokens of each pair, shape (N,).
        budget: tokens a batch; one pair that is longer makes a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, budget // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


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
