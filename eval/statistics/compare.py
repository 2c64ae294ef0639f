"""Compare every system with the baseline on the same queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..measures import Floats
from ..results import Comparison, Estimate, Report
from ..words import format_difference
from .resampling import (
    SAME,
    bootstrap_interval,
    bootstrap_intervals,
    finite,
    paired_differences,
    sign_test,
)

ALPHA = 0.05
# Standard normal quantiles of 1 - ALPHA / 2 and of the power 0.8.
_DETECTED = 1.959963984540054 + 0.8416212335729143


def estimate(values: npt.ArrayLike, seed: int) -> Estimate:
    """Return the mean over queries with its bootstrap interval.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    low, high = bootstrap_interval(values, seed=seed)
    return Estimate(float(np.mean(finite(values))), low, high)


def estimates(rows: npt.ArrayLike, seed: int) -> list[Estimate]:
    """Return `estimate` of each of C rows of the same queries, in a fraction of the time.

    Args:
        rows: (C, Q) values.
        seed: seed of the intervals.
    """
    values = np.asarray(rows, dtype=np.float64)
    intervals = bootstrap_intervals(values, seed=seed)
    return [Estimate(float(row.mean()), *ends) for row, ends in zip(values, intervals, strict=True)]


def compare_systems(
    values: npt.ArrayLike,
    baseline_values: npt.ArrayLike,
    *,
    system: str,
    baseline: str,
    measure: str,
    seed: int,
) -> Comparison:
    """Compare a system with the baseline, query by query.

    Args:
        values: (Q,) values of the system.
        baseline_values: (Q,) values of the baseline, of the same queries in the same order.
        system: name of the system.
        baseline: name of the baseline.
        measure: canonical name of the measure.
        seed: seed of the interval and the test.

    Raises:
        ValueError: the shapes differ, there is no value, or one is not finite.
    """
    differences = paired_differences(values, baseline_values)
    low, high = bootstrap_interval(differences, seed=seed)
    mean, p = float(differences.mean()), sign_test(differences, seed=seed)
    comparison = Comparison(system, baseline, measure, mean, low, high, p, *won_tied_lost(differences))
    return replace(comparison, detectable=detectable(differences))


def won_tied_lost(differences: Floats) -> tuple[int, int, int]:
    """Count the queries won, tied and lost."""
    return int((differences > 0).sum()), int((differences == 0).sum()), int((differences < 0).sum())


def compare_all(
    values: Mapping[str, npt.ArrayLike], *, baseline: str, measure: str, seed: int
) -> list[Comparison]:
    """Compare every other system with the baseline on one measure, p also after Holm's correction.

    Args:
        values: name of the system to (Q,) values of the same queries in the same order.
        baseline: name of the baseline among them.
        measure: canonical name of the measure.
        seed: seed of the intervals and the tests.

    Raises:
        ValueError: the shapes differ, there is no value, or one is not finite.
    """
    return with_holm(
        [
            compare_systems(row, values[baseline], system=name, baseline=baseline, measure=measure, seed=seed)
            for name, row in values.items()
            if name != baseline
        ]
    )


