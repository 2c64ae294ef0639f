"""The contrastive loss against a float64 brute force and against torch's cross-entropy."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from uprank.configs.check import LOSSES as ALLOWED
from uprank.train.loss import LOSSES, listwise

GROUPS = st.lists(
    st.tuples(
        st.lists(st.floats(-30, 30), min_size=1, max_size=3),
        st.lists(st.floats(-30, 30), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=5,
)


def brute_force(positives, negatives, temperature):
    terms = []
    for p in positives:
        below = sum(math.exp((n - p) / temperature) for n in negatives)
        terms.append(math.log1p(below))
    return sum(terms) / len(terms)


def flat(groups):
    scores = [s for positives, negatives in groups for s in (*positives, *negatives)]
    marks = [m for p, n in groups for m in ([True] * len(p) + [False] * len(n))]
    offsets = [0]
    for positives, negatives in groups:
        offsets.append(offsets[-1] + len(positives) + len(negatives))
    return torch.tensor(scores), torch.tensor(marks), offsets


@given(GROUPS, st.sampled_from([0.5, 1.0, 3.0]))
def test_ragged_groups_equal_the_brute_force(groups, temperature):
    losses = listwise(*flat(groups), temperature=temperature)
    expected = [brute_force(p, n, temperature) for p, n in groups]
    torch.testing.assert_close(losses.double(), torch.tensor(expected).double(), rtol=1e-5, atol=1e-5)


@given(GROUPS)
def test_gradients_equal_float64_differences(groups):
    scores, marks, offsets = flat(groups)
    scores.requires_grad_()
    listwise(scores, marks, offsets).sum().backward()
    flat_scores = [s for p, n in groups for s in (*p, *n)]
    for place in range(len(flat_scores)):
        values = []
        for step in (1e-4, -1e-4):
            moved = flat_scores.copy()
            moved[place] += step
            rest = iter(moved)
            again = [([next(rest) for _ in p], [next(rest) for _ in n]) for p, n in groups]
            values.append(sum(brute_force(p, n, 1.0) for p, n in again))
        assert scores.grad[place].item() == pytest.approx((values[0] - values[1]) / 2e-4, abs=2e-4)


def test_one_positive_is_the_cross_entropy_over_the_group():
    scores = torch.randn(4, 8)
    marks = torch.zeros(4, 8, dtype=torch.bool)
    marks[:, 0] = True
    losses = listwise(scores.flatten(), marks.flatten(), [0, 8, 16, 24, 32])
    expected = functional.cross_entropy(scores, torch.zeros(4, dtype=torch.long), reduction="none")
    torch.testing.assert_close(losses, expected)


def test_the_place_in_the_group_does_not_matter():
    scores, marks = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([True, False, False])
    order = torch.tensor([1, 0, 2])
    one, other = listwise(scores, marks, [0, 3]), listwise(scores[order], marks[order], [0, 3])
    torch.testing.assert_close(one, other)


def test_far_scores_stay_finite():
    for value in (-1e4, 1e4):
        scores = torch.tensor([value, 0.0], requires_grad=True)
        loss = listwise(scores, torch.tensor([True, False]), [0, 2])
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert torch.isfinite(scores.grad).all()


def test_bf16_scores_are_raised_to_fp32():
    scores = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    assert listwise(scores, torch.tensor([True, False]), [0, 2]).dtype == torch.float32


def test_settings_allow_exactly_the_losses_that_exist():
    assert tuple(LOSSES) == ALLOWED
