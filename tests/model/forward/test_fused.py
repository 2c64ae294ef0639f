"""Scoring on a CPU: the fused forward gives the scores of transformers, and follows the weights."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from uprank.model.forward.fused import FusedForward, can_fuse
from uprank.model.forward.packed import packed_logits
from uprank.model.forward.packing import GRAIN, pack
from uprank.model.reranker import Reranker

CPU = torch.device("cpu")
FAMILIES = ["tiny_xlmr", "tiny_bert"]


def batch_of(reranker, pairs):
    return pack(reranker.pairs.encode_flat(pairs, multiple_of=GRAIN), device=CPU)


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_scores_equal_transformers_own(family, request, pairs):
    reranker = Reranker.load(request.getfixturevalue(family), query_tokens=60, max_tokens=128)
    model, tokenizer = reranker.model, reranker.tokenizer
    assert can_fuse(model)
    # Equal lengths side by side go through one attention kernel: some pairs come several times.
    given = [pair for pair in pairs[:9] for _ in range(3)]
    with torch.inference_mode():
        found = FusedForward(model, torch.float32).logits(batch_of(reranker, given))
        for pair, score in zip(given, found.tolist(), strict=True):
            inputs = tokenizer(*pair, truncation="only_second", max_length=128, return_tensors="pt")
            expected = model(**inputs).logits[0, 0].item()
            assert score == pytest.approx(expected, abs=1e-5)
    assert found.std() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_near_and_not_the_same(family, request, pairs):
    folder = request.getfixturevalue(family)
    exact = Reranker.load(folder, query_tokens=60).score(pairs)
    rough = Reranker.load(folder, query_tokens=60, precision="bf16").score(pairs)
    # These models multiply rounding errors on purpose, see tests/conftest.py.
    assert 0 < np.median(np.abs(exact - rough)) < 0.03 * np.ptp(exact)
    assert len(np.unique(rough)) == len(np.unique(exact))  # logits of the head keep their digits


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scores_follow_the_weights(precision, tiny_xlmr, pairs):
    reranker = Reranker.load(tiny_xlmr, query_tokens=60, precision=precision)
    before = reranker.score(pairs)
    prepared = reranker.scorer.prepare()
    assert reranker.scorer.prepare() is prepared  # made once for one state of the weights
    with torch.no_grad():
        reranker.model.roberta.encoder.layer[1].intermediate.dense.weight.mul_(1.5)
    after = reranker.score(pairs)
    assert np.abs(after - before).max() > 1e-3
    with torch.no_grad():
        expected = packed_logits(reranker.model.eval(), batch_of(reranker, pairs)).numpy()
    assert np.median(np.abs(after - expected)) < (1e-5 if precision == "fp32" else 0.15)
    reranker.scorer.train()
    assert reranker.scorer._fused is None  # no memory for it while training


def test_what_is_not_plain_is_not_fused(tiny_xlmr):
    model = Reranker.load(tiny_xlmr).model
    dense = model.roberta.encoder.layer[0].output.dense
    handle = dense.register_forward_hook(lambda *_: None)
    assert not can_fuse(model)
    handle.remove()
    assert can_fuse(model)

    class Adapted(torch.nn.Linear):
        """As adapters replace a layer."""

    model.roberta.encoder.layer[0].output.dense = Adapted(dense.in_features, dense.out_features)
    assert not can_fuse(model)


def test_a_scorer_that_has_scored_can_be_copied_and_replicated(tiny_xlmr, pairs):
    reranker = Reranker.load(tiny_xlmr, query_tokens=60, precision="bf16")
    expected = reranker.score(pairs[:5])
    twin = copy.deepcopy(reranker.scorer)
    replica = reranker.scorer.replica()
    own = dict(reranker.model.named_parameters())
    assert all(w.data_ptr() == own[name].data_ptr() for name, w in replica.model.named_parameters())
    assert all(w.data_ptr() != own[name].data_ptr() for name, w in twin.model.named_parameters())
    with torch.inference_mode():
        for scorer in (twin, replica.eval()):
            scores = scorer(batch_of(reranker, pairs[:5])).numpy()
            np.testing.assert_allclose(scores, expected, atol=0.2)


def test_loading_and_scoring_inside_inference_mode(tiny_xlmr, pairs):
    expected = Reranker.load(tiny_xlmr, query_tokens=60).score(pairs[:5])
    with torch.inference_mode():
        found = Reranker.load(tiny_xlmr, query_tokens=60).score(pairs[:5])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_user_threads_may_share_a_reranker(tiny_xlmr, pairs, monkeypatch):
    monkeypatch.setattr("uprank.data.encoding.pairs.HELD", 2000)  # forgets all the time
    reranker = Reranker.load(tiny_xlmr, query_tokens=60)
    expected = reranker.score(pairs)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: reranker.score(pairs), range(12)):
            np.testing.assert_allclose(found, expected, atol=1e-5)
