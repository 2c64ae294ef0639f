"""One optimizer step's groups as packed batches for this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data.encoding import PairEncoder
from ..data.sampling import Draw
from ..model.forward import GRAIN, PackedBatch, mix_bits, pack, plan_groups, share_out, suitable_tokens

# This many budgets fit into memory on every machine. A CPU's budget is what stays in a core's cache, a small
# part of its memory, and usual groups, 8 passages of 512 tokens, must not pay for what only large ones need.
FITTING = 4


def largest_group(device: str, tokens_per_batch: int | None) -> int:
    """Return the most tokens of a group whose gradient is computed at once; larger ones are cut into parts.

    This is `train.tokens_per_batch` if set, else 8,192 on a CPU and 32,768 elsewhere.
    """
    return tokens_per_batch or FITTING * suitable_tokens(device, training=True)


@dataclass(frozen=True)
class TrainBatch:
    """Whole groups for one forward pass.

    Attributes:
        packed: N sequences, group after group.
        labels: grade of each positive, 0 for a negative, shape (N,), float32.
        offsets: group g is sequences `offsets[g]:offsets[g + 1]`.
        counts: False for a batch that only keeps this rank in step with the others.
        places: index of each group among the groups of the step.
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
    share: tuple[int, int],
    device: torch.device,
) -> list[TrainBatch]:
    """Make the batches of one rank; together the ranks have every group once.

    Args:
        draws: the groups of the step, the same list on every rank.
        encoder: makes token ids.
        seed: seed of the dropout.
        budget: tokens a batch.
        share: this rank and the number of ranks.
        device: device of the batches.
    """
    rank, ranks = share
    sizes = [int(encoder.lengths(_pairs(draw)).sum()) for draw in draws]
    chosen = share_out(sizes, ranks)[rank]
    # A rank without a group still takes part in the exchange of gradients, with weight 0.
    counts, chosen = bool(chosen), chosen or [sizes.index(min(sizes))]
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
