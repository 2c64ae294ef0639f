"""The learning rate, the parameter groups and the optimizer's state on disk."""

import sys

import pytest
import torch
from safetensors.torch import load, save
from transformers import get_linear_schedule_with_warmup
from uprank.configs import validate_train as check_train
from uprank.configs.errors import UserError
from uprank.configs.schema_train import OptimSettings, TrainCommand, TrainDataSettings
from uprank.model.reranker import Reranker
from uprank.train.optim.optimizer import (
    make_optimizer,
    optimizer_state,
    rate_factor,
    restore_optimizer,
    set_rate,
)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_the_rate_is_that_of_transformers(steps, warmup):
    ours = [rate_factor(step, steps=steps, warmup_ratio=warmup) for step in range(steps)]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rising = min(round(steps * warmup), steps - 1)
    schedule = get_linear_schedule_with_warmup(optimizer, rising, steps)
    theirs = []
    for _ in range(steps):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert ours == pytest.approx(theirs)
    assert max(ours) == 1.0
    assert min(ours[1:] or ours) > 0  # every step but the first of a warm-up learns, and a single one, too


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


NAMES = ["adamw", "adamw_8bit", "adafactor"]


def trained(folder, name, steps, restored=None):
    """Weights and states after some steps of made-up gradients, through the file of a checkpoint."""
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    reranker = Reranker.load(folder)
    optimizer = make_optimizer(reranker.model, OptimSettings(name=name, learning_rate=1e-2), new_head=False)
    set_rate(optimizer, 1.0)
    if restored:
        reranker.model.load_state_dict(restored[0])
        restore_optimizer(reranker.model, optimizer, load(save(restored[1])))
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in reranker.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return reranker.model.state_dict(), optimizer_state(reranker.model, optimizer)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_comes_back_bit_for_bit(tiny_xlmr, name):
    whole, states = trained(tiny_xlmr, name, range(5))
    half = trained(tiny_xlmr, name, range(2))
    resumed, again = trained(tiny_xlmr, name, range(2, 5), restored=half)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert states.keys() == again.keys()
    assert all(torch.equal(states[key], again[key]) for key in states)
    forgotten, _ = trained(tiny_xlmr, name, range(2, 5), restored=(half[0], {}))
    assert not all(torch.equal(whole[key], forgotten[key]) for key in whole)


def test_moments_of_8_bit_are_a_quarter_as_large_and_learn_the_same(tiny_xlmr):
    start = Reranker.load(tiny_xlmr).model.state_dict()
    (full, large), (eight, small) = (trained(tiny_xlmr, name, range(3)) for name in NAMES[:2])
    table = next(name for name in start if name.endswith("word_embeddings.weight"))
    assert small[f"{table}/state1"].dtype == torch.uint8
    assert large[f"{table}/exp_avg"].nbytes == 4 * small[f"{table}/state1"].nbytes
    moved, differ = (full[table] - start[table]).norm(), (full[table] - eight[table]).norm()
    assert 0 < differ < 0.1 * moved


def test_adafactor_has_no_moments_of_matrices(tiny_xlmr):
    _, states = trained(tiny_xlmr, "adafactor", range(2))
    weights = sum(weight.nbytes for weight in Reranker.load(tiny_xlmr).model.parameters())
    assert sum(state.nbytes for state in states.values()) < weights / 4


def test_without_bitsandbytes_the_line_that_installs_it_is_said(monkeypatch, tiny_xlmr):
    model, settings = Reranker.load(tiny_xlmr).model, OptimSettings(name="adamw_8bit")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError, match=r'pip install "uprank\[8bit\]"'):
        make_optimizer(model, settings, new_head=False)
    monkeypatch.setattr(check_train, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "uprank\[8bit\]"'):
        check_train.check_train(TrainCommand(optim=settings, data=TrainDataSettings(train="t")))
