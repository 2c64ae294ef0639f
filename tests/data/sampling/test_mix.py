"""Several data sets as one: proportions, evenness over epochs, and an order that is a pure function."""

import doctest
from collections import Counter
from itertools import pairwise

import pytest
import uprank.data.sampling.mix
from hypothesis import given, settings
from hypothesis import strategies as st
from uprank.data.groups import Group
from uprank.data.sampling.draws import draw_step, draw_visits
from uprank.data.sampling.mix import STREAM_EPOCH, DataSource, Mix, share_groups, sources_of
from uprank.data.sampling.stream import Stream

OPTIONS = {"group_size": 4, "positives": 1}


def make_groups(name, count, negatives=5):
    return [
        Group(
            f"{name}{n}", (f"{name}{n} p",), tuple(f"{name}{n} n{k}" for k in range(negatives)), f"{name}:{n}"
        )
        for n in range(count)
    ]


def make_mix(lengths, shares=None, seed=0, negatives=5):
    sources = [
        DataSource(f"s{k}", make_groups(f"s{k}-", n, negatives), f"f{k}") for k, n in enumerate(lengths)
    ]
    return Mix(sources, shares or share_groups(lengths, None), seed=seed)


def streamed(groups, number=0, block=7, seed=0):
    return Stream(
        "s", lambda _: iter(groups), number=number, block=block, seed=seed, refuse=lambda _: "", skip=False
    )


