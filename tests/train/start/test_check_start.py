"""The check before training: what it refuses, what it says, and that it is made once."""

import json

import pytest
from uprank.configs.errors import UserError
from uprank.data.groups import Collection, Group
from uprank.data.read import read_groups
from uprank.train.check import command as check_module
from uprank.train.check.command import check_before_training


def rows(path, *given):
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


def row(query, pos="p", neg="n"):
    return {"query": query, "pos": [pos], "neg": [neg]}


def dev_of(**queries):
    return Collection("dev.jsonl", queries, {}, {key: {} for key in queries}, {})


LONG = "question {} of the very many questions that one may ask about all the things in the world"
GOOD = [Group(LONG.format(k), ("p",), ("n",), f"t.jsonl:{k}") for k in range(9)]


def test_before_training(tmp_path):
    dev = dev_of(one="some entirely different text", two=LONG.format(99))
    lines = check_before_training([("t.jsonl", GOOD)], dev)
    assert lines[0] == "checked 9 groups against 2 dev queries: 9 warnings"  # similar, and no more
    assert lines[1].startswith("9 x ")
    assert len(lines) == 5
    assert check_before_training([("t.jsonl", GOOD)], dev_of(one="other")) == [
        "checked 9 groups against 1 dev queries: no problems"
    ]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (Group("Is it SO", ("p",), ("n",), "u:7"), "u:7: query is also in dev.jsonl (query one): 'Is it SO'"),
        (Group("are protens small", ("p",), ("n",), "u:7"), "u:7: query is, spelt differently, also in"),
        (Group(LONG.format(3), ("n",), ("m",), "u:7"), "t.jsonl:3"),
    ],
)
def test_what_forbids_training(group, message, monkeypatch):
    dev = dev_of(one="is it so?", two="are proteins small")
    groups = [*GOOD, group]
    if "t.jsonl" in message:
        message = "u:7: positive here and negative of the same query in t.jsonl:3: 'n'"
    sources = [("t.jsonl", GOOD[:2]), ("u", groups)]
    with pytest.raises(UserError) as error:
        check_before_training(sources, dev)
    assert [problem[: len(message)] for problem in error.value.problems] == [message]
    monkeypatch.setattr(check_module, "_check_queries", None)
    with pytest.raises(TypeError):  # it is not kept: until the next time its line may be another one
        check_before_training(sources, dev)


def test_what_was_found_is_kept(tmp_path, monkeypatch):
    path = rows(tmp_path / "t.jsonl", *[row(LONG.format(k), f"p{k}", f"n{k}") for k in range(40)])
    dev = dev_of(one=LONG.format(99))
    groups = read_groups(str(path), [])
    first = check_before_training([(str(path), groups)], dev)
    assert len(first) > 1
    monkeypatch.setattr(check_module, "_check_queries", None)  # would fail
    assert check_before_training([(str(path), read_groups(str(path), []))], dev) == first
    with pytest.raises(TypeError):
        check_before_training([(str(path), groups)], dev_of(one="another"))
    path.write_text("\n" + path.read_text())  # every row stands elsewhere
    with pytest.raises(TypeError):
        check_before_training([(str(path), read_groups(str(path), []))], dev)
