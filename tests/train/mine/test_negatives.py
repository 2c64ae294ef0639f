"""The choice of negatives: every filter and every sampling."""

import random
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uprank.configs.schema_data import MineCommand, TeacherSettings
from uprank.train.mine.negatives import Retrieved, Wanted, choose_negatives, text_key, text_similarity

POSITIVE = "The P53 protein regulates the cell cycle, and prevents tumours in most tissues of the mouse."


def pick(
    passages, *, positives=None, ranked=None, query="does p53 matter?", compared=None, teacher=None, **options
):
    positives = {"pos": POSITIVE} if positives is None else positives
    passages = passages | positives
    ranked = ranked or {doc: float(100 - rank) for rank, doc in enumerate(passages)}
    wanted = Wanted(options.pop("number", 0), query, positives, options.pop("known", ()))
    settings = MineCommand(**({"sampling": "top"} | options))
    return choose_negatives(wanted, Retrieved(ranked, compared or {}), passages, settings, teacher)


def ids(chosen):
    return [negative.doc for negative in chosen.negatives]


def test_copies_of_a_positive_never_come_out():
    copies = {
        "case": POSITIVE.upper(),
        "space": "  " + POSITIVE.replace(" ", "\n  "),
        "none": POSITIVE.translate(str.maketrans("", "", string.punctuation)),
        "more": POSITIVE.replace(" ", " - ").replace(",", ";") + "!!",
        "joined": POSITIVE.replace(" cell cycle", " cellcycle").replace("P53 ", "P53-"),
        "wide": POSITIVE.replace("P53", "Ｐ５３"),
    }
    chosen = pick(copies | {"other": "rivers carry stones"}, near_duplicates=None)
    assert ids(chosen) == ["other"]
    assert chosen.removed == {"copy": 6, "relevant": 1}


def test_near_duplicates_of_a_positive_never_come_out():
    near = {
        "one word": POSITIVE.replace("mouse", "rat"),
        "a word more": POSITIVE + " Indeed.",
        "a word less": POSITIVE.replace("most ", ""),
    }
    far = {
        "half": POSITIVE[:45] + " of plants, where nothing like it was found until today.",
        "other": "rivers",
    }
    chosen = pick(near | far)
    assert ids(chosen) == ["half", "other"]
    assert chosen.removed == {"near": 3, "relevant": 1}
    assert len(ids(pick(near | far, near_duplicates=None))) == 5


def test_what_is_relevant_to_the_same_query_elsewhere_is_no_negative():
    chosen = pick(
        {"a": "Rivers, carry stones to the sea", "b": "rivers carry stones to the seas", "c": "x"},
        known=["rivers carry stones to the sea"],
    )
    assert ids(chosen) == ["c"]
    assert chosen.removed == {"copy": 1, "near": 1, "relevant": 1}


def test_the_query_and_repetitions_are_no_negatives():
    chosen = pick({"q": "Does P53 matter", "a": "rivers", "b": "Rivers!", "c": "stones"})
    assert ids(chosen) == ["a", "c"]
    assert chosen.removed == {"query": 1, "repeated": 1, "relevant": 1}


def brute_force(first, second):
    def pieces(text):
        key = text_key(text)
        return {key[i : i + 5] for i in range(max(1, len(key) - 4))}

    a, b = pieces(first), pieces(second)
    return len(a & b) / len(a | b)


@given(st.text("abc é合,. ", max_size=30), st.text("abc é合,. ", max_size=30))
def test_similarity_is_that_of_sets_of_pieces(first, second):
    assert text_similarity(first, second) == pytest.approx(brute_force(first, second), abs=1e-12)
    assert text_similarity(first, second, 0.7) in (0.0, text_similarity(first, second))
    assert (text_similarity(first, second, 0.7) >= 0.7) == (brute_force(first, second) >= 0.7)


def test_punctuation_alone_is_not_all_the_same():
    assert text_key("?!") != text_key("...")
    assert text_key("") == ""


SCORES = {"pos": 10.0, "a": 12.0, "b": 10.0, "c": 9.6, "d": 9.4, "e": 8.0, "f": -1.0}
OTHERS = {name: f"passage {name * 20}" for name in "abcdef"}


@pytest.mark.parametrize(
    ("options", "kept", "reason"),
    [
        ({}, "abcdef", None),
        ({"absolute_margin": 0.0}, "cdef", "margin"),
        ({"absolute_margin": 0.5}, "def", "margin"),
        ({"relative_margin": 0.05}, "def", "margin"),
        ({"relative_margin": 0.2}, "f", "margin"),
        ({"absolute_margin": 0.5, "relative_margin": 0.0}, "def", "margin"),
        ({"max_score": 9.6}, "def", "max_score"),
    ],
)
def test_margins_and_caps(options, kept, reason):
    chosen = pick(OTHERS, compared=SCORES, **options)
    assert ids(chosen) == list(kept)
    assert chosen.removed[reason] == 6 - len(kept)


def test_the_margin_is_to_the_lowest_positive_whatever_its_sign():
    positives = {"pos": "positive one", "low": "another positive"}
    scores = {"pos": 10.0, "low": -2.0, "a": 5.0, "b": -2.05, "c": -2.15, "d": -3.0, "e": -4.0, "f": -5.0}
    chosen = pick(OTHERS, positives=positives, compared=scores, relative_margin=0.05)
    assert ids(chosen) == ["c", "d", "e", "f"]


