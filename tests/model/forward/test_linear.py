"""The word table's gradient, written once a step, is nn.Embedding's; bf16 copies are those of now."""

import torch
from torch import nn
from uprank.model.forward.linear import Products, WordTable


def test_gradient_of_several_batches_is_written_at_the_last():
    torch.manual_seed(0)
    ours, theirs = nn.Embedding(20, 4, padding_idx=1), nn.Embedding(20, 4, padding_idx=1)
    theirs.load_state_dict(ours.state_dict())
    batches = [torch.randint(0, 20, (7,)) for _ in range(3)]
    directions = [torch.randn(7, 4) for _ in batches]
    table = WordTable()
    for number, (ids, direction) in enumerate(zip(batches, directions, strict=True)):
        last = number == len(batches) - 1
        (table(ids, ours, last=last) * direction).sum().backward()
        assert (ours.weight.grad is None) != last
        (theirs(ids) * direction).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    (table(batches[0], ours, last=True) * directions[0]).sum().backward()  # nothing is left of the last step
    (theirs(batches[0]) * directions[0]).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_what_waits_does_not_grow_with_the_step(monkeypatch):
    monkeypatch.setattr("uprank.model.forward.linear.MOST_ROWS", 30)
    torch.manual_seed(0)
    ours, theirs = nn.Embedding(20, 4), nn.Embedding(20, 4)
    theirs.load_state_dict(ours.state_dict())
    table = WordTable()
    for number in range(50):
        ids, direction = torch.randint(0, 20, (7,)), torch.randn(7, 4)
        (table(ids, ours, last=number == 49) * direction).sum().backward()
        (theirs(ids) * direction).sum().backward()
        assert sum(len(waiting) for waiting, _ in table._waiting) <= 30
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_adapters_and_layers_without_bias_take_part_in_bf16():
    class Adapted(nn.Linear):
        """As adapters replace a layer."""

    products, states = Products(torch.bfloat16), torch.randn(3, 8).bfloat16()
    for layer in (Adapted(8, 5), nn.Linear(8, 5, bias=False)):
        found = products(states, layer)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), layer(states.float()), atol=2e-2, rtol=2e-2)


def test_a_frozen_table_has_no_gradient():
    embedding = nn.Embedding(20, 4)
    embedding.weight.requires_grad_(False)
    assert not WordTable()(torch.tensor([1, 2]), embedding, last=True).requires_grad


def test_bf16_products_are_those_of_autocast_and_follow_the_weights():
    torch.manual_seed(0)
    layer, products = nn.Linear(8, 5), Products(torch.bfloat16)
    states = torch.randn(6, 8, requires_grad=True)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = layer(states)
        direction = torch.randn_like(expected)
        wanted = torch.autograd.grad((expected * direction).sum(), (states, layer.weight, layer.bias))
        found = products(states, layer)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected)
        got = torch.autograd.grad((found * direction).sum(), (states, layer.weight, layer.bias))
        assert [grad.dtype for grad in got] == [torch.float32] * 3
        for left, right in zip(got, wanted, strict=True):
            torch.testing.assert_close(left, right, atol=2e-2, rtol=2e-2)
        with torch.no_grad():
            layer.weight.mul_(-2)
