"""Lengths of a data set's texts in tokens, and the share of pairs that the budget cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..encoding import PairEncoder
from ..groups import Group
from ..prompts import Prompts

SAMPLE = 5_000  # groups measured at most, evenly spread: tokenising millions takes longer than all else
CHUNK = 256  # groups at a time


@dataclass(frozen=True)
class Lengths:
    """Numbers of tokens: median, 95 % and maximum.

    Attributes:
        query: queries, without special tokens.
        passage: passages, without special tokens.
        pair: whole pairs.
        truncated: share of pairs above the budget.
        max_tokens: the budget of a pair.
        groups: groups measured.
    """

    query: tuple[int, int, int]
    passage: tuple[int, int, int]
    pair: tuple[int, int, int]
    truncated: float
    max_tokens: int
    groups: int


def measure_lengths(
    groups: Sequence[Group], encoder: PairEncoder, prompts: Prompts | None = None
) -> Lengths | None:
    """Measure at most `SAMPLE` groups, with a model's prompts; None if there are no groups."""
    prompts = prompts or Prompts()
    if not len(groups):
        return None
    step = -(-len(groups) // SAMPLE)
    places = range(0, len(groups), step)
    sizes: list[list[np.ndarray]] = [[], [], []]
    for start in range(0, len(places), CHUNK):
        chunk = [prompts.group(groups[place]).prompted for place in places[start : start + CHUNK]]
        pairs = [(group.query, text) for group in chunk for text in group.texts[1:]]
        sizes[0].append(_sizes(encoder, [group.query for group in chunk]))
        sizes[1].append(_sizes(encoder, [text for _, text in pairs]))
        sizes[2].append(encoder.full_lengths(pairs))
        encoder.forget()
    query, passage, pair = map(np.concatenate, sizes)
    truncated = float((pair > encoder.max_tokens).mean())
    return Lengths(_three(query), _three(passage), _three(pair), truncated, encoder.max_tokens, len(places))


def _sizes(encoder: PairEncoder, texts: list[str]) -> np.ndarray:
    """Count the tokens of each text alone: a pair with an empty query, less the special tokens."""
    nothing = encoder.full_lengths([("", "")])[0]
    return encoder.full_lengths([("", text) for text in texts]) - nothing


def _three(sizes: np.ndarray) -> tuple[int, int, int]:
    # Lengths of real texts, not between two.
    low, high, most = np.percentile(sizes, (50, 95, 100), method="inverted_cdf")
    return int(low), int(high), int(most)
