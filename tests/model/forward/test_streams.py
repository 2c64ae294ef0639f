"""Streams side by side: every item once, errors out, threads as they were."""

import threading
import time

import numpy as np
import pytest
import torch
from uprank.model.forward.streams import count_streams, run_in_streams
from uprank.model.reranker import Reranker


@pytest.mark.parametrize("streams", [1, 2, 5])
def test_every_item_is_worked_on_once(streams):
    done, lock = [], threading.Lock()

    def work(item):
        with lock:
            done.append(item)

    before = torch.get_num_threads()
    run_in_streams(work, range(50), streams)
    assert sorted(done) == list(range(50))
    assert torch.get_num_threads() == before


def test_streams_really_work_at_the_same_time():
    meeting = threading.Barrier(3, timeout=120)  # passes only when three wait at once
    run_in_streams(lambda _: meeting.wait(), range(3), 3)


@pytest.mark.parametrize("streams", [1, 3])
def test_the_first_error_is_raised_and_ends_all(streams):
    seen = []

    def work(item):
        seen.append(item)
        if item == 4:
            raise ValueError("item 4")
        if item > 4:
            time.sleep(0.01)  # the others do not get through all before the error is seen

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="item 4"):
        run_in_streams(work, range(10_000), streams)
    assert len(seen) < 10_000
    assert torch.get_num_threads() == before


def test_other_devices_have_one_stream():
    assert count_streams(torch.device("meta")) == 1
    assert count_streams(torch.device("cpu")) == min(8, torch.get_num_threads())


def test_scores_do_not_depend_on_the_number_of_streams(tiny_xlmr, pairs, monkeypatch):
    reranker = Reranker.load(tiny_xlmr, query_tokens=60, tokens_per_batch=100)
    scores, told = [], []
    for streams in (1, 4):
        monkeypatch.setattr("uprank.model.reranker.count_streams", lambda _, n=streams: n)
        scores.append(reranker.score(pairs, progress=told.append))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)  # 4e-6 on CPUs with AVX2 only
    assert sum(told) == 2 * len(set(pairs))
