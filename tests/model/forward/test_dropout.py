"""Dropout is a function of (sequence key, place in the network) and of nothing else."""

import pytest
import torch
from uprank.model.forward.dropout import KeyedDropout, mix_bits
from uprank.model.forward.packed import packed_logits
from uprank.model.forward.packing import GRAIN, pack
from uprank.model.reranker import Reranker

CPU = torch.device("cpu")


def scores_in_training(reranker, pairs, keys):
    batch = pack(reranker.pairs.encode_flat(pairs, multiple_of=GRAIN), device=CPU, keys=keys)
    reranker.model.train()
    with torch.no_grad():
        return packed_logits(reranker.model, batch)


@pytest.mark.parametrize("family", ["tiny_xlmr", "tiny_bert"])
def test_a_sequence_drops_the_same_in_every_batch(family, request, pairs):
    reranker = Reranker.load(request.getfixturevalue(family), query_tokens=60)
    reranker.set_dropout(attention=0.3, hidden=0.2)
    keys = [mix_bits(1, number) for number in range(6)]
    together = scores_in_training(reranker, pairs[:6], keys)
    alone = torch.cat([scores_in_training(reranker, [pairs[i]], [keys[i]]) for i in (5, 2, 0)])
    torch.testing.assert_close(together[[5, 2, 0]], alone, atol=1e-5, rtol=1e-5)
    torch.rand(1000)  # the global generator has no say
    torch.testing.assert_close(scores_in_training(reranker, pairs[:6], keys), together)
    other = scores_in_training(reranker, pairs[:6], [key + 1 for key in keys])
    assert (other - together).abs().min() > 1e-4


@pytest.mark.parametrize("rates", [{"attention": 0.0, "hidden": 0.0}])
def test_without_dropout_training_scores_equal_evaluation_scores(rates, tiny_xlmr, pairs):
    reranker = Reranker.load(tiny_xlmr, query_tokens=60)
    reranker.set_dropout(**rates)
    reranker.model.classifier.dropout.p = 0.0
    expected = torch.from_numpy(reranker.score(pairs[:6]))
    torch.testing.assert_close(
        scores_in_training(reranker, pairs[:6], [0] * 6), expected, atol=1e-5, rtol=1e-5
    )


def test_rate_and_scale_are_those_of_dropout(tiny_xlmr, pairs):
    encoder = Reranker.load(tiny_xlmr, query_tokens=60).pairs
    batch = pack(
        encoder.encode_flat(pairs, multiple_of=GRAIN),
        device=CPU,
        keys=[mix_bits(3, i) for i in range(len(pairs))],
    )
    ones = torch.ones(len(batch.ids), 64)
    dropped = KeyedDropout(batch, active=True).tokens(ones, 0.25, site=4)[: batch.tokens]
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    again = KeyedDropout(batch, active=True).tokens(ones, 0.25, site=5)[: batch.tokens]
    both = ((again == 0) & (dropped == 0)).float().mean().item()
    assert both == pytest.approx(0.25 * 0.25, abs=0.005)  # places are independent


def test_rates_of_attention_and_hidden_are_set_apart(tiny_xlmr):
    reranker = Reranker.load(tiny_xlmr)
    own = reranker.model.base_model.embeddings.dropout.p
    reranker.set_dropout(attention=0.0, hidden=None)
    layer = reranker.model.base_model.encoder.layer[0]
    assert layer.attention.self.dropout.p == 0.0
    assert layer.output.dropout.p == reranker.model.base_model.embeddings.dropout.p == own > 0