def with_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Fill in `p_holm` over all comparisons of one measure with one baseline."""
    adjusted = holm([comparison.p for comparison in comparisons])
    return [replace(one, p_holm=p) for one, p in zip(comparisons, adjusted, strict=True)]


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust the p of several tests: if no difference is real, one is below alpha with chance alpha at most.

    Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


def detectable(differences: npt.ArrayLike) -> float | None:
    """Return the smallest true mean difference that a two-sided test at 0.05 finds with probability 0.8.

        (z(0.975) + z(0.8)) * s / sqrt(Q),    s = standard deviation of the paired differences

    The normal approximation is a little too small below some 20 queries; None for one query. Cohen 1988,
    Statistical power analysis for the behavioral sciences, chapter 2; for retrieval Webber, Moffat and Zobel
    2008, Statistical power in retrieval experimentation, CIKM.

    Args:
        differences: (Q,) differences of system and baseline.
    """
    sample = finite(differences)
    if len(sample) < 2:
        return None
    return _DETECTED * float(sample.std(ddof=1)) / math.sqrt(len(sample))


@dataclass(frozen=True)
class Regression:
    """Result of the gate.

    Attributes:
        difference: mean of (system - baseline) over queries.
        p: two-sided paired randomisation test that the true difference is `min_delta`.
        failed: true if the difference falls short of `min_delta` and p is below alpha.
    """

    difference: float
    p: float
    failed: bool


def regression(
    values: npt.ArrayLike, baseline_values: npt.ArrayLike, *, min_delta: float, alpha: float, seed: int
) -> Regression:
    """Test whether a system falls short of its baseline by more than chance.

    Args:
        values: (Q,) values of the system.
        baseline_values: (Q,) values of the baseline, of the same queries in the same order.
        min_delta: least difference required; 0 for `not worse`, below 0 for a tolerance.
        alpha: a shortfall counts if p is below it; with 1 every shortfall counts.
        seed: seed of the test.

    Raises:
        ValueError: the shapes differ, there is no value, or one is not finite.
    """
    differences = paired_differences(values, baseline_values)
    shifted = differences - min_delta
    shifted[np.abs(shifted) < SAME] = 0.0
    p = sign_test(shifted, seed=seed)
    short = float(shifted.mean()) < -SAME
    return Regression(float(differences.mean()), p, short and (alpha >= 1 or p < alpha))


def contradictions(report: Report) -> list[str]:
    """Name the figures of a report that its own values per query and its seed contradict."""
    problems = []
    for system in report.systems:
        for measure, mean in system.results.items():
            values = report.per_query.get(measure, {}).get(system.name)
            if not values or not _equal(estimate(list(values.values()), report.seed), mean):
                problems.append(f"{system.name}, {measure}: mean or interval")
    families: dict[tuple[str, str], list[Comparison]] = {}
    for stated in report.comparisons:
        families.setdefault((stated.measure, stated.baseline), []).append(stated)
    for family in families.values():
        problems += _contradicted(report, family)
    return problems


def _contradicted(report: Report, family: Sequence[Comparison]) -> list[str]:
    """Name the comparisons of one measure with one baseline that differ when made again."""
    problems, again, same = [], [], []
    for stated in family:
        rows = report.per_query.get(stated.measure, {})
        values, base = rows.get(stated.system, {}), rows.get(stated.baseline, {})
        if not values or values.keys() != base.keys():
            problems.append(
                f"{stated.system} against {stated.baseline}, {stated.measure}: no values to compare"
            )
            continue
        paired = list(values.values()), [base[query] for query in values]
        names = {"system": stated.system, "baseline": stated.baseline, "measure": stated.measure}
        again.append(compare_systems(*paired, **names, seed=report.seed))
        same.append(stated)
    for made, stated in zip(with_holm(again), same, strict=True):
        if not _equal(made, stated):
            problems.append(f"{stated.system} against {stated.baseline}, {stated.measure}: difference or p")
    return problems


def _equal(made: Estimate | Comparison, stated: Estimate | Comparison) -> bool:
    """Compare to rounding, as other versions of numpy may sum in another order; old reports lack values."""
    pairs = zip(astuple(made), astuple(stated), strict=True)
    return all(b is None or a == b or (isinstance(a, float) and abs(a - b) < 1e-9) for a, b in pairs)


def outcome(comparison: Comparison) -> Literal["better", "worse", "undecided"]:
    """Decide a comparison: a difference counts only if its interval excludes 0 and p is below 0.05.

    Both must hold because they fail differently: the interval is too narrow for few queries, the test is
    blind to size. Among several systems p is Holm's, else the best of many would be better by chance.
    """
    p = comparison.p if comparison.p_holm is None else comparison.p_holm
    if p < ALPHA and comparison.low > 0:
        return "better"
    if p < ALPHA and comparison.high < 0:
        return "worse"
    return "undecided"


def verdict(comparison: Comparison, *, baseline_mean: float | None = None) -> str:
    """Return the outcome as a sentence with its figures, and both means if the baseline's is given.

    >>> c = Comparison("tuned", "base", "nDCG@10", 0.057, 0.031, 0.084, 0.0001, 70, 30, 20)
    >>> verdict(c)
    'tuned is better than base: nDCG@10 difference +0.057 [+0.031, +0.084], p = 0.0001, 120 queries'
    """
    words = {"better": "better than", "worse": "worse than", "undecided": "not distinguishable from"}
    text = f"{comparison.system} is {words[outcome(comparison)]} {comparison.baseline}: {comparison.measure} "
    if baseline_mean is not None:
        text += f"{baseline_mean + comparison.difference:.3f} against {baseline_mean:.3f}, "
    text += f"difference {format_difference(comparison)}, p = {comparison.p:.4f}"
    if comparison.p_holm is not None and comparison.p_holm != comparison.p:
        text += f" ({comparison.p_holm:.4f} after Holm)"
    queries = comparison.wins + comparison.ties + comparison.losses
    return f"{text}, {queries} {'query' if queries == 1 else 'queries'}"
