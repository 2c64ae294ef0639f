"""Contract 5: packed equals padded, scores and gradients, against transformers' own forward."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from uprank.model.forward.attention import attend_by_length, attend_padded
from uprank.model.forward.packed import can_pack, packed_logits
from uprank.model.forward.packing import GRAIN, pack
from uprank.model.forward.scorer import padded_logits
from uprank.model.load import load
from uprank.model.reranker import Reranker

FAMILIES = ["tiny_xlmr", "tiny_bert"]
CPU = torch.device("cpu")


def transformers_logits(model, tokenizer, pairs, max_length):
    """The forward of the model's README: the tokenizer pads, transformers does the rest."""
    encoded = tokenizer(
        [query for query, _ in pairs],
        [passage for _, passage in pairs],
        padding=True,
        truncation="only_second",
        max_length=max_length,
        return_tensors="pt",
    )
    return model(**encoded).logits[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_the_padded_forward_of_transformers(family, request, pairs):
    reranker = Reranker.load(request.getfixturevalue(family), query_tokens=60, max_tokens=128)
    assert reranker.scorer.packed
    with torch.no_grad():
        expected = transformers_logits(reranker.model, reranker.tokenizer, pairs, 128).numpy()
    scores = reranker.score(pairs)
    assert np.ptp(expected) > 0.5  # scores that are all the same would prove nothing
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_those_of_the_padded_forward(family, request, pairs):
    gradients = []
    for packed in (True, False):
        reranker = Reranker.load(request.getfixturevalue(family), query_tokens=60, max_tokens=128)
        model = reranker.model.eval()
        if packed:
            scores = packed_logits(
                model, pack(reranker.pairs.encode_flat(pairs, multiple_of=GRAIN), device=CPU)
            )
        else:
            scores = transformers_logits(model, reranker.tokenizer, pairs, 128)
        functional.cross_entropy(
            scores.view(-1, 8), torch.zeros(len(pairs) // 8, dtype=torch.long)
        ).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("first_only", [False, True])
def test_attention_with_padding_for_it_alone_equals_one_sequence_at_a_time(first_only, tiny_xlmr, pairs):
    encoder = Reranker.load(tiny_xlmr, query_tokens=60).pairs
    batch = pack(encoder.encode_flat(pairs[:9], multiple_of=GRAIN), device=CPU)
    torch.manual_seed(0)
    query, key, value = (torch.randn(len(batch.ids), 4, 8, requires_grad=True) for _ in range(3))
    asked = query[torch.tensor(batch.offsets[:-1])] if first_only else query
    one = attend_by_length(asked, key, value, batch)
    other = attend_padded(asked, key, value, batch)
    assert one.shape == other.shape == (len(asked), 32)
    torch.testing.assert_close(one, other)
    for left, right in zip(
        torch.autograd.grad(one.square().sum(), (key, value)),
        torch.autograd.grad(other.square().sum(), (key, value)),
        strict=True,
    ):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


def test_unused_tokens_at_the_end_change_nothing(tiny_xlmr, pairs):
    reranker = Reranker.load(tiny_xlmr, query_tokens=60)
    batch = pack(reranker.pairs.encode_flat(pairs[:3], multiple_of=GRAIN), device=CPU)
    assert len(batch.ids) % GRAIN == 0
    assert len(batch.ids) > batch.tokens
    with torch.no_grad():
        before = packed_logits(reranker.model, batch)
        batch.ids[batch.tokens :] = 7
        torch.testing.assert_close(packed_logits(reranker.model, batch), before)


def test_architectures_that_cannot_be_packed_are_padded_and_it_is_said(tiny_electra, pairs, caplog):
    with caplog.at_level("INFO"):
        reranker = Reranker.load(tiny_electra, query_tokens=60)
    assert not reranker.scorer.packed
    assert "cannot be packed" in caplog.text
    with torch.no_grad():
        expected = transformers_logits(reranker.model, reranker.tokenizer, pairs, 128).numpy()
    np.testing.assert_allclose(reranker.score(pairs), expected, atol=1e-5)


def test_padded_fallback_equals_packed_on_a_model_that_knows_both(tiny_bert, pairs):
    reranker = Reranker.load(tiny_bert, query_tokens=60)
    batch = pack(reranker.pairs.encode_flat(pairs, multiple_of=GRAIN), device=CPU)
    with torch.no_grad():
        torch.testing.assert_close(
            packed_logits(reranker.model, batch), padded_logits(reranker.model, batch), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_do_not_depend_on_the_token_budget_or_the_order(family, request, pairs):
    folder = request.getfixturevalue(family)
    wide = Reranker.load(folder, query_tokens=60).score(pairs)
    narrow = Reranker.load(folder, query_tokens=60, tokens_per_batch=1).score(pairs)
    np.testing.assert_allclose(wide, narrow, atol=1e-5)
    back = Reranker.load(folder, query_tokens=60).score(pairs[::-1])[::-1]
    np.testing.assert_allclose(wide, back, atol=1e-5)


def test_bf16_keeps_fp32_weights_and_stays_near(tiny_xlmr, pairs):
    reranker = Reranker.load(tiny_xlmr, query_tokens=60, precision="bf16")
    exact = Reranker.load(tiny_xlmr, query_tokens=60).score(pairs)
    scores = reranker.score(pairs)
    assert scores.dtype == np.float32
    assert {p.dtype for p in reranker.model.parameters()} == {torch.float32}
    assert 0 < np.abs(scores - exact).max() < 0.1 * np.ptp(exact)


def test_only_known_architectures_are_packed(tiny_xlmr, tiny_bert, tiny_electra):
    assert can_pack(load(str(tiny_xlmr)).model)
    assert can_pack(load(str(tiny_bert)).model)
    assert not can_pack(load(str(tiny_electra)).model)
    decoder = load(str(tiny_bert)).model
    decoder.config.is_decoder = True
    assert not can_pack(decoder)