@given(
    count=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
    start=st.integers(0, 200),
    negatives=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_one_data_set_is_drawn_as_ever(count, seed, start, negatives):
    """`draw_step` is what training did before there were mixes, with its order written down in a test."""
    groups = make_groups("q", count, negatives)
    mix = Mix([DataSource("q", groups, "f")], share_groups([count], None), seed=seed)
    expected = draw_step(groups, start=start, count=30, seed=seed, **OPTIONS)
    assert draw_visits(mix.visits(start, 30), seed=seed, **OPTIONS) == expected


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@given(data=st.data(), lengths=LENGTHS, seed=st.integers(0, 2**63 - 1))
@settings(max_examples=80, deadline=None)
def test_every_epoch_has_its_shares_and_every_group_its_turn(data, lengths, seed):
    """Counted over epochs: the shares, and no group two turns ahead of another of its data set."""
    shares = data.draw(st.lists(st.integers(1, 45), min_size=len(lengths), max_size=len(lengths)))
    mix = make_mix(lengths, shares, seed)
    turns: Counter[str] = Counter()
    for epoch in range(7):
        visits = list(mix.visits(epoch * mix.per_epoch, mix.per_epoch))
        owners = Counter(visit.group.query.split("-")[0] for visit in visits)
        assert [owners[f"s{k}"] for k in range(len(lengths))] == shares
        if shares == lengths:
            assert {visit.number for visit in visits} == {epoch}
        turns.update(visit.group.query for visit in visits)
        for source in mix.sources:
            seen = [turns[group.query] for group in source.groups]
            assert max(seen) - min(seen) <= 1
    assert len({visit.index for visit in visits}) == len({visit.group.query for visit in visits})


@given(data=st.data(), lengths=LENGTHS, seed=st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_turns_are_the_same_in_any_chunking_and_numbered_without_a_gap(data, lengths, seed):
    shares = data.draw(st.lists(st.integers(1, 45), min_size=len(lengths), max_size=len(lengths)))
    cuts = sorted({0, 90, *data.draw(st.lists(st.integers(0, 90), max_size=4))})
    mix = make_mix(lengths, shares, seed)
    whole = list(mix.visits(0, 90))
    fresh = make_mix(lengths, shares, seed)  # another process, which asks late parts first
    parts = [list(fresh.visits(low, high - low)) for low, high in reversed(list(pairwise(cuts)))]
    assert [visit for part in reversed(parts) for visit in part] == whole
    assert [visit.position for visit in whole] == list(range(90))
    numbers: dict[str, list[int]] = {}
    for visit in mix.visits(0, 3 * mix.per_epoch):
        numbers.setdefault(visit.group.query, []).append(visit.number)
    assert all(sorted(found) == list(range(len(found))) for found in numbers.values())


def test_a_group_shows_the_next_of_its_negatives_at_every_turn():
    """Twice an epoch or every third: all its negatives are seen equally often."""
    mix = make_mix([6, 9], [12, 3], negatives=6)
    seen: Counter[str] = Counter()
    draws = draw_visits(mix.visits(0, 15 * 6), seed=0, **OPTIONS)
    for draw in draws:
        seen.update(draw.negatives)
    # 6 groups x 12 turns, 9 groups x 2 turns, 3 of 6 negatives each: 6 and 1 times.
    assert {seen[text] for group in mix.sources[0].groups for text in group.negatives} == {6}
    assert {seen[text] for group in mix.sources[1].groups for text in group.negatives} == {1}


def test_an_epoch_mixes_and_no_epoch_is_like_another():
    mix = make_mix([50, 50])
    orders = [[visit.group.query for visit in mix.visits(100 * epoch, 100)] for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    first = [query.startswith("s0") for query in orders[0]]
    assert 15 < sum(first[:50]) < 35
    other = make_mix([50, 50], seed=1)
    assert [visit.group.query for visit in other.visits(0, 100)] != orders[0]


def test_a_part_of_a_data_set_is_no_part_of_its_file():
    mix = make_mix([100, 10], [10, 10])
    first = sorted(v.index for v in mix.visits(0, 20) if v.index < 2**40)
    assert first != list(range(10))


def test_turns_of_a_seed_are_these():
    # Written down: another numpy, machine or refactoring must not silently change what a seed means.
    found = [(visit.group.query, visit.number) for visit in make_mix([3, 4], [2, 5]).visits(6, 8)]
    assert found == [
        ("s1-0", 0),
        ("s1-1", 1),
        ("s0-1", 0),
        ("s1-0", 2),
        ("s1-0", 1),
        ("s1-3", 1),
        ("s1-2", 2),
        ("s0-2", 1),
    ]


@given(
    lengths=st.lists(st.integers(1, 1000), min_size=1, max_size=5),
    weights=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_weights_are_shares_of_all_groups_to_less_than_one(lengths, weights):
    mix = weights.draw(
        st.lists(st.floats(0.01, 100), min_size=len(lengths), max_size=len(lengths)), label="mix"
    )
    shares = share_groups(lengths, mix)
    assert sum(shares) == sum(lengths)
    for share, weight in zip(shares, mix, strict=True):
        assert abs(share - sum(lengths) * weight / sum(mix)) < 1 + 1e-6


def test_shares_by_hand():
    assert share_groups([10, 20], None) == [10, 20]
    assert share_groups([10, 20], [5, 7]) == [5, 7]
    assert share_groups([10, 20], [0.5, 0.5]) == [15, 15]
    assert share_groups([10, 20], [1.0, 3.0]) == [8, 22]  # 7.5 and 22.5: the first of equal rests gets it
    assert share_groups([None, None], [1.0, 3.0]) == [STREAM_EPOCH // 4, STREAM_EPOCH * 3 // 4]
    assert share_groups([None], None) == [STREAM_EPOCH]
    assert share_groups([100, 1], [1.0, 1e-9]) == [101, 0]  # the caller refuses it
    assert sources_of("a") == sources_of(["a"]) == ["a"]


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    shares=st.lists(st.integers(1, 12), min_size=3, max_size=3),
    block=st.integers(1, 12),
    cut=st.integers(0, 150),
)
@settings(max_examples=60, deadline=None)
def test_streams_mix_in_the_same_proportions_and_go_on_anywhere(lengths, shares, block, cut):
    data = [make_groups(f"s{k}-", count) for k, count in enumerate(lengths)]
    shares = shares[: len(lengths)]

    def fresh():
        sources = [DataSource(f"s{k}", streamed(rows, k, block), "f") for k, rows in enumerate(data)]
        return Mix(sources, shares, seed=0)

    whole = list(fresh().visits(0, 160))
    assert list(fresh().visits(cut, 160 - cut)) == whole[cut:]
    per_epoch = sum(shares)
    for epoch in range(160 // per_epoch):
        part = whole[epoch * per_epoch : (epoch + 1) * per_epoch]
        owners = Counter(visit.group.query.split("-")[0] for visit in part)
        assert [owners[f"s{k}"] for k in range(len(lengths))] == shares
    for k, rows in enumerate(data):  # each stream by itself: passes one after the other, every group in each
        mine = [visit for visit in whole if visit.group.query.startswith(f"s{k}-")]
        for number in range(len(mine) // len(rows)):
            part = mine[number * len(rows) : (number + 1) * len(rows)]
            assert sorted(v.group.query for v in part) == sorted(group.query for group in rows)
            assert {v.number for v in part} == {number}


def test_examples_in_the_docstrings():
    result = doctest.testmod(uprank.data.sampling.mix)
    assert result.attempted > 1
    assert result.failed == 0


def test_the_manifest_tells_content_sizes_and_what_was_left_out():
    first = DataSource("a.jsonl", make_groups("a", 4), "sha256:a", ["a.jsonl:5: broken"])
    second = DataSource({"qrels": "q", "run": "r"}, make_groups("b", 6), "sha256:b")
    facts = Mix([first, second], [4, 12], seed=0).facts()
    assert facts["path"] == ["a.jsonl", {"qrels": "q", "run": "r"}]
    assert (facts["groups"], facts["groups_per_epoch"]) == (10, 16)
    assert facts["sources"][0]["skipped"] == 1
    assert facts["sources"][0]["skipped_examples"] == ["a.jsonl:5: broken"]
    assert [source["share"] for source in facts["sources"]] == [4, 12]
    assert facts["sources"][0]["origin"] == {"names": ["a"], "license": None, "language": []}
    assert second.name == "{qrels: q, run: r}"
    alone = Mix([first], [4], seed=0).facts()
    assert (alone["path"], alone["fingerprint"]) == ("a.jsonl", "sha256:a")
    swapped = Mix([second, first], [12, 4], seed=0).facts()
    assert len({facts["fingerprint"], swapped["fingerprint"], "sha256:a"}) == 3


@pytest.mark.parametrize(("length", "expected"), [(None, None), (4, 2.5)])
def test_epochs_are_counted_where_their_length_is_known(length, expected):
    groups = streamed(make_groups("a", 4)) if length is None else make_groups("a", 4)
    mix = Mix([DataSource("a", groups, "f")], share_groups([length], None), seed=0)
    assert mix.epoch(10) == expected
    assert mix.length == length
