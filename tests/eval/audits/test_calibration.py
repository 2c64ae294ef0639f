import math
import random

import numpy as np
import pytest
from uprank.eval.audits.calibration import calibration_of, histogram
from uprank.eval.measures.ranking import rank


def make(chances, *, seed=0, unjudged=0.0):
    """One query whose document i has the logit of chances[i] and is relevant with `truth(chance)`."""
    generator = random.Random(seed)
    run = {"q": {f"d{i}": math.log(p / (1 - p)) for i, p in enumerate(chances)}}
    qrels = {"q": {f"d{i}": int(generator.random() < p) for i, p in enumerate(chances)}}
    qrels["q"] = {doc: grade for doc, grade in qrels["q"].items() if generator.random() >= unjudged}
    return qrels, run


def test_bins_and_error_are_those_of_the_definition():
    qrels, run = make([0.05, 0.07, 0.31, 0.39, 0.33, 0.95, 0.999])
    found = calibration_of(rank(qrels, run))
    error = 0.0
    for place in range(10):
        scores = {doc: 1 / (1 + math.exp(-s)) for doc, s in run["q"].items()}
        inside = [doc for doc, p in scores.items() if place / 10 <= p < (place + 1) / 10]
        assert found.counts[place] == len(inside)
        if inside:
            mean = sum(scores[doc] for doc in inside) / len(inside)
            share = sum(qrels["q"][doc] for doc in inside) / len(inside)
            assert found.scores[place] == pytest.approx(mean, abs=1e-6)
            assert found.relevant[place] == pytest.approx(share)
            error += abs(mean - share) * len(inside) / 7
    assert found.error == pytest.approx(error, abs=1e-6)
    assert found.over == "judged"


def test_scores_that_are_probabilities_have_no_error_and_shifted_ones_do():
    chances = np.random.default_rng(1).uniform(0.01, 0.99, 20_000).tolist()
    qrels, run = make(chances)
    assert calibration_of(rank(qrels, run)).error < 0.02
    shifted = {"q": {doc: score + 3 for doc, score in run["q"].items()}}
    assert calibration_of(rank(qrels, shifted)).error > 0.3


def test_only_judged_candidates_count_where_some_are_judged_not_relevant():
    qrels, run = make(np.random.default_rng(2).uniform(0.01, 0.99, 5000).tolist(), unjudged=0.5)
    found = calibration_of(rank(qrels, run))
    assert (found.over, sum(found.counts)) == ("judged", len(qrels["q"]))
    assert found.error < 0.05


def test_unjudged_count_as_not_relevant_where_everything_judged_is_relevant():
    run = {"q": {"a": -2.0, "b": -2.0, "c": -2.0, "d": -2.0}}
    found = calibration_of(rank({"q": {"a": 1}}, run))
    assert (found.over, sum(found.counts)) == ("all", 4)
    assert found.relevant[1] == 0.25
    assert found.error == pytest.approx(0.25 - 1 / (1 + math.exp(2)), abs=1e-6)


def test_scores_beyond_the_range_of_exp():
    found = calibration_of(rank({"q": {"a": 1, "b": 0}}, {"q": {"a": 1e6, "b": -1e6}}))
    assert found.error == 0
    assert (found.counts[0], found.counts[-1]) == (1, 1)


def test_the_histogram_holds_every_candidate_once():
    qrels, run = make(np.random.default_rng(3).uniform(0.01, 0.99, 500).tolist(), unjudged=0.3)
    found = histogram(rank(qrels, run))
    scores, edges = np.float32(list(run["q"].values())), found.edges
    assert len(edges) == len(found.relevant) + 1 == len(found.other) + 1
    assert sum(found.relevant) == sum(grade > 0 for grade in qrels["q"].values())
    assert sum(found.relevant) + sum(found.other) == 500
    assert (edges[0], edges[-1]) == pytest.approx((scores.min(), scores.max()))
    last = ((scores >= edges[-2]) & (scores <= edges[-1])).sum()
    assert found.relevant[-1] + found.other[-1] == last


@pytest.mark.parametrize("function", [histogram, calibration_of])
def test_nothing_to_count(function):
    assert function(rank({"q": {"a": 1}}, {})) is None


def test_a_constant_scorer_has_one_bin():
    found = histogram(rank({"q": {"a": 1}}, {"q": {"a": 2.0, "b": 2.0, "c": 2.0}}))
    assert sorted(found.relevant)[-2:] == [0, 1]
    assert sorted(found.other)[-2:] == [0, 2]
