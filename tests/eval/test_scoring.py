"""Sharded scoring: whatever the number of processes, each pair is scored once and the result is the same."""

import time
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.data.groups import Collection
from uprank.data.read import read_judged
from uprank.eval.processes import Share
from uprank.eval.retrieval.candidates import Candidates, find_candidates
from uprank.eval.score_cache import ScoreCache
from uprank.eval.scoring import Watch, _blocks, score_candidates
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
        with suppress(AssertionError):  # one process alone has not scored every pair, and says so
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
    watch = Watch(progress=lambda *at: told.append(at), block_tokens=30)
    score_candidates(Recorder(), collection, candidates, watch=watch)
    assert len(told) > 3
    assert told[-1] == (len(candidates.pairs), len(candidates.pairs))
    assert told == sorted(told)


def test_equal_texts_under_several_ids_are_scored_once():
    texts = {"d1": "same", "d2": "same", "d3": "other"}
    collection = Collection("f", {"q1": "words", "q2": "words"}, texts, {"q1": {"d1": 1}}, {})
    candidates = Candidates("bm25", 3, {query: dict.fromkeys(texts, 0.0) for query in ("q1", "q2")}, "bm25")
    for count in (1, 2):
        rerankers, results = on_processes(count, collection, candidates, Recorder)
        asked = Counter(pair for reranker in rerankers for pair in reranker.asked)
        assert asked == {("words", "same"): 1, ("words", "other"): 1}
        for result in results:
            assert result.pairs == 6
            assert result.run["q1"] == result.run["q2"]
            assert result.run["q1"]["d1"] == result.run["q1"]["d2"] == np.float32(hash_of("words", "same"))


def test_what_was_cut_is_told_pair_by_pair():
    collection, candidates = ragged(9)
    scored = score_candidates(Recorder(limit=4), collection, candidates)
    expected = [len(collection.passages[doc]) > 4 for _, doc in candidates.pairs]
    assert scored.cut.tolist() == expected
    assert scored.truncated == sum(expected) > 0


def test_blocks_are_longest_first_and_hold_so_many_tokens():
    lengths = np.array([3, 9, 1, 9, 2, 5, 5])
    blocks = [block.tolist() for block in _blocks(lengths, 10)]
    assert blocks == [[1], [3], [5, 6], [0, 4, 2]]
    # After a kill behind any block, the rest falls into the same blocks.
    for done in range(len(blocks)):
        rest = np.array(sorted(sum(blocks[done:], [])))  # noqa: RUF017
        assert [rest[block].tolist() for block in _blocks(lengths[rest], 10)] == blocks[done:]


def test_regions_bound_the_memory_and_change_nothing(monkeypatch):
    collection, candidates = ragged(9)
    whole = score_candidates(Recorder(), collection, candidates)
    monkeypatch.setattr("uprank.eval.scoring.REGION", 7)
    recorder = Recorder()
    parts = score_candidates(recorder, collection, candidates)
    assert parts.run == whole.run
    assert len(recorder.asked) == len(candidates.pairs) > 14


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_names_model_query_and_document_on_every_process(wrong, tmp_path):
    collection, candidates = ragged(9)
    cache = ScoreCache(tmp_path / "scores.sqlite")

    class Broken(Recorder):
        def score(self, texts, progress=None):
            scores = super().score(texts)
            scores[[pair == ("query 6", "x" * 3) for pair in texts]] = wrong
            return scores

    with pytest.raises(UserError) as caught:
        score_candidates(Broken(), collection, candidates, cache=cache, watch=Watch("tuned", 20))
    assert caught.value.problems == [f"tuned: score {wrong} for query 'q6', document 'd3'"]
    texts = [(collection.queries[q], collection.passages[d]) for q, d in candidates.pairs]
    _, _, found = cache.read(texts)
    assert ("query 6", "xxx") in texts
    assert not found[texts.index(("query 6", "xxx"))]
    assert found.any()  # the blocks before it

    cells = []
    for index in (0, 1):  # only one of them meets it; both have to say so

        def remember(array):
            cells.append(array.copy())
            return array

        with suppress(UserError, AssertionError):
            score_candidates(Broken(), collection, candidates, share=Share(index, 2, remember))
    shares = [Share(index, 2, lambda array: np.sum(cells, axis=0)) for index in (0, 1)]
    for index in (0, 1):
        with pytest.raises(UserError, match="query 'q6', document 'd3'"):
            score_candidates(Recorder(), collection, candidates, share=shares[index])


def test_a_pair_that_two_processes_score_is_noticed():
    collection, candidates = ragged(9)
    with pytest.raises(AssertionError, match="not scored exactly once"):
        score_candidates(Recorder(), collection, candidates, share=Share(0, 1, lambda array: 2 * array))
    with pytest.raises(AssertionError, match="not scored exactly once"):
        score_candidates(Recorder(), collection, candidates, share=Share(1, 2, lambda array: array))


def test_with_a_cache_only_the_new_pairs_are_scored(tmp_path):
    collection, candidates = ragged(9)
    limit = 6
    fewer = Candidates("bm25", 20, {q: row for q, row in candidates.run.items() if q != "q3"}, "bm25")
    cache = ScoreCache(tmp_path / "scores.sqlite")
    first, second, third = Recorder(limit), Recorder(limit), Recorder(limit)
    score_candidates(first, collection, fewer, cache=cache)
    scored = score_candidates(second, collection, candidates, cache=cache)
    assert {query for query, _ in second.asked} == {"query 3"}
    assert scored.cached == len(fewer.pairs) == len(first.asked)
    alone = score_candidates(Recorder(limit), collection, candidates)
    assert scored.run == alone.run
    assert scored.truncated == alone.truncated > 0
    assert scored.cut.tolist() == alone.cut.tolist()
    again = score_candidates(third, collection, candidates, cache=cache)
    assert third.asked == []
    assert (again.run, again.seconds, again.cached) == (alone.run, 0.0, len(candidates.pairs))
    assert alone.cached == 0


def test_seconds_are_those_of_scoring_on_the_slowest_process(tmp_path):
    collection, candidates = ragged(9)

    slept = []

    class Slow(Recorder):
        def score(self, texts, progress=None):
            begun = time.perf_counter()
            time.sleep(0.05)
            found = super().score(texts)
            slept.append(time.perf_counter() - begun)
            return found

    begun = time.perf_counter()
    seconds = score_candidates(Slow(), collection, candidates).seconds
    assert 0.05 <= sum(slept) <= seconds <= time.perf_counter() - begun
    sums = np.concatenate((np.ones(4 * len(candidates.pairs)), [3.0, 7.0, 0.0]))
    scored = score_candidates(
        Recorder(), collection, candidates, share=Share(0, 2, lambda array: sums), cache=None
    )
    assert scored.seconds == 7.0
