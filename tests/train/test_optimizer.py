"""The learning rate, the parameter groups and the optimiser's state on disk."""

import pytest
import torch
from uprank.configs.schema_train import OptimSettings
from uprank.model.reranker import Reranker
from uprank.train.optimizer import make_optimizer, optimizer_state, rate_factor, restore_optimizer, set_rate


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_the_rate_rises_then_falls_and_never_is_zero(steps, warmup):
    factors = [rate_factor(step, steps=steps, warmup_ratio=warmup) for step in range(steps)]
    top = factors.index(max(factors))
    assert max(factors) == pytest.approx(1.0)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert min(factors) > 0


def test_biases_and_norms_have_no_decay_and_a_new_head_its_own_rate(tiny_xlmr):
    model = Reranker.load(tiny_xlmr).model
    settings = OptimSettings(learning_rate=1e-4, head_learning_rate=1e-3, weight_decay=0.1)
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen = []
    for group in make_optimizer(model, settings, new_head=True).param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            seen.append(name)
            assert group["weight_decay"] == (0.0 if name.endswith("bias") or "LayerNorm" in name else 0.1)
            assert group["base_lr"] == (1e-3 if name.startswith("classifier") else 1e-4)
    assert sorted(seen) == sorted(names.values())
    rates = {group["base_lr"] for group in make_optimizer(model, settings, new_head=False).param_groups}
    assert rates == {1e-4}


def test_the_state_comes_back_bit_for_bit(tiny_xlmr):
    def trained(steps, restored=None):
        reranker = Reranker.load(tiny_xlmr)
        optimizer = make_optimizer(reranker.model, OptimSettings(), new_head=False)
        set_rate(optimizer, 1.0)
        if restored:
            reranker.model.load_state_dict(restored[0])
            restore_optimizer(reranker.model, optimizer, restored[1])
        for step in steps:
            for place, parameter in enumerate(reranker.model.parameters()):
                parameter.grad = torch.full_like(parameter, 0.1 * (step + 1) * (-1) ** place)
            optimizer.step()
        return reranker.model.state_dict(), optimizer_state(reranker.model, optimizer)

    whole, _ = trained(range(5))
    half = trained(range(2))
    resumed, _ = trained(range(2, 5), restored=half)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
