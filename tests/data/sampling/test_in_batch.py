"""In-batch negatives: which foreign passages a group may see, and that nothing else decides them."""

import doctest
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uprank.data.groups import Group, same_query, same_text
from uprank.data.sampling import in_batch
from uprank.data.sampling.draws import Draw
from uprank.data.sampling.in_batch import in_batch_negatives, positives_of_repeated


def drawn(groups, chosen=1):
    """The first `chosen` positives of each group, all of its negatives."""
    draws = []
    for place, raw in enumerate(groups):
        group = raw.prompted
        negatives, scores = group.negatives, (*group.scores[:chosen], *group.scores[len(group.positives) :])
        draws.append(
            Draw(place, 100 + place, group.query, group.positives[:chosen], negatives, (1,) * chosen, scores)
        )
    return draws


def row(query, positives, negatives=("no",), **more):
    return Group(query, tuple(positives), tuple(negatives), "here", **more)


def added(groups, per_group=50, seed=3, chosen=1):
    draws = drawn(groups, chosen)
    found = in_batch_negatives(draws, groups, per_group=per_group, seed=seed)
    for before, after in zip(draws, found, strict=True):
        count = len(before.negatives)
        assert after.negatives[:count] == before.negatives
        assert replace(after, negatives=before.negatives, scores=before.scores) == before
    return [set(after.negatives[len(before.negatives) :]) for before, after in zip(draws, found, strict=True)]


def test_every_group_sees_the_positives_of_the_others():
    groups = [row(f"q{n}", [f"p{n}"]) for n in range(4)]
    assert added(groups) == [{f"p{m}" for m in range(4) if m != n} for n in range(4)]


def test_only_positives_that_were_drawn_are_offered():
    groups = [row("q0", ["p0", "second"]), row("q1", ["p1"])]
    assert added(groups)[1] == {"p0"}


def test_a_known_positive_is_never_taken():
    """Of the row, drawn or not, and of rows with the same query; case and blanks do not matter."""
    groups = [
        row("What is it?", ["first", "second", "The  THIRD"]),
        row("other", ["Second"]),
        row("another", ["the third"]),
        row("what is it", ["its own"]),
        row("last", ["far"]),
    ]
    first, *_, fourth, _ = added(groups)
    assert first == {"far"}
    assert fourth == {"far"}


def test_nor_the_query_itself_nor_what_the_group_has():
    groups = [
        row("Red rose", ["p"], ["No"]),
        row("a", ["red  ROSE"]),
        row("b", ["no"]),
        row("c", ["q"]),
        row("d", ["Q "]),
    ]
    assert added(groups)[0] in ({"q"}, {"Q "})


def test_prompts_are_those_of_the_group_that_a_passage_comes_to():
    groups = [
        row("red", ["p0", "both"], query_prompt="query: ", passage_prompt="passage: "),
        row("blue", ["p1"], passage_prompt="text: "),
        row("green", ["both"]),
        row("query: red", ["p3"]),
    ]
    assert added(groups)[0] == {"passage: p1", "passage: p3"}  # not `both`
    assert added(groups)[1] == {"text: p0", "text: both", "text: p3"}
    assert added(groups)[2] == {"p0", "p1", "p3"}
    # A passage that is the query without its prompt.
    assert added([groups[0], row("z", ["RED"])])[0] == set()


def test_scores_of_a_teacher_are_dropped_and_nothing_changes_for_zero():
    groups = [row("q0", ["p0"], scores=(1.0, 0.0)), row("q1", ["p1"], scores=(1.0, 0.0))]
    draws = drawn(groups)
    assert draws[0].scores == (1.0, 0.0)
    assert in_batch_negatives(draws, groups, per_group=0, seed=0) == draws
    assert [draw.scores for draw in in_batch_negatives(draws, groups, per_group=1, seed=0)] == [(), ()]


WORDS = st.sampled_from(["a", "b", "c", "d", "e", "A", " b", "c  d", "C D", "x?", "x"])
GROUPS = st.lists(
    st.builds(row, WORDS, st.lists(WORDS, min_size=1, max_size=3), st.lists(WORDS, min_size=1, max_size=2)),
    min_size=1,
    max_size=8,
)


@given(GROUPS, st.integers(1, 5), st.integers(0, 9), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_guard_and_the_order_hold_for_all_steps(groups, per_group, seed, shuffler):
    draws = drawn(groups)
    found = in_batch_negatives(draws, groups, per_group=per_group, seed=seed)
    for group, before, after in zip(groups, draws, found, strict=True):
        new = after.negatives[len(before.negatives) :]
        alike = [other for other in groups if same_query(other.query) == same_query(group.query)]
        forbidden = {same_text(text) for other in alike for text in other.positives}
        forbidden |= {same_text(text) for text in (group.query, *before.negatives)}
        offered = {same_text(other.positives[0]) for other in groups}
        assert not forbidden & {same_text(text) for text in new}
        assert len({same_text(text) for text in new}) == len(new) == min(per_group, len(offered - forbidden))
        assert {same_text(text) for text in new} <= offered
    order = shuffler.sample(range(len(draws)), len(draws))
    mixed = in_batch_negatives(
        [draws[i] for i in order], [groups[i] for i in order], per_group=per_group, seed=seed
    )
    assert mixed == [found[i] for i in order]


@pytest.mark.parametrize("changed", ["seed", "position"])
def test_seed_and_position_change_what_is_taken_and_all_are_taken_alike(changed):
    groups = [row(f"q{n}", [f"p{n}"]) for n in range(11)]
    counts = dict.fromkeys((f"p{n}" for n in range(1, 11)), 0)
    for turn in range(600):
        draws, seed = drawn(groups), 5
        if changed == "seed":
            seed = turn
        else:
            draws[0] = replace(draws[0], position=turn)
        for text in in_batch_negatives(draws, groups, per_group=2, seed=seed)[0].negatives[1:]:
            counts[text] += 1
    assert sum(counts.values()) == 1200
    assert 75 < min(counts.values()) <= max(counts.values()) < 165  # 120 each, 4 deviations


def test_a_step_of_many_groups_is_quick():
    generator = random.Random(1)
    groups = [row(f"q{n}", [f"p{n} {generator.random()}"]) for n in range(256)]
    assert all(len(taken) == 4 for taken in added(groups, per_group=4))


def test_examples_in_the_docstring():
    result = doctest.testmod(in_batch)
    assert result.attempted
    assert not result.failed


def test_positives_of_rows_that_are_not_in_the_step_are_known_too():
    groups = [row("alpha?", ["p1"]), row("beta", ["P2"]), row("gamma", ["p3"])]
    later = row("Alpha", ["p2"])
    repeated = positives_of_repeated([*groups, later])
    found = in_batch_negatives(drawn(groups), groups, per_group=5, seed=0, repeated=repeated)
    assert set(found[0].negatives) == {"no", "p3"}
    assert set(found[1].negatives) == {"no", "p1", "p3"}