class Teacher:
    """A teacher that scores by the last letter, and remembers its inputs."""

    def __init__(self, **scores):
        self.scores, self.asked = scores, []

    def __call__(self, query, texts):
        assert query == "does p53 matter?"
        self.asked += texts
        return [self.scores["pos" if text in (POSITIVE, "low") else text[-1]] for text in texts]


def test_the_teacher_vetoes_what_it_ranks_as_high_as_a_positive():
    teacher = Teacher(pos=1.0, a=2.0, b=1.0, c=0.9, d=-1.0, e=5.0, f=-2.0)
    chosen = pick(OTHERS, teacher=teacher)
    assert ids(chosen) == ["c", "d", "f"]
    assert [negative.teacher for negative in chosen.negatives] == [0.9, -1.0, -2.0]
    assert chosen.removed == {"teacher": 3, "relevant": 1}
    assert chosen.positive_scores == [1.0]


def test_the_teachers_margin():
    scores = Teacher(pos=1.0, a=2.0, b=1.0, c=0.9, d=-1.0, e=5.0, f=-2.0)
    wanted = Wanted(0, "does p53 matter?", {"pos": POSITIVE})
    passages = OTHERS | {"pos": POSITIVE}
    for margin, kept in ((0.2, "df"), (3.0, ""), (-0.5, "bcdf"), (-float("inf"), "abcdef")):
        settings = MineCommand(sampling="top", teacher=TeacherSettings(margin=margin))
        retrieved = Retrieved(dict.fromkeys(passages, 0.0))
        assert ids(choose_negatives(wanted, retrieved, passages, settings, scores)) == list(kept)


def test_the_teacher_scores_no_more_than_needed():
    teacher = Teacher(pos=1.0, a=2.0, b=0.0, c=3.0, d=0.0, e=0.0, f=0.0)
    chosen = pick(OTHERS, teacher=teacher, negatives=2)
    assert ids(chosen) == ["b", "d"]
    assert teacher.asked == [POSITIVE, *(OTHERS[name] for name in "abcd")]
    assert chosen.removed["teacher"] == 2


def test_ranks_and_scores_are_those_of_the_first_stage():
    ranked = {"b": 9.0, "pos": 8.0, "c": 7.0, "a": 6.0}
    chosen = pick({"a": "rivers", "b": "stones", "c": "light"}, ranked=ranked)
    ranks = [(negative.doc, negative.rank, negative.score) for negative in chosen.negatives]
    assert ranks == [("b", 1, 9.0), ("c", 3, 7.0), ("a", 4, 6.0)]


MANY = {f"d{k}": f"text number {k}" for k in range(10)}


def drawn(sampling, draws=3000, **options):
    """Count how often each rank is drawn over many queries."""
    counts = Counter()
    for number in range(draws):
        chosen = pick(
            MANY, positives={"pos": "p"}, sampling=sampling, near_duplicates=None, number=number, **options
        )
        ranks = [negative.rank for negative in chosen.negatives]
        assert ranks == sorted(set(ranks))
        counts.update(ranks)
    return counts


def test_top_takes_the_best_of_the_window():
    assert drawn("top", 5, negatives=3, skip=2, depth=8) == {3: 5, 4: 5, 5: 5}


def test_random_draws_all_ranks_of_the_window_alike():
    counts = drawn("random", negatives=2, skip=1, depth=9)
    assert set(counts) == set(range(2, 10))
    assert all(abs(count - 750) < 5 * 24 for count in counts.values())


def test_log_random_draws_rank_r_with_a_weight_of_one_over_r():
    counts = drawn("log_random", negatives=1)
    total = sum(1 / rank for rank in range(1, 11))
    for rank in range(1, 11):
        expected = 3000 / rank / total
        assert abs(counts[rank] - expected) < 5 * expected**0.5


def test_a_draw_depends_on_the_seed_and_the_query_alone():
    one, again, *others = (
        ids(pick(MANY, sampling="random", negatives=4, seed=seed, number=number))
        for seed, number in ((1, 7), (1, 7), (2, 7), (1, 8))
    )
    assert one == again
    assert one not in others


def test_a_filter_takes_out_and_does_not_shuffle_the_rest():
    options = {"sampling": "random", "negatives": 10, "near_duplicates": None}
    whole = pick(MANY, **options)
    scores = {"pos": 5.0} | dict.fromkeys(MANY, 0.0) | {"d3": 9.0}
    fewer = pick(MANY, **options, compared=scores, absolute_margin=0.0)
    assert ids(fewer) == [doc for doc in ids(whole) if doc != "d3"]


def test_no_duplicates_among_many_variants():
    generator = random.Random(0)
    texts = [f"word{k} stone" for k in range(30)]
    variants = {}
    for number in range(300):
        text = generator.choice(texts)
        variants[f"v{number}"] = generator.choice([text, text.upper(), f" {text}. ", text.replace(" ", "-")])
    chosen = pick(variants, negatives=100, depth=300, near_duplicates=None)
    keys = [text_key(negative.text) for negative in chosen.negatives]
    assert len(keys) == len(set(keys)) == 30
