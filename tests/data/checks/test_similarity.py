"""Near-duplicates: against sets of pieces, and against comparing everything with everything."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uprank.data.checks.leaks import QueryIndex, compare_queries, misspelt
from uprank.data.checks.similarity import NEAR, near_negatives, pieces_of, text_key, text_similarity
from uprank.data.groups import Group

TEXTS = st.text("abc é合Ⅷ,. \x00", max_size=30)


def brute_force(first, second):
    """Jaccard similarity by Python's sets."""
    a, b = ({key[i : i + 5] for i in range(max(1, len(key) - 4))} for key in map(text_key, (first, second)))
    return len(a & b) / len(a | b)


@given(st.lists(TEXTS, max_size=6))
def test_pieces_of_many_texts_are_those_of_each(texts):
    found = pieces_of(texts)
    assert len(found.keys) == len(texts)
    for place, text in enumerate(texts):
        key = text_key(text)
        own = found.hashes[found.starts[place] : found.starts[place + 1]]
        assert len(own) == (max(1, len(key) - 4) if key else 0)
        for other, second in enumerate(texts):
            theirs = found.hashes[found.starts[other] : found.starts[other + 1]]
            assert (found.keys[place] == found.keys[other]) == (key == text_key(second))
            if key and text_key(second):
                a, b = set(own.tolist()), set(theirs.tolist())
                assert len(a & b) / len(a | b) == pytest.approx(brute_force(text, second))
    assert found.owners().tolist() == np.repeat(np.arange(len(texts)), np.diff(found.starts)).tolist()


@given(TEXTS, TEXTS)
def test_similarity(first, second):
    assert text_similarity(first, second) == pytest.approx(brute_force(first, second))


WORDS = ["risk", "stroke", "patients", "increased", "decreased", "protein", "with", "p53", "the", "of"]


def sentence(generator, length):
    return " ".join(generator.choice(WORDS) for _ in range(length))


def edited(generator, text):
    """A few letters of a text changed."""
    letters = list(text)
    for _ in range(generator.randrange(4)):
        letters[generator.randrange(len(letters))] = generator.choice("abcxyz ")
    return "".join(letters)


def test_near_negatives_are_those_of_comparing_all():
    generator = random.Random(0)
    groups = []
    for number in range(60):
        positives = [
            sentence(generator, generator.randrange(1, 25)) for _ in range(generator.randrange(1, 4))
        ]
        negatives = [edited(generator, generator.choice(positives)) for _ in range(3)]
        negatives += [sentence(generator, 20), "", "…"]
        groups.append(Group(sentence(generator, 3), tuple(positives), tuple(negatives), f"f:{number}"))
    starts = np.concatenate(([0], np.cumsum([len(group.texts) for group in groups])))
    pieces = pieces_of([text for group in groups for text in group.texts])
    found = [(group.where, text, value) for group, _, text, value in near_negatives(groups, pieces, starts)]
    expected = [
        (group.where, text, best)
        for group in groups
        for text in group.negatives
        if (best := max(brute_force(text, positive) for positive in group.positives)) >= NEAR
    ]
    assert 50 < len(expected) < 170
    assert [match[:2] for match in found] == [match[:2] for match in expected]
    assert [match[2] for match in found] == pytest.approx([match[2] for match in expected])


def test_a_passage_of_another_group_is_no_near_duplicate():
    text = "the risk of stroke is higher in patients"
    groups = [Group("q", (text,), ("x",), "f:1"), Group("q", ("y",), (text,), "f:2")]
    pieces = pieces_of([text for group in groups for text in group.texts])
    assert list(near_negatives(groups, pieces, np.array([0, 3, 6]))) == []


