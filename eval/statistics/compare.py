"""Is the difference real: every system beside the baseline, on the same queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..results import Comparison, Estimate, Report
from .resampling import (
    SAME,
    bootstrap_interval,
    bootstrap_intervals,
    finite,
    paired_differences,
    paired_test,
    sign_test,
)

ALPHA = 0.05
# Standard normal quantiles of 1 - ALPHA / 2 and of the power 0.8.
_DETECTED = 1.959963984540054 + 0.8416212335729143


def estimate(values: npt.ArrayLike, seed: int) -> Estimate:
    """Mean over queries with its bootstrap interval.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    low, high = bootstrap_interval(values, seed=seed)
    return Estimate(float(np.mean(finite(values))), low, high)


def estimates(rows: npt.ArrayLike, seed: int) -> list[Estimate]:
    """`estimate` of each of C rows of the same queries, in a fraction of the time.

    Args:
        rows: (C, Q) values.
        seed: of the intervals.
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
    differences = paired_differences(values, baseline_values)
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
        detectable=detectable(differences),
    )


def compare_all(
    values: Mapping[str, npt.ArrayLike], *, baseline: str, measure: str, seed: int
) -> list[Comparison]:
    """Every system but the baseline beside it on one measure, p also after Holm's correction over them.

    Args:
        values: name of the system to (Q,) values of the same queries in the same order.
        baseline: which of them is the baseline.
        measure: canonical name of the measure.
        seed: of the intervals and of the tests.

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
    """The comparisons of one measure with one baseline, `p_holm` filled in over all of them."""
    adjusted = holm([comparison.p for comparison in comparisons])
    return [replace(one, p_holm=p) for one, p in zip(comparisons, adjusted, strict=True)]


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p of several tests: below alpha with a chance of at most alpha if no difference is real.

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
    """Smallest true mean difference that a two-sided test at 0.05 finds with a probability of 0.8.

        (z(0.975) + z(0.8)) * s / sqrt(Q),    s = standard deviation of the paired differences

    By the normal approximation, so a little too small below some 20 queries; None for one query. Cohen 1988,
    Statistical power analysis for the behavioral sciences, chapter 2; for retrieval Webber, Moffat and Zobel
    2008, Statistical power in retrieval experimentation, CIKM.

    Args:
        differences: (Q,) of system and baseline.
    """
    sample = finite(differences)
    if len(sample) < 2:
        return None
    return _DETECTED * float(sample.std(ddof=1)) / math.sqrt(len(sample))


@dataclass(frozen=True)
class Regression:
    """What the gate found.

    Attributes:
        difference: mean of (system - baseline) over queries.
        p: two-sided paired randomisation test that the true difference is `min_delta`.
        failed: the difference falls short of `min_delta`, and p is below alpha.
    """

    difference: float
    p: float
    failed: bool


def regression(
    values: npt.ArrayLike, baseline_values: npt.ArrayLike, *, min_delta: float, alpha: float, seed: int
) -> Regression:
    """Whether a system falls short of its baseline by more than chance.

    Args:
        values: (Q,) values of the system.
        baseline_values: (Q,) values of the baseline, of the same queries in the same order.
        min_delta: least difference asked for; 0 for `not worse`, below 0 for a tolerance.
        alpha: a shortfall counts when p is below it; with 1 every shortfall counts.
        seed: of the test.

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
    """Where a report differs from what its own values per query and its seed give."""
    found = []
    for system in report.systems:
        for measure, mean in system.results.items():
            values = report.per_query.get(measure, {}).get(system.name)
            if not values or not _equal(estimate(list(values.values()), report.seed), mean):
                found.append(f"{system.name}, {measure}: mean or interval")
    families: dict[tuple[str, str], list[Comparison]] = {}
    for stated in report.comparisons:
        families.setdefault((stated.measure, stated.baseline), []).append(stated)
    for family in families.values():
        found += _contradicted(report, family)
    return found


def _contradicted(report: Report, family: Sequence[Comparison]) -> list[str]:
    """Which comparisons of one measure with one baseline differ from those made again."""
    found, again, same = [], [], []
    for stated in family:
        rows = report.per_query.get(stated.measure, {})
        values, base = rows.get(stated.system, {}), rows.get(stated.baseline, {})
        if not values or values.keys() != base.keys():
            found.append(f"{stated.system} against {stated.baseline}, {stated.measure}: no values to compare")
            continue
        paired = list(values.values()), [base[query] for query in values]
        names = {"system": stated.system, "baseline": stated.baseline, "measure": stated.measure}
        again.append(compare_systems(*paired, **names, seed=report.seed))
        same.append(stated)
    for made, stated in zip(with_holm(again), same, strict=True):
        if not _equal(made, stated):
            found.append(f"{stated.system} against {stated.baseline}, {stated.measure}: difference or p")
    return found


def _equal(made: Estimate | Comparison, stated: Estimate | Comparison) -> bool:
    """Equal to rounding (other versions of numpy may sum in another order); old reports lack some values."""
    pairs = zip(astuple(made), astuple(stated), strict=True)
    return all(b is None or a == b or (isinstance(a, float) and abs(a - b) < 1e-9) for a, b in pairs)


def outcome(comparison: Comparison) -> Literal["better", "worse", "undecided"]:
    """What the comparison decides: a difference counts only if its interval excludes 0 and p is below 0.05.

    Both are asked because they fail differently: the interval is too narrow for few queries, the test is
    blind to size. Where they disagree nothing is decided. Among several systems p is Holm's, else the best
    of many would be found better by chance.
    """
    p = comparison.p if comparison.p_holm is None else comparison.p_holm
    if p < ALPHA and comparison.low > 0:
        return "better"
    if p < ALPHA and comparison.high < 0:
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
    p = f"p = {comparison.p:.4f}"
    if comparison.p_holm is not None and comparison.p_holm != comparison.p:
        p += f" ({comparison.p_holm:.4f} after Holm)"
    queries = comparison.wins + comparison.ties + comparison.losses
    return (
        f"{comparison.system} is {words[outcome(comparison)]} {comparison.baseline}: "
        f"{comparison.measure} {means}"
        f"difference {comparison.difference:+.3f} [{comparison.low:+.3f}, {comparison.high:+.3f}], "
        f"{p}, {queries} {'query' if queries == 1 else 'queries'}"
    )
