"""One optimiser step's groups as packed batches for this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data.encoding import PairEncoder
from ..data.sampling import Draw
from ..model.forward import GRAIN, PackedBatch, mix_bits, pack, plan_groups, share_out, suitable_tokens

# Budgets whose memory is there on every machine. That of a CPU is what stays in a core's cache, a small part
# of its memory, and usual groups, 8 passages of 512 tokens, must not pay for what only large ones need.
FITTING = 4


def largest_group(device: str, tokens_per_batch: int | None) -> int:
    """Tokens of a group, at most, whose gradient is computed at once; a larger one is cut into parts.

    What the user set as `train.tokens_per_batch` is what fits; else 8,192 on a CPU and 32,768 elsewhere.
    """
    return tokens_per_batch or FITTING * suitable_tokens(device, training=True)


@dataclass(frozen=True)
class TrainBatch:
    """Whole groups in one forward pass.

    Attributes:
        packed: N sequences, group after group.
        labels: grade of each positive, 0 of a negative, shape (N,), float32.
        offsets: group g is sequences `offsets[g]:offsets[g + 1]`.
        counts: False for a batch that only keeps this process in step with the others.
        places: of the groups among those of the step.
        teacher: a teacher's scores, shape (N,), float32; None unless every group has them.
    """

    packed: PackedBatch
    labels: torch.Tensor
    offsets: list[int]
    counts: bool
    places: list[int]
    teacher: torch.Tensor | None = None


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
    counts, chosen = bool(own), own or [sizes.index(min(sizes))]
    plan = plan_groups([sizes[index] for index in chosen], budget)
    return [
        _batch(draws, [chosen[place] for place in places], encoder, seed=seed, device=device, counts=counts)
        for places in plan
    ]


def _batch(
    step: Sequence[Draw],
    places: list[int],
    encoder: PairEncoder,
    *,
    seed: int,
    device: torch.device,
    counts: bool,
) -> TrainBatch:
    draws = [step[place] for place in places]
    pairs: list[tuple[str, str]] = []
    labels: list[int] = []
    keys, offsets = [], [0]
    for draw in draws:
        for number, pair in enumerate(_pairs(draw)):
            pairs.append(pair)
            keys.append(mix_bits(seed, draw.position, number))
        labels += [*(draw.grades or [1] * len(draw.positives)), *(0 for _ in draw.negatives)]
        offsets.append(len(pairs))
    taught = all(draw.scores for draw in draws)
    scores = [score for draw in draws for score in draw.scores]
    teacher = torch.tensor(scores, dtype=torch.float32, device=device) if taught else None
    return TrainBatch(
        pack(encoder.encode_flat(pairs, multiple_of=GRAIN), device=device, keys=keys),
        torch.tensor(labels, dtype=torch.float32, device=device),
        offsets,
        counts,
        places,
        teacher,
    )


def _pairs(draw: Draw) -> list[tuple[str, str]]:
    return [(draw.query, passage) for passage in (*draw.positives, *draw.negatives)]