def test_the_index_finds_what_comparing_all_finds():
    generator = random.Random(1)
    known = [sentence(generator, generator.randrange(1, 12)) for _ in range(80)] + ["", "?!", "合同违约责任"]
    asked = [edited(generator, generator.choice(known[:80])) for _ in range(150)]
    asked += ["", "?!", "合同 违约 责任", known[0].upper() + "?"]
    found = {match.place: match for match in QueryIndex(known).matches(asked)}
    kinds = ("leak", "misspelt leak", "similar query")
    counts = dict.fromkeys(kinds, 0)
    for place, text in enumerate(asked):
        pairs = [(*compare_queries(text, other), number) for number, other in enumerate(known)]
        best = min(((kinds.index(kind), -value) for kind, value, _ in pairs if kind), default=None)
        match = found.get(place)
        assert (match is None) == (best is None), text
        if match:
            assert (kinds.index(match.kind), -match.similarity) == best
            assert compare_queries(text, known[match.known]) == (match.kind, match.similarity)
            counts[match.kind] += 1
    assert min(counts.values()) > 5


def test_an_empty_index_and_no_queries():
    assert list(QueryIndex([]).matches(["a b c"])) == []
    assert list(QueryIndex(["a b c"]).matches([])) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Is it so?", "is IT,  so"),
        ("STRASSE", "straße"),
        ("合同 违约?", "合同,违约"),
        ("😀", "😀"),
        ("Ｗｈａｔ is it", "what is it?"),
    ],
)
def test_the_same_but_for_case_blanks_and_punctuation(first, second):
    assert compare_queries(first, second)[0] in ("leak", "misspelt leak")
    assert [match.kind for match in QueryIndex([first]).matches([second])] == [
        compare_queries(first, second)[0]
    ]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("effects of metformin on cancer", "effects of metfromin on cancer", True),  # neighbours
        ("effects of metformin on cancer", "effects of metformn on cancer", True),
        ("effects of metformin on cancer", "effect of metformin on cancers", False),  # two words
        ("the risk", "a risk", True),
        ("protein", "prxtein", False),  # nothing else says that it is the same
        ("the", "a", False),
        ("the risk of a stroke", "risk of stroke", True),
        ("co-activated genes", "coactivated genes", False),  # equal keys, which `text_key` finds
        ("symptomatic cases", "asymptomatic cases", False),
        ("role of GNB1 mutations", "role of GNB2 mutations", False),
        ("studies of covid18 cases", "studies of covid19 cases", False),
        ("合同违约责任 承担", "合同无违约责任 承担", False),
        ("risk in males", "risk in mules", True),
        ("risk in male", "risk in mule", False),  # short words
        ("hypotension in adults", "hypertension in adults", False),
        ("increases the risk", "decreases the risk", False),
        ("it is effective", "it is not effective", False),
        ("合同违约责任承担", "合同无违约责任承担", False),
        ("merken der Risiken", "märken der Risiken", True),
        ("metformin metformin", "metformin", False),
    ],
)
def test_misspelt(first, second, same):
    assert misspelt(first, second) is same
    assert misspelt(second, first) is same


def test_two_words_are_misspelt_where_the_rest_is_long_enough():
    first = "long term effects of metformin on the survival of elderly patients with advanced liver cancers"
    second = first.replace("metformin", "metfromin").replace("cancers", "cancer")
    assert compare_queries(first, second)[0] == "misspelt leak"
    assert compare_queries(first, second.replace("survival", "survivel"))[0] != "misspelt leak"


def test_joined_words_are_a_leak():
    assert compare_queries("co-activated genes", "coactivated genes")[0] == "misspelt leak"


def test_opposites_are_similar_and_no_leak():
    first = "Patients with acute coronary syndrome have decreased short-term and long-term risk for bleeding."
    assert compare_queries(first, first.replace("decreased", "increased"))[0] == "similar query"


@pytest.mark.parametrize("signs", [("???", "!!!"), ("😀", "😺"), ("", "?")])
def test_signs_that_differ_are_different(signs):
    assert compare_queries(*signs)[0] == ""
    assert list(QueryIndex(signs[:1]).matches(signs[1:])) == []
