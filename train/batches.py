"""One optimiser step's groups as packed batches for this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data.pairs import PairEncoder
from ..data.sampling import Draw
from ..model.dropout import mix
from ..model.packing import GRAIN, PackedBatch, pack, plan_groups, share_out


@dataclass(frozen=True)
class TrainBatch:
    """Whole groups in one forward pass.

    Attributes:
        packed: N sequences, group after group.
        positive: which sequences are positives, shape (N,), bool.
        offsets: group g is sequences `offsets[g]:offsets[g + 1]`.
        counts: False for a batch that only keeps this process in step with the others.
        rows: index of each group among the training groups.
    """

    packed: PackedBatch
    positive: torch.Tensor
    offsets: list[int]
    counts: bool
    rows: list[int]


def step_batches(
    draws: Sequence[Draw],
    encoder: PairEncoder,
    *,
    seed: int,
    budget: int,
    process: int,
    processes: int,
    device: torch.device,
) -> list[TrainBatch]:
    """The batches of one process; together the processes hold every group once.

    Args:
        draws: the groups of the step, the same list on every process.
        encoder: makes token ids.
        seed: of the dropout.
        budget: tokens a batch.
        process: number of this process.
        processes: how many there are.
        device: where the batches go.
    """
    sizes = [int(encoder.lengths(_pairs(draw)).sum()) for draw in draws]
    own = share_out(sizes, processes)[process]
    # A process without a group still takes part in the reduction of gradients, with weight 0.
    counts, chosen = bool(own), own or [0]
    plan = plan_groups([sizes[index] for index in chosen], budget)
    return [
        _batch([draws[chosen[place]] for place in places], encoder, seed=seed, device=device, counts=counts)
        for places in plan
    ]


def _batch(
    draws: Sequence[Draw], encoder: PairEncoder, *, seed: int, device: torch.device, counts: bool
) -> TrainBatch:
    pairs: list[tuple[str, str]] = []
    keys, positive, offsets = [], [], [0]
    for draw in draws:
        for number, pair in enumerate(_pairs(draw)):
            pairs.append(pair)
            keys.append(mix(seed, draw.position, number))
            positive.append(number < len(draw.positives))
        offsets.append(len(pairs))
    return TrainBatch(
        pack(encoder.encode_flat(pairs, multiple_of=GRAIN), device=device, keys=keys),
        torch.tensor(positive, device=device),
        offsets,
        counts,
        [draw.index for draw in draws],
    )


def _pairs(draw: Draw) -> list[tuple[str, str]]:
    return [(draw.query, passage) for passage in (*draw.positives, *draw.negatives)]
