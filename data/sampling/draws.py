"""Draw the groups and passages of a step: pure functions of (seed, epoch, position).

There is no state, so the order does not depend on workers, ranks or history, and resuming needs one
integer: the position (contract 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..groups import Group


@dataclass(frozen=True, slots=True)
class Visit:
    """A group's turn.

    Attributes:
        group: the group.
        index: number of the group among all training groups, whatever their order: below 2**56.
        position: number of turns before this one since the start of training.
        number: number of turns this group had before.
    """

    group: Group
    index: int
    position: int
    number: int


@dataclass(frozen=True, slots=True)
class Draw:
    """A group as one step sees it.

    Attributes:
        index: number of the group among all training groups.
        position: number of groups drawn before it since the start of training.
        query: text of the query; all texts begin with their prompts.
        positives: the positives drawn.
        negatives: the negatives drawn.
        grades: relevance of each positive drawn, above 0.
        scores: teacher's score of each positive and then each negative drawn; empty without a teacher.
        where: `file:line` of the group, for messages.
    """

    index: int
    position: int
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    grades: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    where: str = ""


@lru_cache(maxsize=2)  # a step may lie in two epochs, and shuffling a million takes longer than drawing
def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the groups in an epoch, shape (count,)."""
    order = _generator(seed, 1, epoch).permutation(count)
    order.flags.writeable = False  # all callers share it
    return order


def draw_step(
    groups: Sequence[Group], *, start: int, count: int, group_size: int, positives: int, seed: int
) -> list[Draw]:
    """Draw the groups at positions `start` to `start + count` of one data set; they may lie in two epochs.

    Args:
        groups: all training groups.
        start: position of the first draw since the start of training.
        count: groups to draw.
        group_size: maximum number of passages a group.
        positives: maximum number of positives among them.
        seed: the run's seed.
    """
    visits = []
    for position in range(start, start + count):
        epoch, offset = divmod(position, len(groups))
        index = int(epoch_order(len(groups), seed=seed, epoch=epoch)[offset])
        visits.append(Visit(groups[index], index, position, epoch))
    return draw_visits(visits, group_size=group_size, positives=positives, seed=seed)


def draw_visits(visits: Iterable[Visit], *, group_size: int, positives: int, seed: int) -> list[Draw]:
    """Draw positives and negatives for each visit. At every visit, a group moves on to its next passages."""
    draws = []
    for visit in visits:
        group, index = visit.group.prompted, visit.index
        count = len(group.positives)
        chosen = _window(count, positives, seed=seed, stream=2, index=index, number=visit.number)
        left = group_size - len(chosen)
        rest = _window(len(group.negatives), left, seed=seed, stream=3, index=index, number=visit.number)
        scored = [*chosen, *(count + place for place in rest)] if group.scores else []
        draws.append(
            Draw(
                index,
                visit.position,
                group.query,
                tuple(group.positives[place] for place in chosen),
                tuple(group.negatives[place] for place in rest),
                tuple(group.grades[place] if group.grades else 1 for place in chosen),
                tuple(group.scores[place] for place in scored),
                group.where,
            )
        )
    return draws


def ring(count: int, *, seed: int, number: int) -> np.ndarray:
    """Return the order of turns of source `number` if an epoch does not hold all of its groups."""
    return _generator(seed, 4, number).permutation(count)


def block_order(count: int, *, seed: int, number: int, turn: int) -> np.ndarray:
    """Return the order of a stream's block: source `number` (below 2**16), whose first turn is `turn`."""
    return _generator(seed, 5, number * 2**40 + turn).permutation(count)


def _window(count: int, size: int, *, seed: int, stream: int, index: int, number: int) -> Sequence[int]:
    """Return `size` of `count` indices without repetition, all equally often over a group's turns.

    Turn n takes the n-th window of one shuffled ring: independent draws would leave some negatives unseen
    for many epochs.
    """
    if size >= count:
        return range(count)
    shuffled = _generator(seed, stream, index).permutation(count)
    return [int(shuffled[(number * size + k) % count]) for k in range(size)]


def _generator(seed: int, stream: int, number: int) -> np.random.Generator:
    # Without the type, numpy turns seeds from 2**63 into floats, and so into equal streams.
    key = np.array([seed % 2**64, stream * 2**56 + number], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
