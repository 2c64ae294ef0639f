"""Bootstrap intervals over queries and the paired randomisation test.

Queries are the sample. Neither method makes assumptions about the distribution of a measure, which is
bounded, skewed and full of ties.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..measures import Floats

LEVEL = 0.95

# Cells drawn at once: bounds the memory at tens of MB whatever the number of queries.
_CELLS = 2**20
PERMUTATIONS = 10_000
# Values that differ by less are the same value, summed in another order.
SAME = 1e-12


def bootstrap_interval(
    values: npt.ArrayLike, *, seed: int, resamples: int = 10_000, level: float = LEVEL
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over queries.

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
    return interval(bootstrap_means(values, seed, resamples), level)


def bootstrap_means(values: npt.ArrayLike, seed: int | Sequence[int], resamples: int = 10_000) -> Floats:
    """Return (resamples,) means of samples with replacement, each of the given size."""
    sample = finite(values)
    random = np.random.default_rng(seed)
    return np.concatenate(
        [
            sample[random.integers(0, len(sample), size=(rows, len(sample)))].mean(axis=1)
            for rows in _blocks(resamples, len(sample))
        ]
    )


def bootstrap_intervals(
    rows: npt.ArrayLike, *, seed: int, resamples: int = 10_000
) -> list[tuple[float, float]]:
    """Return `bootstrap_interval` of each of C rows of the same queries, to rounding, from one set of draws.

    Counts of draws times values is a matrix product, so many rows cost hardly more than one.

    Args:
        rows: (C, Q) values.
        seed: the same seed gives the same intervals.
        resamples: samples of Q queries with replacement.
    """
    values = np.asarray(rows, dtype=np.float64)
    queries = values.shape[1]
    random, means = np.random.default_rng(seed), []
    for count in _blocks(resamples, queries):
        draws = random.integers(0, queries, size=(count, queries)) + queries * np.arange(count)[:, None]
        counts = np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape)
        means.append(counts.astype(np.float64) @ values.T / queries)
    return [interval(column) for column in np.concatenate(means).T]


def interval(means: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of resampled means."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_test(a: npt.ArrayLike, b: npt.ArrayLike, *, seed: int, permutations: int = 10_000) -> float:
    """Return the two-sided p of the paired randomisation test: both systems are exchangeable on each query.

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
    return sign_test(paired_differences(a, b), seed=seed, permutations=permutations)


def sign_test(differences: Floats, *, seed: int, permutations: int = PERMUTATIONS) -> float:
    """Run `paired_test` on differences, which may be weighted: the statistic is their sum."""
    differences = differences[differences != 0]  # a sign has no effect on 0
    if not len(differences):
        return 1.0
    total = differences.sum()
    # Sums that are equal on paper differ by rounding and must count as equally extreme.
    extreme = abs(total) - SAME * np.abs(differences).sum()
    random = np.random.default_rng(seed)
    count = 0
    for rows in _blocks(permutations, len(differences)):
        bits = random.integers(0, 256, size=(rows, -(-len(differences) // 8)), dtype=np.uint8)
        kept = np.unpackbits(bits, axis=1, count=len(differences)).astype(np.float64)  # 1 keeps, 0 flips
        count += int(np.count_nonzero(np.abs(2 * (kept @ differences) - total) >= extreme))
    return (1 + count) / (1 + permutations)


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """Split `rows` into blocks of at most `_CELLS` cells."""
    step = max(1, _CELLS // columns)
    for start in range(0, rows, step):
        yield min(step, rows - start)


def paired_differences(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Return (Q,) differences; a difference by rounding alone is 0.

    Raises:
        ValueError: the shapes differ, there is no value, or one is not finite.
    """
    first, second = finite(a), finite(b)
    if first.shape != second.shape:
        raise ValueError(f"paired values must be of the same queries, given {len(first)} and {len(second)}")
    differences = first - second
    return np.where(np.abs(differences) < SAME, 0.0, differences)


def finite(values: npt.ArrayLike) -> Floats:
    """Return the values as an array.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"one finite value a query is needed, given shape {array.shape}")
    return array
