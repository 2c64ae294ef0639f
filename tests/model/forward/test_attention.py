"""Every way of attention gives what softmax(q kᵀ / sqrt(D)) v says, values and gradients."""

import pytest
import torch
from uprank.model.forward.attention import attend_by_length, attend_dropping, attend_padded, attend_varlen
from uprank.model.forward.dropout import KeyedDropout
from uprank.model.forward.packing import PackedBatch

HEADS, SIZE = 3, 4
LENGTHS = [5, 5, 9, 2, 2, 2, 7]


@pytest.fixture
def batch():
    offsets = [0]
    for length in LENGTHS:
        offsets.append(offsets[-1] + length)
    ids = torch.zeros(40, dtype=torch.int64)
    return PackedBatch(ids, ids, ids, offsets, [10 + number for number in range(len(LENGTHS))])


@pytest.fixture(params=[False, True], ids=["all tokens", "first tokens"])
def states(request, batch):
    torch.manual_seed(0)
    query, key, value = (torch.randn(40, HEADS, SIZE, dtype=torch.float64) for _ in range(3))
    if request.param:
        query = query[torch.tensor(batch.offsets[:-1])]
    return [state.requires_grad_() for state in (query, key, value)]


def by_definition(query, key, value, batch, masks=None):
    """Sequence by sequence and head by head, in float64."""
    rows = []
    for number, (start, stop) in enumerate(batch.spans):
        own = query[number : number + 1] if len(query) == len(LENGTHS) else query[start:stop]
        heads = []
        for head in range(HEADS):
            weights = torch.softmax(own[:, head] @ key[start:stop, head].T / SIZE**0.5, dim=-1)
            weights = weights if masks is None else weights * masks[number][head]
            heads.append(weights @ value[start:stop, head])
        rows.append(torch.cat(heads, dim=1))
    found = torch.cat(rows)
    return torch.cat([found, found.new_zeros(len(query) - len(found), HEADS * SIZE)])


def reference_varlen(query, key, value, ends, key_ends, longest, key_longest):
    """The contract of torch.nn.attention.varlen.varlen_attn, written out."""
    assert ends.dtype == key_ends.dtype == torch.int32
    found = []
    for i in range(len(ends) - 1):
        q, k, v = (
            query[ends[i] : ends[i + 1]],
            key[key_ends[i] : key_ends[i + 1]],
            value[key_ends[i] : key_ends[i + 1]],
        )
        assert len(q) <= longest
        assert len(k) <= key_longest
        weights = torch.softmax(torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5, dim=-1)
        found.append(torch.einsum("hqk,khd->qhd", weights, v))
    return torch.cat(found)


WAYS = {
    "by length": attend_by_length,
    "padded": attend_padded,
    "varlen": lambda *given: attend_varlen(*given, kernel=reference_varlen),
}


def assert_same(found, expected, states):
    """Equal values, and equal gradients in some direction."""
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(expected)
    for left, right in zip(
        torch.autograd.grad((found * direction).sum(), states),
        torch.autograd.grad((expected * direction).sum(), states),
        strict=True,
    ):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("way", WAYS)
def test_without_dropout(way, states, batch):
    expected, found = by_definition(*states, batch), WAYS[way](*states, batch)
    assert_same(found, expected, states)


def test_with_dropout(states, batch):
    rate, site = 0.3, 8
    dropout = KeyedDropout(batch, active=True)
    masks = []
    for number, length in enumerate(LENGTHS):
        rows = 1 if len(states[0]) == len(LENGTHS) else length
        masks.append(dropout.kept((HEADS, rows, length), rate, site, number).double() / (1 - rate))
    expected = by_definition(*states, batch, masks)
    found = attend_dropping(*states, dropout, rate, site)
    assert_same(found, expected, states)
    assert any(bool((mask == 0).any()) for mask in masks)
