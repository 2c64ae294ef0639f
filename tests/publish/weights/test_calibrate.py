"""Scale and shift against scikit-learn and against numbers drawn from a known law."""

import numpy as np
import pytest
from uprank.eval.audits.calibration import sigmoid
from uprank.eval.measures.ranking import rank
from uprank.publish.weights import calibrate as module
from uprank.publish.weights.calibrate import Cases, calibrate, find_thresholds, fit_calibration

LAW = 0.5, -1.0  # probability of relevance = sigmoid(0.5 * score - 1)


def drawn(queries=200, depth=20, law=LAW, seed=0):
    """Scores and judgments in which relevance follows the law."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 4, (queries, depth))
    relevant = generator.random(scores.shape) < sigmoid(law[0] * scores + law[1])
    qrels = {f"q{q}": {f"d{d}": int(relevant[q, d]) for d in range(depth)} for q in range(queries)}
    run = {f"q{q}": {f"d{d}": float(scores[q, d]) for d in range(depth)} for q in range(queries)}
    return rank(qrels, run)


def cases_of(scores, relevant) -> Cases:
    scores = np.asarray(scores, dtype=np.float64)
    return Cases(np.zeros(len(scores), dtype=np.int64), scores, np.asarray(relevant, dtype=bool))


@pytest.mark.parametrize("shift", [True, False])
def test_fit_is_the_logistic_regression_of_scikit_learn(shift):
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(1)
    scores = generator.normal(3, 2, 300)
    relevant = generator.random(300) < sigmoid(0.8 * scores - 4)
    count = int(relevant.sum())
    high, low = (count + 1) / (count + 2), 1 / (300 - count + 2)  # Platt's targets, as weights of both labels
    targets = np.where(relevant, high, low)
    model = linear_model.LogisticRegression(C=1e12, fit_intercept=shift, tol=1e-12, max_iter=10_000)
    model.fit(np.tile(scores, 2)[:, None], [1] * 300 + [0] * 300, np.concatenate([targets, 1 - targets]))
    expected = float(model.coef_[0, 0]), float(model.intercept_[0]) if shift else 0.0
    np.testing.assert_allclose(fit_calibration(cases_of(scores, relevant), shift=shift), expected, rtol=1e-4)


def test_separable_scores_have_a_finite_scale():
    scale, shift = fit_calibration(cases_of([-2, -1, 1, 2], [False, False, True, True]), shift=True)
    assert 0 < scale < 5
    assert abs(shift) < 1e-6


def test_the_law_is_found_and_holds_for_other_queries():
    found = calibrate(drawn(), seed=0)
    assert found.form == "scale and shift"
    assert found.scale == pytest.approx(LAW[0], rel=0.1)
    assert found.shift == pytest.approx(LAW[1], abs=0.15)
    assert (found.queries, found.pairs, found.over) == (200, 4000, "judged")
    assert found.error_held_out < 0.03 < 0.1 < found.error_before
    assert found.loss_held_out < found.loss_before
    fresh = drawn(seed=9)
    chances = sigmoid(found.scale * fresh.scores.astype(float) + found.shift)
    assert abs(chances.mean() - (fresh.levels > 0).mean()) < 0.03


def test_halves_share_no_query_and_each_is_measured_by_the_other(monkeypatch):
    seen = []
    honest = module.fit_calibration

    def spy(cases, *, shift):
        seen.append(set(cases.rows.tolist()))
        return honest(cases, shift=shift)

    monkeypatch.setattr(module, "fit_calibration", spy)
    calibrate(drawn(queries=40), seed=0)
    whole, first, second = seen
    assert first | second == whole == set(range(40))
    assert not first & second


def test_what_was_fitted_on_one_half_is_applied_to_the_other(monkeypatch):
    ranking = drawn(queries=40)
    cases = module.find_cases(ranking, "judged")
    monkeypatch.setattr(
        module, "fit_calibration", lambda given, *, shift: (1.0, 5.0 if 0 in given.rows else 7.0)
    )
    scores, _ = module._held_out(ranking, cases, shift=True, seed=0)
    moved = (scores - cases.scores).round(9)
    assert set(moved[cases.rows == 0]) == {7.0}  # by the half without query 0
    assert set(moved) == {5.0, 7.0}


@pytest.mark.parametrize(
    ("ranking", "words"),
    [
        (rank({"q": {"a": 1, "b": 0}}, {"q": {"a": 2.0, "b": 1.0}}), "too few dev judgments: 1 relevant"),
        (drawn(law=(-0.5, 0.0)), "do not score higher"),
        (drawn(law=(1.0, 0.0), queries=10), "does not lower the log loss"),
        (
            rank(
                {f"q{i}": {"a": 1, "b": 0} for i in range(30)},
                {f"q{i}": {"a": 1.0, "b": 1.0} for i in range(30)},
            ),
            "same score",
        ),
    ],
)
def test_what_is_left_alone(ranking, words):
    found = calibrate(ranking, seed=0)
    assert words in found.reason
    assert (found.form, found.scale, found.shift) == ("none", 1.0, 0.0)
    assert found.error_after == found.error_before


def test_few_judgments_give_a_temperature_alone():
    generator = np.random.default_rng(2)
    qrels = {f"q{q}": {f"d{d}": int(d == 0) for d in range(4)} for q in range(15)}
    run = {
        q: {d: float(generator.normal(9 if judged else -9, 12)) for d, judged in row.items()}
        for q, row in qrels.items()
    }
    found = calibrate(rank(qrels, run), seed=0)
    assert (found.form, found.shift) == ("scale", 0.0)
    assert 0 < found.scale < 1


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_a_scale_that_says_less_than_the_share_of_relevant_ones_is_left_out(shift):
    """Without a shift all probabilities of high scores are above a half, and few candidates are relevant."""
    generator = np.random.default_rng(3)
    qrels = {f"q{q}": {f"d{d}": int(d == 0) for d in range(4)} for q in range(15)}
    run = {
        q: {d: shift + float(generator.normal(2 if judged else -2, 1)) for d, judged in row.items()}
        for q, row in qrels.items()
    }
    found = calibrate(rank(qrels, run), seed=0)
    share = 0.25
    constant = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert (found.loss_held_out < constant) == (found.form == "scale") == (shift == 0)
    assert found.loss_held_out < found.loss_before
    if shift:
        assert "15 relevant among 60 candidates allow a scale alone" in found.reason
        assert f"said of every candidate, {constant:.3f}" in found.reason
        assert (found.scale, found.error_after) == (1.0, found.error_before)


def test_switched_off_it_still_measures():
    found = calibrate(drawn(), seed=0, wanted=False)
    assert "calibrate=false" in found.reason
    assert found.scale == 1.0
    assert found.error_before > 0.1
    assert found.thresholds


def test_thresholds_by_hand():
    rows = find_thresholds(np.array([-3.0, -1.0, 0.0, 3.0]), np.array([False, True, False, True]))
    by_probability = {round(row.probability, 3): row for row in rows}
    half = by_probability[0.5]  # keeps 0 and 3: a score at the cut-off is kept
    assert (half.score, half.kept, half.relevant) == (0.0, 2, 1)
    assert (half.precision, half.recall, half.f1) == (0.5, 0.5, 0.5)
    (best,) = (row for row in rows if row.best)
    assert (best.kept, best.relevant, best.f1) == (3, 2, pytest.approx(0.8))
    assert -3.0 < best.score < -1.0
    assert len(rows) == 10
    assert find_thresholds(np.array([1.0]), np.array([False])) == []
