"""Several collections: against scipy on each, by hand, and on a simulated null."""

import numpy as np
import pytest
from uprank.eval.statistics.compare import compare_systems, detectable, estimate
from uprank.eval.statistics.macro import macro_compare, macro_estimate


def collections(seed, shift=0.0, sizes=(30, 200)):
    random = np.random.default_rng(seed)
    base = [random.choice([0.0, 0.2, 0.5, 1.0], size=size) for size in sizes]
    return {"base": base, "tuned": [b + shift + random.normal(scale=0.2, size=len(b)) for b in base]}


def test_every_collection_counts_the_same():
    values = [[0.0, 1.0, 1.0, 1.0], [0.25]]
    assert macro_estimate(values, 0).mean == 0.5
    compared = macro_compare({"a": values, "b": [[0.0] * 4, [0.5]]}, baseline="b", measure="MRR", seed=0)
    assert compared[0].difference == pytest.approx((0.75 - 0.25) / 2)
    assert (compared[0].wins, compared[0].ties, compared[0].losses) == (3, 1, 1)


def test_interval_is_that_of_a_mean_of_independent_means():
    stats = pytest.importorskip("scipy.stats")
    values = collections(1)
    drawn = stats.bootstrap(  # scipy resamples each sample on its own, which is the stratified bootstrap
        values["tuned"],
        lambda a, b, axis: (a.mean(axis=axis) + b.mean(axis=axis)) / 2,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(7),
    ).confidence_interval
    got = macro_estimate(values["tuned"], 3)
    assert (got.low, got.high) == pytest.approx((drawn.low, drawn.high), abs=0.03 * (drawn.high - drawn.low))
    assert macro_estimate(values["tuned"], 3) == got != macro_estimate(values["tuned"], 4)


def test_collections_are_drawn_independently():
    values = collections(6)["tuned"][1]
    one, four = macro_estimate([values], 0), macro_estimate([values] * 4, 0)
    assert four.high - four.low == pytest.approx((one.high - one.low) / 2, rel=0.05)


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_p_equals_scipy_permutation_test(shift):
    stats = pytest.importorskip("scipy.stats")
    values = collections(5, shift)
    weights = np.concatenate([np.full(len(b), 1 / (2 * len(b))) for b in values["base"]])
    a, b = (np.concatenate(values[name]) for name in ("tuned", "base"))
    theirs = stats.permutation_test(
        (a * weights, b * weights), lambda x, y, axis: np.sum(x - y, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=10_000, rng=np.random.default_rng(7),
    ).pvalue  # fmt: skip
    p = macro_compare(values, baseline="base", measure="MRR", seed=1)[0].p
    assert p == pytest.approx(theirs, abs=5 * np.sqrt(2 * p * (1 - p) / 10_000) + 2e-4)


def test_one_collection_alone_is_the_usual_comparison_but_for_the_draws():
    values = {name: [rows[1]] for name, rows in collections(2, 0.05).items()}
    macro = macro_compare(values, baseline="base", measure="MRR", seed=0)[0]
    usual = compare_systems(
        values["tuned"][0], values["base"][0], system="t", baseline="b", measure="MRR", seed=0
    )
    assert macro.difference == pytest.approx(usual.difference)
    assert (macro.low, macro.high) == pytest.approx((usual.low, usual.high), abs=2e-3)
    assert macro.p == pytest.approx(usual.p, abs=2e-3)
    assert macro.detectable == pytest.approx(usual.detectable)
    assert macro_estimate(values["base"], 0).mean == estimate(values["base"][0], 0).mean


def test_holm_and_detectable_difference():
    values = collections(3, 0.02) | {"third": collections(4)["tuned"]}
    compared = macro_compare(values, baseline="base", measure="MRR", seed=0)
    assert [c.system for c in compared] == ["tuned", "third"]
    assert sorted(c.p_holm for c in compared)[0] == min(1, 2 * min(c.p for c in compared))
    parts = [detectable(np.subtract(a, b)) for a, b in zip(values["tuned"], values["base"], strict=True)]
    assert compared[0].detectable == pytest.approx(np.sqrt(parts[0] ** 2 + parts[1] ** 2) / 2)


def test_false_positives_and_coverage_under_the_null():
    trials, rejected, covered = 200, 0, 0
    for trial in range(trials):
        values = collections(1000 + trial, sizes=(40, 15))
        found = macro_compare(values, baseline="base", measure="MRR", seed=trial)[0]
        rejected += found.p < 0.05
        covered += found.low <= 0 <= found.high
    assert 0.01 < rejected / trials < 0.10
    assert 0.88 < covered / trials < 0.99


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="at least one collection"):
        macro_estimate([], 0)
    for wrong in ([[1.0]], [[1.0], [1.0, 2.0]]):
        with pytest.raises(ValueError, match="same"):
            macro_compare({"a": [[1.0], [1.0]], "b": wrong}, baseline="b", measure="MRR", seed=0)
