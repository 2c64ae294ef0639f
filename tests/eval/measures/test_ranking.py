"""The ranking: rows, padding, ties, and what is refused."""

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.eval.measures.ranking import rank, ratio

QRELS = {"q1": {"a": 2, "b": 0, "z": 1, "n": -2}, "q2": {"a": 0}, "q3": {"c": 1}, "q4": {}}
RUN = {"q1": {"b": 3.0, "a": 2.0, "n": 1.0, "u": 0.0}, "q2": {"a": 1.0}, "q9": {"a": 1.0}, "q4": {"a": 1.0}}


def test_rows_hold_relevance_in_rank_order():
    ranking = rank(QRELS, RUN)
    assert ranking.queries == ("q1", "q2", "q3")
    assert ranking.levels.tolist() == [[0, 2, -1, -1], [0, -1, -1, -1], [-1, -1, -1, -1]]
    assert ranking.scores[0].tolist() == [3.0, 2.0, 1.0, 0.0]
    assert ranking.lengths.tolist() == [4, 1, 0]
    assert ranking.ideal.tolist() == [[2, 1], [0, 0], [1, 0]]
    assert ranking.nonrelevant.tolist() == [1, 1, 0]
    assert ranking.gains().tolist() == [[0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert ranking.judged(2).tolist() == [[True, True], [True, False], [False, False]]
    assert ranking.hits(1, 2).tolist() == [[False, True], [False, False], [False, False]]
    assert ranking.num_relevant().tolist() == [2, 0, 1]
    assert ranking.num_relevant(2).tolist() == [1, 0, 0]
    assert ranking.num_nonrelevant(2).tolist() == [2, 1, 1]


def test_missing_and_unanswerable_queries_are_listed():
    ranking = rank(QRELS, {**RUN, "q3": {}})
    assert ranking.missing == ("q3",)
    assert ranking.unanswerable == ("q2",)
    assert rank(QRELS, {}).missing == ("q1", "q2", "q3")
    assert rank({"q": {"a": -1}}, {}).unanswerable == ("q",)


def test_judged_only_drops_unjudged_and_negative():
    ranking = rank(QRELS, RUN, judged_only=True)
    assert ranking.levels[0].tolist() == [0, 2, -1, -1]
    assert ranking.lengths.tolist() == [2, 1, 0]
    assert rank({"q": {"a": 1}}, {"q": {"x": 1.0}}, judged_only=True).missing == ()


def test_insertion_order_does_not_matter():
    random = np.random.default_rng(0)
    scores = {f"d{i}": float(random.integers(4)) for i in range(40)}
    qrels = {"q": {f"d{i}": int(random.integers(-1, 3)) for i in range(0, 40, 3)}}
    expected = rank(qrels, {"q": scores}).levels
    for _ in range(20):
        shuffled = {document: scores[document] for document in random.permutation(list(scores)).tolist()}
        np.testing.assert_array_equal(rank(qrels, {"q": shuffled}).levels, expected)


def test_ties_are_reported_within_the_depth():
    run = {
        "q1": {"a": 1.0, "b": 0.5, "c": 0.5},
        "q2": {"a": 0.99999999, "b": 0.99999998},
        "q3": {"a": 1.0, "b": 0.5},
    }
    ranking = rank({query: {"a": 1} for query in [*run, "q4"]}, run)
    assert ranking.tied().tolist() == [True, True, False, False]
    assert ranking.tied(2).tolist() == [False, True, False, False]
    overflown = rank({"q": {"a": 1}}, {"q": {"a": 1e39, "b": 2e39, "c": -1e39}})
    assert overflown.tied().tolist() == [True]
    assert (
        rank({"q": {"a": 1}, "r": {"a": 1}}, {"q": {"a": -1e39}, "r": {"a": 1, "b": 2}}).tied().tolist()
        == [False] * 2
    )


def test_every_unfinite_score_is_named():
    run = {"q1": {"a": float("nan"), "b": 1.0}, "q2": {"c": float("-inf")}, "unjudged": {"x": float("nan")}}
    with pytest.raises(UserError) as caught:
        rank({"q1": {"a": 1}, "q2": {"c": 1}}, run)
    assert caught.value.problems == [
        "query 'q1', document 'a': score nan is not finite",
        "query 'q2', document 'c': score -inf is not finite",
    ]
    with pytest.raises(UserError, match="inf"):
        rank({"q": {"a": 1}}, {"q": {"a": np.float32("inf")}})


@pytest.mark.parametrize("relevance", [1.0, 1.7, "1", None, 2**31, -(2**40)])
def test_relevance_must_be_a_bounded_whole_number(relevance):
    with pytest.raises(UserError, match="query 'q', document 'd'"):
        rank({"q": {"d": relevance, "e": 1}}, {"q": {"d": 1.0}})


def test_nothing_judged_is_refused():
    for qrels in ({}, {"q": {}}):
        with pytest.raises(UserError, match="nothing to measure"):
            rank(qrels, RUN)


def test_arrays_are_read_only():
    ranking = rank(QRELS, RUN)
    for name in ("levels", "scores", "lengths", "ideal", "nonrelevant"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(ranking, name)[0] = 1


def test_ratio_is_zero_where_nothing_divides():
    assert ratio([1, 2, 0], [2, 0, 0]).tolist() == [0.5, 0.0, 0.0]
