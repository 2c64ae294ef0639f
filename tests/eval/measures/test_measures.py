"""Measures: their written form, hand-computed values, and invariances."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uprank.configs.errors import UserError
from uprank.eval.measures.measure import KINDS, Measure, evaluate_measures, parse_measures
from uprank.eval.measures.ranking import rank

CANONICAL = [
    "nDCG@10", "nDCG", "nDCG_exp@10", "nDCG_exp", "MRR@10", "MRR", "MRR@10(rel=2)", "MRR(rel=3)", "MAP",
    "MAP@100", "R@100", "R", "R(rel=2)", "P@10", "P@5(rel=2)", "Success@10", "Rprec", "Rprec(rel=2)", "bpref",
    "Judged@10",
]  # fmt: skip

# Rank:          1       2       3       4       5       6
# Document:      a       b       c       d       e       f
# Relevance:     0       2    unjudged  -1       1       3       and g: 1 is not retrieved
QRELS = {"q": {"a": 0, "b": 2, "d": -1, "e": 1, "f": 3, "g": 1}, "none": {"a": 0}, "missing": {"a": 1}}
RUN = {"q": dict(zip("abcdef", (6.0, 5.0, 4.0, 3.0, 2.0, 1.0), strict=True)), "none": {"a": 1.0}}
IDEAL = 3 + 2 / log2(3) + 1 / log2(4) + 1 / log2(5)
IDEAL_EXP = 7 + 3 / log2(3) + 1 / log2(4) + 1 / log2(5)

BY_HAND = {
    "nDCG": (2 / log2(3) + 1 / log2(6) + 3 / log2(7)) / IDEAL,
    "nDCG@5": (2 / log2(3) + 1 / log2(6)) / IDEAL,
    "nDCG@2": 2 / log2(3) / (3 + 2 / log2(3)),
    "nDCG@1": 0.0,
    "nDCG_exp": (3 / log2(3) + 1 / log2(6) + 7 / log2(7)) / IDEAL_EXP,
    "nDCG_exp@5": (3 / log2(3) + 1 / log2(6)) / IDEAL_EXP,
    "MRR": 1 / 2,
    "MRR@1": 0.0,
    "MRR@10(rel=3)": 1 / 6,
    "MRR@5(rel=3)": 0.0,
    "MRR(rel=4)": 0.0,
    "MAP": (1 / 2 + 2 / 5 + 3 / 6) / 4,
    "MAP@5": (1 / 2 + 2 / 5) / 4,
    "MAP(rel=2)": (1 / 2 + 2 / 6) / 2,
    "R": 3 / 4,
    "R@100": 3 / 4,
    "R@5": 2 / 4,
    "R@5(rel=2)": 1 / 2,
    "P@5": 2 / 5,
    "P@10": 3 / 10,
    "P@10(rel=3)": 1 / 10,
    "Success@1": 0.0,
    "Success@2": 1.0,
    "Success@5(rel=3)": 0.0,
    "Rprec": 1 / 4,
    "Rprec(rel=2)": 1 / 2,
    # R = 4 relevant, N = 1 non-relevant (a), which is above all: each adds 1 - 1/1.
    "bpref": 0.0,
    # R = 2 (b, f); N = 3 (a, e, g). Above b: a; above f: a and e.
    "bpref(rel=2)": ((1 - 1 / 2) + (1 - 2 / 2)) / 2,
    "Judged@2": 1.0,
    "Judged@5": 3 / 5,
    "Judged@10": 4 / 6,
}


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_form_round_trips(text):
    assert str(Measure.parse(text)) == text


@given(st.sampled_from(sorted(KINDS)), st.none() | st.integers(1, 10**9 - 1), st.integers(1, 99))
def test_every_measure_that_can_be_made_round_trips(name, cutoff, rel):
    try:
        measure = Measure(name, cutoff, rel)
    except UserError:
        return
    assert Measure.parse(str(measure)) == measure


def test_a_threshold_of_one_is_not_written():
    assert str(Measure.parse("MRR@10(rel=1)")) == "MRR@10"


@pytest.mark.parametrize("text", BY_HAND)
def test_values_by_hand(text):
    values = evaluate_measures(Measure.parse(text), rank(QRELS, RUN))
    assert values.dtype == np.float64
    assert values[0] == pytest.approx(BY_HAND[text], abs=1e-12)
    # Neither a query without relevant documents nor one without candidates is left out of the mean.
    assert values[1:].tolist() == [1.0 if text.startswith("Judged") else 0.0, 0.0]


def test_every_kind_is_computed_by_hand():
    assert {Measure.parse(text).name for text in BY_HAND} == set(KINDS)


@pytest.mark.parametrize("text", BY_HAND)
def test_a_query_has_the_same_value_alone_as_among_others(text):
    random = np.random.default_rng(1)
    ids = [f"q{i}" for i in range(30)]
    run = {q: {f"d{i}": float(random.integers(5)) for i in range(random.integers(1, 30))} for q in ids}
    qrels = {q: {f"d{i}": int(random.integers(-1, 4)) for i in range(0, 40, 2)} for q in ids}
    together = evaluate_measures(Measure.parse(text), rank(qrels, run))
    alone = [evaluate_measures(Measure.parse(text), rank({q: qrels[q]}, {q: run[q]}))[0] for q in qrels]
    np.testing.assert_allclose(together, alone, atol=1e-12)
    assert 0 < together.mean() <= 1 or text in ("MRR(rel=4)",)


@pytest.mark.parametrize(
    "text", ["nDCG", "nDCG_exp", "MRR", "MAP", "R", "Rprec", "bpref", "Success@1", "Judged@9"]
)
def test_the_ideal_ranking_is_one(text):
    qrels = {"q": {f"d{i}": i // 2 for i in range(9)}}
    run = {"q": {document: float(relevance) for document, relevance in qrels["q"].items()}}
    assert evaluate_measures(Measure.parse(text), rank(qrels, run)).tolist() == pytest.approx(
        [1.0], abs=1e-12
    )


def test_exponential_gain_cannot_overflow():
    qrels = {"q": {"a": 2**31 - 1, "b": 5000, "c": 1}}
    ranking = rank(qrels, {"q": {"a": 1.0, "b": 2.0, "c": 3.0}})
    assert evaluate_measures(Measure.parse("nDCG_exp"), ranking).tolist() == pytest.approx([1 / log2(4)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndcg@10", "unknown measure 'ndcg'; did you mean 'nDCG'?"),
        ("MMR@10", "unknown measure 'MMR'; did you mean 'MRR'?"),
        ("Recall@10", "unknown measure 'Recall'; did you mean 'R'?"),
        ("AP", "unknown measure 'AP'; did you mean 'MAP'?"),
        ("qqqq@10", "unknown measure 'qqqq'"),
        ("MRR@0", "the cutoff of MRR must be at least 1, given 0"),
        ("MRR@10(rel=0)", "the relevance threshold of MRR must be at least 1, given 0"),
        ("P", "P needs a cutoff: for example P@10"),
        ("Rprec@10", "Rprec takes no cutoff, given 10"),
        ("nDCG@10(rel=2)", "nDCG takes no relevance threshold, given rel=2"),
        ("MRR@-1", "'MRR@-1' is not a measure: write NAME, NAME@cutoff or NAME@cutoff(rel=grade)"),
        (
            "MRR(rel=2)@10",
            "'MRR(rel=2)@10' is not a measure: write NAME, NAME@cutoff or NAME@cutoff(rel=grade)",
        ),
        ("MRR@٣", "'MRR@٣' is not a measure: write NAME, NAME@cutoff or NAME@cutoff(rel=grade)"),
        ("", "'' is not a measure: write NAME, NAME@cutoff or NAME@cutoff(rel=grade)"),
    ],
)
def test_what_is_wrong_with_a_measure_is_said(text, message):
    with pytest.raises(UserError) as caught:
        Measure.parse(text)
    assert caught.value.problems == [message]


def test_all_wrong_measures_are_listed_at_once():
    assert [str(m) for m in parse_measures(["nDCG@10", " MRR "])] == ["nDCG@10", "MRR"]
    with pytest.raises(UserError) as caught:
        parse_measures(["nDCG@10", "ndgc", "MRR@0", "nDCG@10"])
    assert len(caught.value.problems) == 3
    assert caught.value.problems[2] == "nDCG@10 is given twice"
    with pytest.raises(UserError, match="no measure"):
        parse_measures([])
