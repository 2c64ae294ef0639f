"""Several collections at once: each counts the same, whatever its number of queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..measures import Floats
from ..results import Comparison, Estimate
from .compare import detectable, with_holm
from .resampling import bootstrap_means, finite, interval, paired_differences, sign_test

# One collection's values, in the order of its queries; one element a collection.
PerCollection = Sequence[npt.ArrayLike]


def macro_estimate(values: PerCollection, seed: int) -> Estimate:
    """Mean over collections of the mean over queries, with a stratified bootstrap interval.

    Queries are drawn anew within each collection: the collections are given, not a sample of others. Davison
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
    """Macro difference of every system to the baseline, on the same queries of the same collections.

    The interval is that of `macro_estimate`. The test is the paired randomisation test with the macro
    difference as its statistic: signs are flipped query by query, so within each collection. Wins, ties and
    losses are counted over all queries; p is also corrected after Holm over the systems.

    Args:
        values: name of the system to (Q_c,) values of each collection c.
        baseline: which of them is the baseline.
        measure: canonical name of the measure.
        seed: of the intervals and of the tests.

    Raises:
        ValueError: collections or queries differ, there is no value, or one is not finite.
    """
    return with_holm(
        [
            _compared(name, row, values[baseline], baseline=baseline, measure=measure, seed=seed)
            for name, row in values.items()
            if name != baseline
        ]
    )


def _compared(
    system: str, values: PerCollection, base: PerCollection, *, baseline: str, measure: str, seed: int
) -> Comparison:
    if len(values) != len(base):
        raise ValueError(f"the same collections are needed, given {len(values)} and {len(base)}")
    differences = _samples([paired_differences(a, b) for a, b in zip(values, base, strict=True)])
    low, high = _interval(differences, seed)
    pooled = np.concatenate(differences)
    weighted = np.concatenate([sample / (len(sample) * len(differences)) for sample in differences])
    alone = [detectable(sample) for sample in differences]
    return Comparison(
        system=system,
        baseline=baseline,
        measure=measure,
        difference=_mean(differences),
        low=low,
        high=high,
        p=sign_test(weighted, seed=seed),
        wins=int((pooled > 0).sum()),
        ties=int((pooled == 0).sum()),
        losses=int((pooled < 0).sum()),
        # The variance of a mean of independent means.
        detectable=None if None in alone else math.hypot(*(d for d in alone if d is not None)) / len(alone),
    )


def _samples(values: PerCollection) -> list[Floats]:
    if not len(values):
        raise ValueError("at least one collection is needed")
    return [finite(sample) for sample in values]


def _mean(samples: Sequence[Floats]) -> float:
    return float(np.mean([sample.mean() for sample in samples]))


def _interval(samples: Sequence[Floats], seed: int) -> tuple[float, float]:
    means = [bootstrap_means(sample, [seed, place]) for place, sample in enumerate(samples)]
    return interval(np.mean(means, axis=0))
