"""Label noise: a negative that a model ranks over a positive of its query may be relevant itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from ...configs.schema_data import CheckCommand
from ...data.checks import CheckedSource
from ...data.groups import Group
from ...data.problems import Findings

PASSAGES = 16  # scored of a group at most: some have hundreds of negatives


def find_noise(
    sources: Sequence[CheckedSource], settings: CheckCommand, findings: Findings
) -> tuple[int, int] | None:
    """Score a seeded sample of groups and add suspects to the findings, the largest difference first.

    Returns:
        The number of groups scored, and of those with a suspect; None if the model has no trained head.
    """
    groups = sample(sources, settings.noise_queries, settings.seed)
    if not groups:
        return 0, 0
    suspects = []
    scores = _score(groups, settings)
    if scores is None:
        return None
    ends = list(accumulate(len(group.texts) - 1 for group in groups))
    for group, end in zip(groups, ends, strict=True):
        start = end - len(group.texts) + 1
        positives, negatives = np.split(scores[start:end], [len(group.positives)])
        lowest = int(positives.argmin())
        for place in np.flatnonzero(negatives > positives[lowest]).tolist():
            words = f"negative {group.negatives[place]!r:.60} scores {negatives[place]:.2f}, "
            words += f"positive {group.positives[lowest]!r:.60} {positives[lowest]:.2f}"
            suspects.append((float(positives[lowest] - negatives[place]), group.where, words))
    for _, where, words in sorted(suspects):
        findings.add("label noise", f"{where}: {words}")
    return len(groups), len({where for _, where, _ in suspects})


def sample(sources: Sequence[CheckedSource], count: int, seed: int) -> list[Group]:
    """Draw groups that have negatives, cut to `PASSAGES`."""
    ends = list(accumulate((len(source.groups) for source in sources), initial=0))
    # A few more than asked for, as some have no negatives.
    places = np.random.default_rng(seed).choice(ends[-1], min(ends[-1], 2 * count), replace=False)
    drawn: list[Group] = []
    for place in places.tolist():
        number = int(np.searchsorted(ends, place, side="right")) - 1
        group = sources[number].groups[place - ends[number]]
        if group.negatives and len(drawn) < count:
            positives = group.positives[: PASSAGES // 2]
            negatives = group.negatives[: PASSAGES - len(positives)]
            drawn.append(replace(group, positives=positives, negatives=negatives, grades=(), scores=()))
    return drawn


def _score(groups: Sequence[Group], settings: CheckCommand) -> np.ndarray | None:
    import torch

    from ...model.backends import load_model

    if settings.threads:
        torch.set_num_threads(settings.threads)
    reranker = load_model(settings.model, threads=settings.threads, seed=settings.seed)
    if reranker.new_head:
        return None  # it has not learned to rank
    prompted = [reranker.prompts.group(group).prompted for group in groups]
    return reranker.as_read.score((group.query, text) for group in prompted for text in group.texts[1:])
