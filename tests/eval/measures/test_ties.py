"""Bounds over the orders of ties, against every permutation."""

import itertools

import numpy as np
import pytest
from uprank.eval.measures.measure import Measure, evaluate_measures
from uprank.eval.measures.ranking import rank
from uprank.eval.measures.ties import tie_bounds

EXACT = ["nDCG", "nDCG@3", "nDCG_exp@3", "MRR", "MRR@2", "MRR@3(rel=2)", "R@3", "R@2(rel=2)", "P@3", "P@1",
         "Success@2", "Success@1(rel=2)", "Rprec", "Rprec(rel=2)", "Judged@3", "Judged@1"]  # fmt: skip
SAMPLED = ["MAP", "MAP@3", "bpref", "bpref(rel=2)"]


def random_queries(seed, queries=6):
    """Judgments and scores of 3 distinct values over up to 6 documents."""
    random = np.random.default_rng(seed)
    qrels, run = {}, {}
    for query in range(queries):
        documents = [f"d{i}" for i in range(random.integers(2, 7))]
        qrels[f"q{query}"] = {d: int(random.integers(-1, 4)) for d in documents if random.random() < 0.8} | {
            "missed": 1
        }
        run[f"q{query}"] = {d: float(random.choice([0.5, 1.0, -1e39])) for d in documents}
    return qrels, run


def every_order(measure, judged, scores):
    """Values of one query over all orders of its tied documents, by scores without ties."""
    groups = {}
    for document, score in scores.items():
        groups.setdefault(np.float32(np.clip(score, -9, 9)), []).append(document)
    ordered = [groups[score] for score in sorted(groups, reverse=True)]
    values = []
    for orders in itertools.product(*map(itertools.permutations, ordered)):
        places = itertools.chain.from_iterable(orders)
        run = {"q": {document: -float(place) for place, document in enumerate(places)}}
        values.append(evaluate_measures(measure, rank({"q": judged}, run))[0])
    return values


@pytest.mark.parametrize("text", [*EXACT, *SAMPLED])
def test_bounds_are_those_of_every_permutation(text):
    measure = Measure.parse(text)
    qrels, run = random_queries(1, queries=8)
    worst, expected, best = tie_bounds(measure, rank(qrels, run), orders=2000)
    assert (worst < best).any()
    for row, query in enumerate(qrels):
        values = every_order(measure, qrels[query], run[query])
        assert worst[row] == pytest.approx(min(values), abs=1e-12)
        assert best[row] == pytest.approx(max(values), abs=1e-12)
        near = 1e-12 if text in EXACT else 5 * np.std(values) / np.sqrt(2000) + 1e-12
        assert expected[row] == pytest.approx(np.mean(values), abs=near)


@pytest.mark.parametrize("text", [*EXACT, *SAMPLED])
def test_without_ties_nothing_is_open(text):
    measure = Measure.parse(text)
    qrels, run = random_queries(3)
    run = {q: {d: s if abs(s) < 9 else 0.0 for d, s in row.items()} for q, row in run.items()}
    run = {q: {d: s + 1e-3 * i for i, (d, s) in enumerate(row.items())} for q, row in run.items()} | {
        "q0": {}
    }
    ranking = rank(qrels, run)
    for bound in tie_bounds(measure, ranking):
        np.testing.assert_array_equal(bound, evaluate_measures(measure, ranking))


def test_one_score_for_all_is_a_random_order():
    # One relevant among 100: in expectation it is in the middle, wherever its id puts it.
    run = {"q": dict.fromkeys([f"d{i}" for i in range(100)], 0.25)}
    worst, expected, best = (b[0] for b in tie_bounds(Measure.parse("P@10"), rank({"q": {"d7": 1}}, run)))
    assert (worst, expected, best) == (0.0, pytest.approx(0.01), 0.1)
    expected = tie_bounds(Measure.parse("MRR"), rank({"q": {"d7": 1}}, run))[1][0]
    assert expected == pytest.approx(np.mean(1 / np.arange(1, 101)))


def test_large_gains_do_not_overflow():
    ranking = rank({"q": {"a": 2**31 - 1, "b": 1}}, {"q": {"a": 1.0, "b": 1.0}})
    for text in ("nDCG", "nDCG_exp"):
        worst, expected, best = (bound[0] for bound in tie_bounds(Measure.parse(text), ranking))
        assert expected == pytest.approx((worst + best) / 2)
        assert best == pytest.approx(1.0)
