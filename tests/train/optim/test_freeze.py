"""What is frozen stays as it is, and everything else learns as it would."""

import pytest
import torch
from uprank.configs.errors import UserError
from uprank.configs.schema_train import OptimSettings
from uprank.model.forward.packing import pack
from uprank.model.reranker import Reranker
from uprank.train.optim.freeze import freeze_parameters
from uprank.train.optim.optimizer import make_optimizer, set_rate

PAIRS = [("what is bm25", "a ranking function"), ("what is bm25", "a motorway"), ("and this", "no")]


def gradients(folder, frozen, precision="fp32"):
    """Gradient of the squared scores by parameter name, through the packed forward."""
    reranker = Reranker.load(folder, precision=precision)
    reranker.set_dropout(attention=0.0, hidden=0.0)
    freeze_parameters(reranker.model, frozen)
    reranker.scorer.train()
    batch = pack(reranker.pairs.encode_flat(PAIRS), device=torch.device("cpu"), keys=[1, 2, 3])
    reranker.scorer(batch).square().sum().backward()
    return {name: weight.grad for name, weight in reranker.model.named_parameters()}, reranker.model


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("frozen", ["embeddings", ["embeddings", "layer.0"], ["layer.1"], ["classifier"]])
def test_the_rest_has_the_gradients_that_it_had(tiny_xlmr, frozen, precision):
    whole, _ = gradients(tiny_xlmr, [], precision)
    found, _ = gradients(tiny_xlmr, frozen, precision)
    names = [frozen] if isinstance(frozen, str) else frozen
    inside = {key for key in whole if any(f".{name}." in f".{key}." for name in names)}
    assert inside
    assert {key for key, grad in found.items() if grad is None} >= inside
    for key in whole.keys() - inside:
        if whole[key] is not None:
            assert torch.equal(found[key], whole[key]), key


def test_a_step_changes_only_what_is_not_frozen(tiny_xlmr):
    _, model = gradients(tiny_xlmr, ["embeddings"])
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = make_optimizer(model, OptimSettings(learning_rate=0.1), new_head=False)
    set_rate(optimizer, 1.0)
    optimizer.step()
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) == (".embeddings." in name or weight.grad is None), name


def test_how_many_are_frozen(tiny_xlmr):
    model = Reranker.load(tiny_xlmr).model
    embeddings = sum(w.numel() for n, w in model.named_parameters() if ".embeddings." in n)
    assert freeze_parameters(model, "embeddings") == embeddings > 0


def test_names_of_nothing_are_refused_with_those_that_there_are(tiny_xlmr):
    model = Reranker.load(tiny_xlmr).model
    with pytest.raises(UserError) as caught:
        freeze_parameters(model, ["embedding", "layer.7", "layer.0"])
    assert caught.value.problems == [
        "model.freeze: no parameter lies in 'embedding'",
        "model.freeze: no parameter lies in 'layer.7'",
    ]
    assert "embeddings, layer.0, layer.1" in caught.value.advice
    assert all(weight.requires_grad for weight in model.parameters())
    with pytest.raises(UserError, match="nothing is left to train"):
        freeze_parameters(model, ["roberta", "classifier"])


def test_lower_layers_learn_slower(tiny_xlmr):
    model = Reranker.load(tiny_xlmr).model
    settings = OptimSettings(learning_rate=1.0, head_learning_rate=5.0, layer_decay=0.5)
    names = {weight: name for name, weight in model.named_parameters()}
    optimizer = make_optimizer(model, settings, new_head=True)
    assert set_rate(optimizer, 1.0) == 0.5  # of the body's last layer
    rates = {names[weight]: group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    layers = model.config.num_hidden_layers
    assert rates.keys() == set(names.values())
    for name, rate in rates.items():
        if "classifier" in name:
            assert rate == 5.0
        elif "embeddings" in name:
            assert rate == 0.5 ** (layers + 1)
        else:
            assert rate == 0.5 ** (layers - int(name.split(".layer.")[1].split(".")[0])), name
