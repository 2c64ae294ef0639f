"""Intervals and tests against scipy on the same data, exact enumeration, and a simulated null."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from uprank.eval.results import Comparison, Report, System
from uprank.eval.statistics.compare import (
    compare_all,
    compare_systems,
    contradictions,
    detectable,
    estimate,
    holm,
    outcome,
    regression,
    verdict,
)
from uprank.eval.statistics.resampling import bootstrap_interval, paired_test


def skewed(seed, queries):
    """Values like those of MRR: bounded, skewed and full of ties."""
    random = np.random.default_rng(seed)
    return random.choice([0.0, 0.1, 0.2, 1 / 3, 0.5, 1.0], size=queries, p=[0.3, 0.1, 0.1, 0.1, 0.1, 0.3])


@pytest.mark.parametrize("queries", [12, 80, 300])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_interval_equals_scipy_percentile_bootstrap(queries, level):
    stats = pytest.importorskip("scipy.stats")
    values = skewed(queries, queries)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(7),
    ).confidence_interval
    spread = theirs.high - theirs.low
    got = bootstrap_interval(values, seed=1, resamples=20_000, level=level)
    assert got == pytest.approx((theirs.low, theirs.high), abs=0.03 * spread)


@pytest.mark.parametrize(("queries", "shift"), [(9, 0.2), (40, 0.1), (200, 0.03), (200, 0.0)])
def test_p_equals_scipy_permutation_test(queries, shift):
    stats = pytest.importorskip("scipy.stats")
    a, b = skewed(1, queries) + shift, skewed(2, queries)
    theirs = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=10_000, alternative="two-sided", rng=np.random.default_rng(7),
    ).pvalue  # fmt: skip
    p = paired_test(a, b, seed=1)
    assert p == pytest.approx(theirs, abs=5 * np.sqrt(p * (1 - p) / 10_000) * np.sqrt(2) + 2e-4)


def test_p_equals_exact_enumeration_where_sums_tie():
    # In tenths, many sign patterns give exactly the observed sum: each of them must count.
    differences = np.array([0.1, 0.2, 0.3, -0.1, 0.3, 0.2, 0.1, 0.4])
    tenths = np.rint(differences * 10).astype(int)
    sums = [abs(np.dot(signs, tenths)) for signs in itertools.product([-1, 1], repeat=8)]
    exact = np.mean([s >= abs(tenths.sum()) for s in sums])
    p = paired_test(0.3 + differences, np.full(8, 0.3), seed=0, permutations=40_000)
    assert p == pytest.approx(exact, abs=5 * np.sqrt(exact / 40_000))


def test_p_is_never_zero_and_is_one_without_a_difference():
    ones, zeros = np.ones(500), np.zeros(500)
    assert paired_test(ones, zeros, seed=0) == 1 / 10_001
    assert paired_test(zeros, zeros, seed=0) == 1.0
    assert paired_test([0.3], [0.1 + 0.2], seed=0) == 1.0
    assert paired_test([1.0], [0.0], seed=0) == 1.0


def test_seed_decides_and_systems_can_be_exchanged():
    a, b = skewed(3, 60), skewed(4, 60)
    assert bootstrap_interval(a, seed=5) == bootstrap_interval(a, seed=5) != bootstrap_interval(a, seed=6)
    assert paired_test(a, b, seed=5) == paired_test(b, a, seed=5)
    assert paired_test(a, b, seed=5) != paired_test(a, b, seed=6)


def test_more_queries_than_a_block_holds():
    # 2^20 cells are drawn at once: 300,000 queries make blocks of 3 resamples, of which the last is cut.
    values = np.tile([0.0, 1.0], 150_000)
    low, high = bootstrap_interval(values, seed=0, resamples=40)
    assert 0.497 < low < 0.5 < high < 0.503
    assert paired_test(values, values[::-1], seed=0, permutations=40) > 0.05


def test_false_positives_under_the_null_are_as_many_as_claimed():
    # Two systems that differ by chance alone: p < 0.05 and intervals without 0, about 5 times in 100.
    random = np.random.default_rng(11)
    trials, rejected, excluded = 400, 0, 0
    for trial in range(trials):
        a, b = (random.choice([0.0, 0.2, 0.5, 1.0], size=50) for _ in range(2))
        rejected += paired_test(a, b, seed=trial, permutations=999) < 0.05
        low, high = bootstrap_interval(a - b, seed=trial, resamples=999)
        excluded += not low <= 0 <= high
    assert 0.02 < rejected / trials < 0.085
    assert 0.02 < excluded / trials < 0.10


def test_a_real_difference_is_found():
    random = np.random.default_rng(0)
    base = random.random(200) * 0.5
    tuned = base + random.normal(0.1, 0.1, 200)
    comparison = compare_systems(tuned, base, system="tuned", baseline="base", measure="nDCG@10", seed=0)
    assert comparison.difference == pytest.approx(np.mean(tuned - base))
    half = 1.96 * np.std(tuned - base) / np.sqrt(200)  # of the normal interval
    assert comparison.low == pytest.approx(comparison.difference - half, abs=half / 10)
    assert comparison.high == pytest.approx(comparison.difference + half, abs=half / 10)
    assert outcome(comparison) == "better"
    back = compare_systems(base, tuned, system="base", baseline="tuned", measure="nDCG@10", seed=0)
    assert outcome(back) == "worse"
    assert (back.wins, back.losses) == (comparison.losses, comparison.wins)


def test_wins_ties_and_losses_are_counted_without_rounding_noise():
    values, baseline = [1.0, 0.1 + 0.2, 0.5, 0.0], [0.5, 0.3, 0.5, 1.0]
    comparison = compare_systems(values, baseline, system="a", baseline="b", measure="MRR", seed=0)
    assert (comparison.wins, comparison.ties, comparison.losses) == (1, 2, 1)


def test_estimate_holds_mean_and_interval():
    values = skewed(0, 100)
    got = estimate(values, 3)
    assert got.mean == pytest.approx(values.mean())
    assert (got.low, got.high) == bootstrap_interval(values, seed=3)
    assert got.low < got.mean < got.high


COMPARISON = Comparison("tuned", "base", "nDCG@10", 0.057, 0.031, 0.084, 0.0001, 70, 30, 20)


def test_verdict_in_words_and_figures():
    assert verdict(COMPARISON, baseline_mean=0.655) == (
        "tuned is better than base: nDCG@10 0.712 against 0.655, difference +0.057 [+0.031, +0.084], "
        "p = 0.0001, 120 queries"
    )
    worse = replace(COMPARISON, difference=-0.057, low=-0.084, high=-0.031, wins=0, ties=0, losses=1)
    assert verdict(worse) == (
        "tuned is worse than base: nDCG@10 difference -0.057 [-0.084, -0.031], p = 0.0001, 1 query"
    )


@pytest.mark.parametrize(
    ("low", "high", "p"),
    [(0.01, 0.1, 0.05), (0.01, 0.1, 0.2), (0.0, 0.1, 0.001), (-0.1, 0.1, 0.01), (-0.1, 0.0, 0.01)],
)
def test_nothing_is_decided_unless_interval_and_test_agree(low, high, p):
    comparison = replace(COMPARISON, low=low, high=high, p=p)
    assert outcome(comparison) == "undecided"
    assert "tuned is not distinguishable from base" in verdict(comparison)


def test_among_several_systems_p_is_that_of_holm():
    found = replace(COMPARISON, p=0.03, p_holm=0.06)
    assert outcome(replace(COMPARISON, p=0.03, p_holm=0.04)) == "better"
    assert outcome(found) == "undecided"
    assert verdict(found).endswith("p = 0.0300 (0.0600 after Holm), 120 queries")
    assert verdict(replace(COMPARISON, p_holm=COMPARISON.p)) == verdict(COMPARISON)


@pytest.mark.parametrize("values", [[], [np.nan, 1.0], [np.inf], [[1.0, 2.0]], 1.0])
def test_what_are_not_values_of_queries_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        estimate(values, 0)
    with pytest.raises(ValueError, match="finite"):
        paired_test(values, values, seed=0)


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="same queries"):
        paired_test([1.0, 2.0], [1.0], seed=0)


def test_holm_by_hand():
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_holm_keeps_the_chance_of_any_false_finding():
    # Five systems without a difference: some p of the five is below 0.05 in 23 % of trials, Holm's in 5 %.
    ps = np.random.default_rng(0).random((2000, 5))
    assert (ps.min(axis=1) < 0.05).mean() > 0.2
    assert 0.035 < np.mean([min(holm(row.tolist())) < 0.05 for row in ps]) < 0.065


def test_every_system_is_compared_with_the_baseline():
    values = {"base": skewed(1, 60), "a": skewed(2, 60), "b": skewed(3, 60)}
    compared = compare_all(values, baseline="base", measure="MRR@10", seed=4)
    assert [c.system for c in compared] == ["a", "b"]
    alone = [
        compare_systems(values[n], values["base"], system=n, baseline="base", measure="MRR@10", seed=4)
        for n in "ab"
    ]
    assert [replace(c, p_holm=None) for c in compared] == alone
    assert [c.p_holm for c in compared] == holm([c.p for c in alone])


def test_a_detectable_difference_is_found_in_four_of_five_trials():
    random, queries, spread = np.random.default_rng(3), 60, 0.25
    effect = detectable(np.tile([-spread, spread], queries // 2))
    samples = random.normal(effect, spread, size=(400, queries))
    found = np.mean([paired_test(row, np.zeros(queries), seed=0, permutations=999) < 0.05 for row in samples])
    assert found == pytest.approx(0.8, abs=0.06)
    assert detectable([0.0, 0.0]) == 0.0
    assert detectable([0.3]) is None


@pytest.mark.parametrize(
    ("difference", "min_delta", "alpha", "failed"),
    [
        (-0.1, 0.0, 0.05, True),
        (0.1, 0.0, 0.05, False),
        (0.0, 0.0, 1.0, False),
        (0.1, 0.1, 1.0, False),
        (0.1, 0.2, 0.05, True),
        (-0.001, 0.0, 0.05, False),
        (-0.001, 0.0, 1.0, True),
        (-0.1, -0.2, 0.05, False),
    ],
)
def test_a_regression_is_a_shortfall_beyond_chance(difference, min_delta, alpha, failed):
    noise = np.tile([-0.05, 0.05], 50)
    base = skewed(0, 100)
    gate = regression(base + difference + noise, base, min_delta=min_delta, alpha=alpha, seed=0)
    assert gate.difference == pytest.approx(difference)
    assert gate.failed is failed
    assert gate.p == pytest.approx(paired_test(difference - min_delta + noise, np.zeros(100), seed=0))


def test_with_alpha_one_every_shortfall_counts():
    gate = regression([0.4], [0.5], min_delta=0.0, alpha=1.0, seed=0)
    assert (gate.p, gate.failed) == (1.0, True)
    assert not regression([0.4], [0.5], min_delta=0.0, alpha=0.99, seed=0).failed
    assert not regression([0.1 + 0.2], [0.3], min_delta=0.0, alpha=1.0, seed=0).failed


def reported(values, comparisons):
    """A report of these systems, as `contradictions` reads it."""
    ids = [f"q{i}" for i in range(len(next(iter(values.values()))))]
    return Report(
        created="", version="", command="", data="", fingerprint="", queries=len(ids), missing_queries=[],
        unanswerable_queries=[], candidates="", depth=1, recall=1.0, measures=["MRR"], baseline="base",
        systems=[System(n, "model", "", "", {"MRR": estimate(v, 5)}) for n, v in values.items()],
        comparisons=comparisons, seed=5,
        per_query={"MRR": {name: dict(zip(ids, row.tolist(), strict=True)) for name, row in values.items()}},
    )  # fmt: skip


def test_contradictions_are_found_in_the_new_fields_and_old_reports_pass():
    values = {name: skewed(seed, 50) for seed, name in enumerate(("base", "a", "b"))}
    compared = compare_all(values, baseline="base", measure="MRR", seed=5)
    assert contradictions(reported(values, compared)) == []
    assert (
        contradictions(reported(values, [replace(c, p_holm=None, detectable=None) for c in compared])) == []
    )
    for change in ({"p_holm": compared[0].p_holm / 2}, {"detectable": 0.001}, {"p": 0.001}, {"low": 0.5}):
        wrong = contradictions(reported(values, [replace(compared[0], **change), compared[1]]))
        assert wrong == ["a against base, MRR: difference or p"]
    assert (
        "no values to compare" in contradictions(reported(values, [replace(compared[0], baseline="none")]))[0]
    )


def test_intervals_cover_the_true_mean_as_often_as_claimed():
    truth = np.dot([0.0, 0.1, 0.2, 1 / 3, 0.5, 1.0], [0.3, 0.1, 0.1, 0.1, 0.1, 0.3])
    covered = 0
    for trial in range(400):
        low, high = bootstrap_interval(skewed(100 + trial, 80), seed=trial, resamples=999)
        covered += low <= truth <= high
    assert 0.915 < covered / 400 < 0.98
