"""The plans of what goes together lose nothing, repeat nothing and keep to the budget."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from uprank.model.forward.packing import plan_by_length, plan_groups, share_out

SIZES = st.lists(st.integers(1, 600), min_size=1, max_size=60)


@given(SIZES, st.integers(1, 2000))
def test_scoring_batches_hold_every_pair_once_and_fit(sizes, budget):
    lengths = np.array(sizes)
    batches = list(plan_by_length(lengths, budget))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= budget
    assert lengths[batches[0]].max() == max(sizes)  # the largest first


@given(SIZES, st.integers(1, 2000))
def test_training_batches_keep_order_and_fit(sizes, budget):
    batches = plan_groups(sizes, budget)
    assert [index for batch in batches for index in batch] == list(range(len(sizes)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or sum(sizes[index] for index in batch) <= budget


@given(SIZES, st.integers(1, 5))
def test_processes_share_the_groups_evenly(sizes, processes):
    shares = share_out(sizes, processes)
    assert sorted(index for share in shares for index in share) == list(range(len(sizes)))
    loads = [sum(sizes[index] for index in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes)
    assert share_out(sizes, processes) == shares
