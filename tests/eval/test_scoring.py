"""Sharded scoring: whatever the number of processes, each pair is scored once and the result is the same."""

from collections import Counter

import numpy as np
import pytest
from uprank.data.groups import Collection
from uprank.data.read import read_judged
from uprank.eval.candidates import Candidates, find_candidates
from uprank.eval.scoring import Share, score_candidates
from uprank.model.reranker import Reranker


class Recorder:
    """Stands in for a reranker: scores from the texts alone, and remembers what it was asked."""

    def __init__(self, limit=10):
        self.asked = []
        self.pairs = self
        self.max_tokens = limit

    def score(self, texts, progress=None):
        self.asked += texts
        if progress:
            progress(len(texts))
        return np.array([np.float32(hash_of(*pair)) for pair in texts], dtype=np.float32)

    def full_lengths(self, texts):
        return np.array([len(passage) for _, passage in texts])


def hash_of(query, passage):
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(f"{query}|{passage}")) / 7


def on_processes(count, collection, candidates, make):
    """Score as `count` processes: first each one's own cells, then all together through `total`."""
    cells = []

    def remember(array):
        cells.append(array.copy())
        return array

    rerankers = [make() for _ in range(count)]
    for index, reranker in enumerate(rerankers):
        score_candidates(reranker, collection, candidates, share=Share(index, count, remember))
    total = np.sum(cells, axis=0)
    results = [
        score_candidates(make(), collection, candidates, share=Share(index, count, lambda array: total))
        for index in range(count)
    ]
    return rerankers, results


def ragged(queries):
    collection = Collection(
        "f",
        {f"q{k}": f"query {k}" for k in range(queries)},
        {f"d{k}": "x" * k for k in range(20)},
        {f"q{k}": {"d1": 1} for k in range(queries)},
        {},
    )
    run = {f"q{k}": {f"d{j}": 0.0 for j in range((k * 7) % 11)} for k in range(queries)}
    return collection, Candidates("bm25", 20, run, "bm25")


@pytest.mark.parametrize("queries", [0, 1, 2, 9])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_pair_is_scored_exactly_once(queries, count):
    collection, candidates = ragged(queries)
    rerankers, results = on_processes(count, collection, candidates, Recorder)
    expected = [
        (collection.queries[q], collection.passages[d]) for q, row in candidates.run.items() for d in row
    ]
    assert Counter(pair for reranker in rerankers for pair in reranker.asked) == Counter(expected)
    loads = [len(reranker.asked) for reranker in rerankers]
    assert max(loads) - min(loads) <= 1
    for result in results:
        assert result.pairs == len(expected)
        assert result.truncated == sum(len(passage) > 10 for _, passage in expected)
        assert {query: list(row) for query, row in result.run.items()} == {
            query: list(row) for query, row in candidates.run.items()
        }
        for query, row in result.run.items():
            for doc, score in row.items():
                assert score == np.float32(hash_of(collection.queries[query], collection.passages[doc]))


@pytest.mark.parametrize("count", [2, 3])
def test_processes_agree_with_one_for_a_real_model(tiny_xlmr, beir, count):
    collection = read_judged(str(beir), [], split="dev")
    candidates = find_candidates(collection, "bm25", 7)
    texts = [(collection.queries[q], collection.passages[d]) for q, d in candidates.pairs]
    middle = int(np.median(Reranker.load(tiny_xlmr).pairs.full_lengths(texts)))
    reranker = Reranker.load(tiny_xlmr, device="cpu", max_tokens=middle, query_tokens=12)
    alone = score_candidates(reranker, collection, candidates)
    assert alone.pairs == len(candidates.pairs) > 20
    assert 0 < alone.truncated < alone.pairs
    _, results = on_processes(count, collection, candidates, lambda: reranker)
    for result in results:
        assert (result.pairs, result.truncated) == (alone.pairs, alone.truncated)
        for query, row in alone.run.items():
            assert result.run[query] == pytest.approx(row, abs=1e-5)


def test_scores_are_those_of_the_reranker_as_float32(tiny_bert, beir):
    collection = read_judged(str(beir), [], split="dev")
    candidates = find_candidates(collection, "judged", 5)
    reranker = Reranker.load(tiny_bert, device="cpu")
    scored = score_candidates(reranker, collection, candidates)
    texts = [(collection.queries[q], collection.passages[d]) for q, d in candidates.pairs]
    values = [scored.run[q][d] for q, d in candidates.pairs]
    assert values == reranker.score(texts).tolist()
    assert np.array(values, dtype=np.float32).tolist() == values


def test_progress_is_told_of_every_pair():
    collection, candidates = ragged(9)
    told = []
    score_candidates(Recorder(), collection, candidates, progress=told.append)
    assert sum(told) == len(candidates.pairs)
