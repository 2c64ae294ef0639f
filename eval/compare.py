"""Is the difference real: intervals over queries and a paired test, from per-query values.

Queries are the sample. Neither method assumes anything about the distribution of a measure, which is bounded,
skewed and full of ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from typing import Literal

import numpy as np
import numpy.typing as npt

from .ranking import Floats
from .report import Comparison, Estimate, Report

LEVEL = 0.95
ALPHA = 0.05

# Cells drawn at once: bounds the memory at tens of MB whatever the number of queries.
_CELLS = 2**20
# Values that differ by less are the same value, summed in another order.
_SAME = 1e-12


def bootstrap_interval(
    values: npt.ArrayLike, *, seed: int, resamples: int = 10_000, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over queries.

    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; for retrieval measures Sakai
    2006, Evaluating evaluation metrics based on the bootstrap, SIGIR.

    Args:
        values: (Q,) one value, or one paired difference, a query.
        seed: the same seed gives the same interval.
        resamples: samples of Q queries with replacement.
        level: share of the resampled means inside the interval.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    sample = _finite(values)
    random = np.random.default_rng(seed)
    means = np.concatenate(
        [
            sample[random.integers(0, len(sample), size=(rows, len(sample)))].mean(axis=1)
            for rows in _blocks(resamples, len(sample))
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_test(a: npt.ArrayLike, b: npt.ArrayLike, *, seed: int, permutations: int = 10_000) -> float:
    """Two-sided p of the paired randomisation test, that the two systems are exchangeable on each query.

    The sign of each query's difference is flipped at random, and p = (1 + patterns at least as extreme as the
    observed one) / (1 + permutations), which is never 0. Smucker, Allan and Carterette 2007, A comparison of
    statistical significance tests for information retrieval evaluation, CIKM; Phipson and Smyth 2010,
    Permutation p-values should never be zero.

    Args:
        a: (Q,) values of one system.
        b: (Q,) values of the other, of the same queries in the same order.
        seed: the same seed gives the same p.
        permutations: random sign patterns.

    Raises:
        ValueError: the shapes differ, there is no value, or one is not finite.
    """
    differences = _differences(a, b)
    differences = differences[differences != 0]  # a sign has no effect on 0
    if not len(differences):
        return 1.0
    total = differences.sum()
    # Sums that are equal on paper differ by rounding and must count as equally extreme.
    extreme = abs(total) - _SAME * np.abs(differences).sum()
    random = np.random.default_rng(seed)
    count = 0
    for rows in _blocks(permutations, len(differences)):
        bits = random.integers(0, 256, size=(rows, -(-len(differences) // 8)), dtype=np.uint8)
        kept = np.unpackbits(bits, axis=1, count=len(differences)).astype(np.float64)  # 1 keeps, 0 flips
        count += int(np.count_nonzero(np.abs(2 * (kept @ differences) - total) >= extreme))
    return (1 + count) / (1 + permutations)


def estimate(values: npt.ArrayLike, seed: int) -> Estimate:
    """Mean over queries with its bootstrap interval.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    low, high = bootstrap_interval(values, seed=seed)
    return Estimate(float(np.mean(_finite(values))), low, high)


def compare(
    values: npt.ArrayLike,
    baseline_values: npt.ArrayLike,
    *,
    system: str,
    baseline: str,
    measure: str,
    seed: int,
) -> Comparison:
    """Paired difference of a system to the baseline, query by query.

    Args:
        values: (Q,) values of the system.
        baseline_values: (Q,) values of the baseline, of the same queries in the same order.
        system: name of the system.
        baseline: name of the baseline.
        measure: canonical name of the measure.
        seed: of the interval and of the test.

    Raises:
        ValueError: the shapes differ, there is no value, or one is not finite.
    """
    differences = _differences(values, baseline_values)
    low, high = bootstrap_interval(differences, seed=seed)
    return Comparison(
        system=system,
        baseline=baseline,
        measure=measure,
        difference=float(differences.mean()),
        low=low,
        high=high,
        p=paired_test(values, baseline_values, seed=seed),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
    )


def contradictions(report: Report) -> list[str]:
    """Where a report differs from what its own values per query and its seed give."""
    found = []
    for system in report.systems:
        for measure, mean in system.results.items():
            values = report.per_query.get(measure, {}).get(system.name)
            if not values or not _equal(estimate(list(values.values()), report.seed), mean):
                found.append(f"{system.name}, {measure}: mean or interval")
    for stated in report.comparisons:
        rows = report.per_query.get(stated.measure, {})
        values, base = rows.get(stated.system, {}), rows.get(stated.baseline, {})
        if not values or values.keys() != base.keys():
            found.append(f"{stated.system} against {stated.baseline}, {stated.measure}: no values to compare")
            continue
        again = compare(
            list(values.values()),
            [base[query] for query in values],
            system=stated.system,
            baseline=stated.baseline,
            measure=stated.measure,
            seed=report.seed,
        )
        if not _equal(again, stated):
            found.append(f"{stated.system} against {stated.baseline}, {stated.measure}: difference or p")
    return found


def _equal(one: Estimate | Comparison, other: Estimate | Comparison) -> bool:
    """Equal to rounding; other versions of numpy may sum in another order."""
    pairs = zip(astuple(one), astuple(other), strict=True)
    return all(a == b or (isinstance(a, float) and abs(a - b) < 1e-9) for a, b in pairs)


def outcome(comparison: Comparison) -> Literal["better", "worse", "undecided"]:
    """What the comparison decides: a difference counts only if its interval excludes 0 and p is below 0.05.

    Both are asked because they fail differently: the interval is too narrow for few queries, the test is
    blind to size. Where they disagree nothing is decided.
    """
    if comparison.p < ALPHA and comparison.low > 0:
        return "better"
    if comparison.p < ALPHA and comparison.high < 0:
        return "worse"
    return "undecided"


def verdict(comparison: Comparison, *, baseline_mean: float | None = None) -> str:
    """The outcome as a sentence with its figures; with the baseline's mean also both means.

    >>> c = Comparison("tuned", "base", "nDCG@10", 0.057, 0.031, 0.084, 0.0001, 70, 30, 20)
    >>> verdict(c)
    'tuned is better than base: nDCG@10 difference +0.057 [+0.031, +0.084], p = 0.0001, 120 queries'
    """
    words = {"better": "better than", "worse": "worse than", "undecided": "not distinguishable from"}
    means = ""
    if baseline_mean is not None:
        means = f"{baseline_mean + comparison.difference:.3f} against {baseline_mean:.3f}, "
    queries = comparison.wins + comparison.ties + comparison.losses
    return (
        f"{comparison.system} is {words[outcome(comparison)]} {comparison.baseline}: "
        f"{comparison.measure} {means}"
        f"difference {comparison.difference:+.3f} [{comparison.low:+.3f}, {comparison.high:+.3f}], "
        f"p = {comparison.p:.4f}, {queries} {'query' if queries == 1 else 'queries'}"
    )


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """Split `rows` into blocks of at most `_CELLS` cells."""
    step = max(1, _CELLS // columns)
    for start in range(0, rows, step):
        yield min(step, rows - start)


def _differences(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    first, second = _finite(a), _finite(b)
    if first.shape != second.shape:
        raise ValueError(f"paired values must be of the same queries, given {len(first)} and {len(second)}")
    differences = first - second
    return np.where(np.abs(differences) < _SAME, 0.0, differences)


def _finite(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"one finite value a query is needed, given shape {array.shape}")
    return array
