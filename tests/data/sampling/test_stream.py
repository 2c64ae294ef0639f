"""Streams: what a turn holds is a function of data, block and seed; rows with problems; memory."""

import json
import logging
import tracemalloc
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uprank.configs.errors import UserError
from uprank.data.groups import Group
from uprank.data.problems import Problems
from uprank.data.read import iterate_groups
from uprank.data.sampling.stream import HEAD, Stream, look_ahead


def make_groups(count):
    return [Group(f"q{n}", ("p",), ("n",), f"f:{n}") for n in range(count)]


def stream(groups, *, block=4, seed=0, number=0, skip=False, refuse=lambda _: ""):
    read = groups if callable(groups) else lambda _: iter(groups)
    return Stream("f", read, number=number, block=block, seed=seed, refuse=refuse, skip=skip)


def queries(found, turns):
    return [found.at(turn)[0].query for turn in turns]


@given(
    count=st.integers(1, 25),
    block=st.integers(1, 30),
    seed=st.integers(0, 2**63 - 1),
    turns=st.lists(st.integers(0, 120), min_size=1, max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_a_turn_is_the_same_whoever_asks_and_when(count, block, seed, turns):
    rows = make_groups(count)
    whole = stream(rows, block=block, seed=seed)
    expected = [whole.at(turn) for turn in range(121)]
    other = stream(rows, block=block, seed=seed)
    assert [other.at(turn) for turn in turns] == [expected[turn] for turn in turns]  # back and forth
    for turn in turns:
        assert stream(rows, block=block, seed=seed).at(turn) == expected[turn]
    for turn, (group, row, number) in enumerate(expected):
        assert number == turn // count
        assert rows[row] is group
    for start in range(0, 121 - count, count):  # blocks of a pass: each row once, none out of its block
        part = [row for _, row, _ in expected[start : start + count]]
        for low in range(0, count, block):
            assert sorted(part[low : low + block]) == list(range(low, min(low + block, count)))


def test_blocks_are_shuffled_each_in_its_own_way():
    rows = make_groups(400)
    found = stream(rows, block=50)
    orders = {tuple(found.at(start + k)[1] % 50 for k in range(50)) for start in range(0, 1200, 50)}
    assert len(orders) == 24
    others = {
        tuple(queries(stream(rows, block=50, **key), range(50))) for key in ({"seed": 1}, {"number": 1}, {})
    }
    assert len(others) == 3


def test_turns_of_a_seed_are_these():
    found = queries(stream(make_groups(6)), range(12))
    assert [int(query[1:]) for query in found] == [2, 3, 1, 0, 4, 5, 2, 1, 3, 0, 5, 4]


def test_reading_ahead_is_no_more_than_a_block(tmp_path):
    read = []

    def rows(_):
        for group in make_groups(100):
            read.append(group)
            yield group

    found = stream(rows, block=10)
    assert read == []
    found.at(0)
    assert len(read) == 10
    found.at(9)
    assert len(read) == 10
    found.at(10)
    assert len(read) == 20
    found.at(250)  # the rest of the pass, and of the next as far as its own block
    assert len(read) == 160


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def row(number):
    return {"query": f"q{number}", "pos": ["p"], "neg": ["n"]}


def file_stream(path, *, skip, block=4):
    return stream(lambda problems: iterate_groups(path, problems), block=block, skip=skip)


def test_a_bad_row_stops_at_its_block_with_its_line(tmp_path):
    path = write(tmp_path / "t.jsonl", [*map(row, range(9)), "{", *map(row, range(10, 14))])
    found = file_stream(path, skip=False)
    assert sorted(queries(found, range(8))) == [f"q{n}" for n in range(8)]
    with pytest.raises(UserError, match=r"t\.jsonl:10: broken JSON.*\n.*data\.on_error=skip"):
        found.at(8)


def test_bad_rows_are_left_out_and_counted_once(tmp_path, caplog):
    rows = [row(0), "{", row(1), {"query": "x", "pos": ["p"]}, row(2), row(3), "[]"]
    path = write(tmp_path / "t.jsonl", rows)
    found = file_stream(path, skip=True, block=2)
    with caplog.at_level(logging.WARNING):
        assert sorted(queries(found, range(4))) == ["q0", "q1", "q2", "q3"]
        assert sorted(queries(found, range(8, 12))) == ["q0", "q1", "q2", "q3"]
    assert found.skipped == 3
    assert [text.split(": ")[0].rpartition(":")[2] for text in found.examples] == ["2", "4", "7"]
    assert "t.jsonl:7" in caplog.text
    assert queries(found, range(8)) == queries(
        stream([Group(f"q{n}", ("p",), ("n",), "") for n in range(4)], block=2), range(8)
    )


def test_what_a_run_refuses_is_a_problem_of_the_row(tmp_path):
    def refuse(group):
        return f"{group.where}: no" if group.query == "q5" else ""

    with pytest.raises(UserError, match="f:5: no"):
        queries(stream(make_groups(8), refuse=refuse), range(8))
    found = stream(make_groups(8), refuse=refuse, skip=True)
    assert "q5" not in queries(found, range(14))
    assert found.skipped == 1


def test_a_file_that_cannot_be_read_is_no_row_to_skip(tmp_path):
    found = file_stream(str(tmp_path / "gone.jsonl"), skip=True)
    with pytest.raises(UserError, match="gone"):
        found.at(0)


def test_data_without_a_group_or_that_changes_ends_with_an_error(tmp_path):
    with pytest.raises(UserError, match="no group can be used"):
        stream([]).at(0)
    rows = make_groups(6)
    found = stream(lambda _: iter(list(rows)))
    found.at(7)
    rows.append(rows[0])
    with pytest.raises(UserError, match="has changed while it was read: 6 groups, now 7"):
        queries(found, range(8, 30))


def test_many_problems_are_not_gathered_to_the_end_of_the_data():
    read = []

    def rows(problems):
        for number in range(1000):
            read.append(number)
            problems.add("row", f"f:{number}: bad")
            yield Group("q", ("p",), ("n",), "")

    with pytest.raises(UserError, match="f:0: bad"):
        stream(rows, block=500).at(0)
    assert len(read) < 30


def test_the_head_names_the_content_and_tells_of_its_problems(tmp_path):
    def look(path, skip=False, refuse=lambda _: ""):
        problems = Problems()
        return look_ahead(
            path, lambda found: iterate_groups(path, found), refuse, problems, skip=skip
        ), problems

    first = write(tmp_path / "a.jsonl", map(row, range(20)))
    moved = write(tmp_path / "b.jsonl", map(row, range(20)))
    other = write(tmp_path / "c.jsonl", map(row, [*range(19), 20]))
    longer = write(tmp_path / "d.jsonl", map(row, range(HEAD + 10)))
    longest = write(tmp_path / "e.jsonl", map(row, range(HEAD + 11)))
    prints = [look(path)[0] for path in (first, moved, other, longer, longest)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    bad = write(tmp_path / "bad.jsonl", [row(0), "{"])
    assert len(look(bad)[1]) == 1
    assert look(bad, skip=True)[1] == []
    only = write(tmp_path / "only.jsonl", ["{", "["])
    assert "no groups: every row has problems, the first is" in look(only, skip=True)[1][0]
    assert look(first, refuse=lambda group: "no" * (group.query == "q3"))[1] == ["no"]
    assert "no such file" in look(str(tmp_path / "gone"))[1][0]


def test_memory_holds_a_block_and_not_the_data():
    """20,000 groups of 2 kB with blocks of 100: 200 kB of texts are held, of 40 MB."""

    def rows(_):
        return (Group(f"q{n}", ("p" + str(n) * 200,), ("n" + str(n) * 200,), "") for n in range(20_000))

    found = stream(rows, block=100)
    tracemalloc.start()
    for turn in range(0, 20_000, 50):
        found.at(turn)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert sum(len(g.positives[0]) for g in islice(rows(None), 100)) > 10_000


def test_a_named_data_set_streams_as_its_file_does(tmp_path):
    (tmp_path / "rows").mkdir()
    path = write(tmp_path / "rows" / "train.jsonl", map(row, range(20)))
    named = stream(lambda problems: iterate_groups(f"hf://{tmp_path / 'rows'}", problems))
    assert queries(named, range(50)) == queries(file_stream(path, skip=False), range(50))
