"""The first stage against BM25 written out: k1 = 1.5, b = 0.75, idf as in Lucene, in float64."""

import math
import random
from collections import Counter

import pytest
from uprank.eval.retrieval.bm25 import _Analyser, search_bm25

ENGLISH = {
    "d1": "The river flows. Rivers flow to the sea, and the sea rises!",
    "d2": "A stone bridge over the river",
    "d3": "Bridges of stone and of steel; bridging rivers",
    "d4": "The mouse gene",
    "d5": "",
    "d6": "the of and",
    "d7": "naïve café 2024 p53 river",
}
CHINESE = {
    "c1": "劳动合同应当依法订立",
    "c2": "用人单位违反劳动合同，应当承担违约责任。",
    "c3": "工资 应当 按月支付 salary 2024",
    "c4": "法",
    "c5": "ラーメンを食べる 한국어",
}


def brute_force(passages, queries):
    """Scores of every pair that shares a term; a term twice in the query counts twice."""
    analyse = _Analyser()
    terms = {doc: Counter(analyse(text)) for doc, text in passages.items()}
    average = sum(sum(row.values()) for row in terms.values()) / len(terms)
    document_frequency = Counter(term for row in terms.values() for term in row)
    run = {}
    for query, text in queries.items():
        run[query] = {}
        for doc, row in terms.items():
            score = 0.0
            for term in analyse(text):
                n, tf = document_frequency[term], row[term]
                if tf:
                    idf = math.log(1 + (len(passages) - n + 0.5) / (n + 0.5))
                    score += idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * sum(row.values()) / average))
            if score > 0:
                run[query][doc] = score
    return run


def same(passages, queries, depth=1000):
    found, expected = search_bm25(passages, queries, depth=depth), brute_force(passages, queries)
    assert found.keys() == expected.keys() == queries.keys()
    for query, row in found.items():
        assert row == pytest.approx(expected[query], rel=1e-5, abs=1e-7)
        assert list(row.values()) == sorted(row.values(), reverse=True)
    return found


def test_english():
    queries = {
        "q1": "rivers flowing",
        "q2": "The stone stone bridge",
        "q3": "CAFÉ p53",
        "none": "unknown words",
        "stop": "the and of",
        "empty": "",
    }
    found = same(ENGLISH, queries)
    assert next(iter(found["q1"])) == "d1"
    assert {"none", "stop", "empty"} == {query for query, row in found.items() if not row}


def test_chinese():
    queries = {
        "q1": "违反劳动合同的违约责任",
        "q2": "工资支付",
        "q3": "法",
        "q4": "salary",
        "q5": "ラーメン",
        "q6": "国際",
    }
    found = same(CHINESE, queries)
    assert [next(iter(found[query]), None) for query in queries] == ["c2", "c3", "c4", "c3", "c5", None]


def test_a_larger_corpus():
    generator = random.Random(0)
    words = [f"w{k}" for k in range(80)] + ["合同", "工资违约"]

    def text(length):
        return " ".join(generator.choices(words, weights=[1 / (k + 1) for k in range(len(words))], k=length))

    passages = {f"d{k}": text(generator.randrange(1, 60)) for k in range(150)}
    same(passages, {f"q{k}": text(6) for k in range(20)})


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Rivers' flowing, p53!", ["river", "flow", "p53"]),
        ("劳动合同", ["劳动", "动合", "合同"]),
        ("法", ["法"]),
        ("合同abc法律", ["合同", "abc", "法律"]),
        ("naïve_x", ["naïve_x"]),
        ("the", []),
        ("?! 。", []),
    ],
)
def test_terms(text, terms):
    assert _Analyser()(text) == terms


def test_depth_keeps_the_best():
    queries = {"q": "river stone bridge"}
    whole = search_bm25(ENGLISH, queries, depth=100)["q"]
    assert len(whole) == 4
    for depth in (1, 2, 3):
        assert list(search_bm25(ENGLISH, queries, depth=depth)["q"].items()) == list(whole.items())[:depth]


@pytest.mark.parametrize("passages", [{"d": "the"}, {"d": "???", "e": ""}, {}])
def test_a_corpus_without_a_word_finds_nothing(passages):
    assert search_bm25(passages, {"q": "river", "r": "the"}, depth=5) == {"q": {}, "r": {}}
