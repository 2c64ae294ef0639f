"""LoRA: the packed forward equals that of peft's own layers, and what is saved is a plain model."""

import pytest
import torch
from uprank.configs.errors import UserError
from uprank.model.forward.packing import pack
from uprank.model.lora import add_adapters, plain_state
from uprank.model.reranker import Reranker

pytest.importorskip("peft")
PAIRS = [
    ("what is bm25", "a ranking function"),
    ("what is bm25", "a motorway of some length"),
    ("and this", "no"),
]


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def folder(request):
    return request.getfixturevalue(request.param)


def with_adapters(folder, *, precision="fp32", targets=("query", "value", "dense"), filled=0.1):
    reranker = Reranker.load(folder, precision=precision)
    reranker.set_dropout(attention=0.0, hidden=0.0)
    add_adapters(reranker.model, rank=3, alpha=5.0, targets=targets, seed=1)
    if filled:  # as if they had been trained
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for name, weight in reranker.model.named_parameters():
                if "lora_B" in name:
                    weight.copy_(filled * torch.randn(weight.shape, generator=generator))
    return reranker


def packed_scores(reranker):
    batch = pack(reranker.pairs.encode_flat(PAIRS), device=torch.device("cpu"), keys=[1, 2, 3])
    return reranker.scorer(batch)


def plain_scores(reranker):
    inputs = reranker.tokenizer(
        [query for query, _ in PAIRS], [text for _, text in PAIRS], padding=True, return_tensors="pt"
    )
    return reranker.model(**inputs).logits[:, 0]


def test_scores_and_gradients_are_those_of_peft_in_transformers(folder):
    reranker = with_adapters(folder)
    reranker.scorer.train()
    grads = []
    for scores in (packed_scores(reranker), plain_scores(reranker)):
        reranker.model.zero_grad(set_to_none=True)
        scores.square().sum().backward()
        grads.append({name: weight.grad for name, weight in reranker.model.named_parameters()})
        grads[-1]["scores"] = scores.detach()
    ours, truth = grads
    assert any("lora_A" in name and grad is not None and grad.abs().max() > 0 for name, grad in truth.items())
    for name, grad in truth.items():
        assert (ours[name] is None) == (grad is None), name
        if grad is not None:
            size = max(1.0, float(grad.abs().max()))
            torch.testing.assert_close(ours[name], grad, atol=1e-4 * size, rtol=0, msg=name)


def test_only_adapters_and_the_head_are_trained(folder):
    model = with_adapters(folder).model
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert any("lora_A" in name for name in trained)
    assert all("lora_" in name or "classifier" in name or "pooler" in name for name in trained)
    heads = {name for name, _ in model.named_parameters() if "classifier" in name or "pooler" in name}
    assert heads <= trained
    assert not any("lora_" in name for name in heads)


def test_fresh_adapters_change_nothing_and_are_drawn_from_the_seed(folder):
    before = Reranker.load(folder).score(PAIRS)
    reranker = with_adapters(folder, filled=0.0)
    assert reranker.score(PAIRS) == pytest.approx(before, abs=1e-5)
    again = with_adapters(folder, filled=0.0)
    for (name, one), (_, two) in zip(
        reranker.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert torch.equal(one, two), name


def test_what_is_saved_is_a_plain_model_with_the_same_scores(folder, tmp_path):
    reranker = with_adapters(folder)
    reranker.save(tmp_path / "saved")
    plain = Reranker.load(tmp_path / "saved")
    names = set(Reranker.load(folder).model.state_dict())
    assert set(plain.model.state_dict()) == set(plain_state(reranker.model)) == names
    assert plain.score(PAIRS) == pytest.approx(reranker.score(PAIRS), abs=1e-5)
    assert max(abs(plain.score(PAIRS) - Reranker.load(folder).score(PAIRS))) > 1e-3
    assert plain.weights_hash() == reranker.weights_hash()


def test_bf16_is_near_fp32(folder):
    exact, plain = with_adapters(folder).score(PAIRS), Reranker.load(folder).score(PAIRS)
    found = with_adapters(folder, precision="bf16").score(PAIRS)
    effect = max(abs(exact - plain))
    assert max(abs(found - exact)) < 0.5 * effect, effect  # rounding, and no adapter left out


def test_a_target_that_is_not_there_is_named(folder):
    model = Reranker.load(folder).model
    with pytest.raises(UserError) as caught:
        add_adapters(model, rank=2, alpha=None, targets=["query", "q_proj"], seed=0)
    assert caught.value.problems == ["model.lora.targets: no layer of the body is called 'q_proj'"]
    assert "query, key, value, dense" in caught.value.advice
    assert not any("lora_" in name for name, _ in model.named_parameters())
