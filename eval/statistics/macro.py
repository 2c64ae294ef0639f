"""Averages over several collections, each of the same weight whatever its number of queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..measures import Floats
from ..results import Comparison, Estimate
from .compare import detectable, with_holm, won_tied_lost
from .resampling import bootstrap_means, finite, interval, paired_differences, sign_test

# One element a collection: its values in the order of its queries.
PerCollection = Sequence[npt.ArrayLike]


def macro_estimate(values: PerCollection, seed: int) -> Estimate:
    """Average the means of the collections, with a stratified bootstrap interval.

    Queries are resampled within each collection: the collections are given, not a sample of others. Davison
    and Hinkley 1997, Bootstrap methods and their application, chapter 3.2.

    Args:
        values: (Q_c,) values of each collection c.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: there is no collection, no value, or one is not finite.
    """
    samples = _samples(values)
    low, high = _interval(samples, seed)
    return Estimate(_mean(samples), low, high)


def macro_compare(
    values: Mapping[str, PerCollection], *, baseline: str, measure: str, seed: int
) -> list[Comparison]:
    """Compare the average of every other system with that of the baseline, on the same queries.

    The interval is that of `macro_estimate`. The test is the paired randomisation test with the macro
    difference as its statistic: signs are flipped query by query, so within each collection. Wins, ties and
    losses are counted over all queries; p is also corrected after Holm over the systems.

    Args:
        values: name of the system to (Q_c,) values of each collection c.
        baseline: name of the baseline among them.
        measure: canonical name of the measure.
        seed: seed of the intervals and the tests.

    Raises:
        ValueError: collections or queries differ, there is no value, or one is not finite.
    """
    return with_holm(
        [
            _compared((name, baseline, measure), row, values[baseline], seed=seed)
            for name, row in values.items()
            if name != baseline
        ]
    )


def _compared(
    names: tuple[str, str, str], values: PerCollection, base: PerCollection, *, seed: int
) -> Comparison:
    """Compare one system; `names` are those of system, baseline and measure."""
    if len(values) != len(base):
        raise ValueError(f"the same collections are needed, given {len(values)} and {len(base)}")
    differences = _samples([paired_differences(a, b) for a, b in zip(values, base, strict=True)])
    low, high = _interval(differences, seed)
    pooled = np.concatenate(differences)
    weighted = np.concatenate([sample / (len(sample) * len(differences)) for sample in differences])
    p, mean = sign_test(weighted, seed=seed), _mean(differences)
    comparison = Comparison(*names, mean, low, high, p, *won_tied_lost(pooled))
    alone = [d for sample in differences if (d := detectable(sample)) is not None]
    if len(alone) < len(differences):
        return comparison
    # The variance of a mean of independent means.
    return replace(comparison, detectable=math.hypot(*alone) / len(alone))


def _samples(values: PerCollection) -> list[Floats]:
    if not len(values):
        raise ValueError("at least one collection is needed")
    return [finite(sample) for sample in values]


def _mean(samples: Sequence[Floats]) -> float:
    return float(np.mean([sample.mean() for sample in samples]))


def _interval(samples: Sequence[Floats], seed: int) -> tuple[float, float]:
    means = [bootstrap_means(sample, [seed, place]) for place, sample in enumerate(samples)]
    return interval(np.mean(means, axis=0))
