"""What a run will take, counted before it begins: tokens, padding, cuts, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.encoding import PairEncoder
from ...data.sampling import Draw


@dataclass(frozen=True)
class StepSize:
    """What one optimiser step has to learn from, on all processes.

    Attributes:
        number: of the step, from 0.
        groups: queries.
        pairs: of query and passage.
        tokens: of all pairs, after cutting.
        padded: tokens if batches of the same budget were padded to their longest pair.
        longest_group: tokens of the largest group.
        cut_pairs: pairs that lose tokens.
        cut_queries: queries that lose tokens in one of their pairs at least.
    """

    number: int
    groups: int
    pairs: int
    tokens: int
    padded: int
    longest_group: int
    cut_pairs: int
    cut_queries: int


def size_step(number: int, draws: Sequence[Draw], encoder: PairEncoder, budget: int) -> StepSize:
    """Count what was drawn for a step."""
    nothing = int(encoder.full_lengths([("", "")])[0])  # special tokens
    lengths, cut_pairs, cut_queries = [], 0, 0
    for draw in draws:
        pairs = [(draw.query, passage) for passage in (*draw.positives, *draw.negatives)]
        full = encoder.full_lengths(pairs)
        query = int(encoder.full_lengths([(draw.query, "")])[0]) - nothing
        longest = int(full.max()) - nothing - query  # passage
        lengths.append(encoder.lengths(pairs))
        cut_pairs += int((full > encoder.max_tokens).sum())
        cut_queries += query > max(encoder.query_tokens, encoder.room - longest)  # contract 4
    sizes = [int(group.sum()) for group in lengths]
    return StepSize(
        number,
        len(draws),
        sum(map(len, lengths)),
        sum(sizes),
        padded_tokens(lengths, budget),
        max(sizes),
        cut_pairs,
        cut_queries,
    )


def padded_tokens(groups: Sequence[np.ndarray], budget: int) -> int:
    """Tokens of whole groups in batches that are padded to their longest pair, at most `budget` each.

    Args:
        groups: tokens of each pair, a group at a time.
        budget: tokens a batch, padding included; a group that is larger is a batch of its own.

    >>> padded_tokens([np.array([4, 2]), np.array([3, 3]), np.array([10])], 16)
    26
    """
    total = filled = longest = 0
    for lengths in groups:
        widest = max(longest, int(lengths.max()))
        if (filled + len(lengths)) * widest > budget:
            total += filled * longest
            filled, widest = 0, int(lengths.max())
        filled, longest = filled + len(lengths), widest
    return total + filled * longest


@dataclass(frozen=True)
class Bytes:
    """Where memory goes in one process, in bytes.

    Attributes:
        before: in use before the model was loaded: Python, libraries, data; on a GPU nothing.
        weights: of the model.
        gradients: of what is trained.
        states: of the optimiser.
        average: averaged weights, where they are kept.
        rest: activations, copies and what the allocator holds: the measured peak less all that.
    """

    before: int
    weights: int
    gradients: int
    states: int
    average: int
    rest: int

    @property
    def peak(self) -> int:
        """All of it."""
        return self.before + self.weights + self.gradients + self.states + self.average + self.rest


def tensor_bytes(tensors: Any) -> int:
    """Bytes of distinct tensors: tied weights count once."""
    distinct = {tensor.data_ptr(): tensor for tensor in tensors if tensor.numel()}
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())


def disk_bytes(model: int, states: int, average: int, *, keep: int) -> int:
    """The most that a run has on disk: best and last model, checkpoints, and one of each being written."""
    return 2 * model + (keep + 1) * (model + states + average)
