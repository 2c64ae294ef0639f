"""Which groups and passages a step sees: pure functions of (seed, epoch, position).

Nothing here has a state, so the order does not depend on workers, processes or history,
and resuming needs one integer: the position (contract 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .groups import Group


@dataclass(frozen=True, slots=True)
class Draw:
    """A group as one step sees it.

    Attributes:
        index: which of the training groups.
        position: how many groups were drawn before it since the start of training.
        query: text of the query.
        positives: the positives drawn.
        negatives: the negatives drawn.
    """

    index: int
    position: int
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


@lru_cache(maxsize=2)  # two, as a step may lie in two epochs: shuffling a million takes longer than drawing
def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Order of the groups in an epoch, shape (count,)."""
    order = _generator(seed, 1, epoch).permutation(count)
    order.flags.writeable = False  # every caller gets the same one
    return order


def draw_step(
    groups: Sequence[Group], *, start: int, count: int, group_size: int, positives: int, seed: int
) -> list[Draw]:
    """The groups at positions `start` to `start + count`; they may lie in two epochs.

    Args:
        groups: all training groups.
        start: position of the first one since the start of training.
        count: groups to draw.
        group_size: passages a group at most.
        positives: positives among them at most.
        seed: the run's seed.
    """
    draws = []
    for position in range(start, start + count):
        epoch, offset = divmod(position, len(groups))
        index = int(epoch_order(len(groups), seed=seed, epoch=epoch)[offset])
        group = groups[index]
        chosen = _window(group.positives, positives, seed=seed, stream=2, index=index, epoch=epoch)
        rest = _window(
            group.negatives, group_size - len(chosen), seed=seed, stream=3, index=index, epoch=epoch
        )
        draws.append(Draw(index, position, group.query, chosen, rest))
    return draws


def _window(
    texts: tuple[str, ...], size: int, *, seed: int, stream: int, index: int, epoch: int
) -> tuple[str, ...]:
    """`size` of the texts without repetition, all of them seen equally often over the epochs.

    Epoch e takes the e-th window of one shuffled ring: independent draws would leave some
    negatives unseen for many epochs.
    """
    if size >= len(texts):
        return texts
    ring = _generator(seed, stream, index).permutation(len(texts))
    return tuple(texts[ring[(epoch * size + k) % len(texts)]] for k in range(size))


def _generator(seed: int, stream: int, number: int) -> np.random.Generator:
    # The type is given because numpy makes floats, and so equal streams, of seeds from 2**63.
    key = np.array([seed % 2**64, stream * 2**56 + number], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
