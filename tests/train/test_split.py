"""`uprank split`: which queries stay together, and files that train and eval read as they are."""

import json
import random
import sys

import pytest
from uprank.data.origin import find_origin
from uprank.data.problems import Problems
from uprank.data.read import read_groups, read_judged
from uprank.train.split.command import main
from uprank.train.split.components import assign, components


@pytest.fixture
def split(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["uprank split", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        out = capsys.readouterr()
        return code, out.out + out.err

    return call


def rows(path, count=40, shuffle=None):
    """Write rows of which each two share a passage, and each fourth query stands twice in another case."""
    given = [
        {
            "query": f"query {k}",
            "pos": [f"passage {k // 2}", f"own {k}"],
            "neg": [f"other {k}"],
            "pos_grades": [2, 1],
        }
        for k in range(count)
    ]
    given += [row | {"query": row["query"].upper(), "neg": ["new"]} for row in given[::4]]
    if shuffle:
        random.Random(shuffle).shuffle(given)
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def groups(path):
    problems = Problems()
    found = list(read_groups(str(path), problems, need_negatives=False))
    assert problems == []
    return found


def test_components_against_a_search():
    generator = random.Random(0)
    for _ in range(100):
        keys = [{generator.randrange(12) for _ in range(generator.randrange(3))} for _ in range(10)]
        seen, expected = set(), []
        for start in range(10):
            if start not in seen:
                part, todo = set(), [start]
                while todo:
                    one = todo.pop()
                    if one not in part:
                        part.add(one)
                        todo += [k for k in range(10) if keys[k] & keys[one]]
                seen |= part
                expected.append(sorted(part))
        assert components([sorted(own) for own in keys]) == expected


def test_shares_are_never_exceeded():
    names = [f"q{k}" for k in range(100)]
    parts = [list(range(30)), *([k] for k in range(30, 100))]
    splits = assign(parts, names, {"dev": 0.1, "test": 0.2}, seed=0)
    assert (splits.count("dev"), splits.count("test")) == (10, 20)
    assert set(splits[:30]) == {"train"}
    assert assign(parts, names, {"dev": 0.1, "test": 0.2}, seed=1) != splits


@pytest.mark.parametrize("by", ["query", "passage"])
def test_rows_are_parted_and_nothing_is_lost(split, tmp_path, by):
    path = rows(tmp_path / "a.jsonl")
    assert split(f"data={path}", f"output={tmp_path / 'out'}", "dev=0.2", "test=0.2", f"by={by}")[0] == 0
    parts = {name: groups(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "dev", "test")}
    before = [(g.query, g.positives, g.negatives, g.grades) for g in groups(path)]
    after = [(g.query, g.positives, g.negatives, g.grades) for part in parts.values() for g in part]
    assert sorted(before) == sorted(after)
    assert 0 < len(parts["dev"]) <= 10 >= len(parts["test"]) > 0
    seen = {name: {g.query.lower() for g in part} for name, part in parts.items()}
    passages = {name: {text for g in part for text in g.positives} for name, part in parts.items()}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not seen[one] & seen[other]
        assert by == "query" or not passages[one] & passages[other]


def test_the_order_of_the_rows_does_not_matter(split, tmp_path):
    for number in (1, 2):
        path = rows(tmp_path / f"{number}.jsonl", shuffle=number)
        assert split(f"data={path}", f"output={tmp_path / str(number)}", "dev=0.2")[0] == 0
    one, other = ({g.query for g in groups(tmp_path / name / "dev.jsonl")} for name in "12")
    assert one == other


def test_a_beir_folder_becomes_a_beir_folder(split, tmp_path, beir):
    code, told = split(f"data={beir}", f"output={tmp_path / 'out'}", "dev=0.3", "test=0.3", "by=passage")
    assert (code, "no relevant passage is in two splits" in told) == (0, True)
    whole = read_judged(str(beir), Problems(), split="train")
    parts = {
        name: read_judged(str(tmp_path / "out"), Problems(), split=name) for name in ("train", "dev", "test")
    }
    assert {q: row for part in parts.values() for q, row in part.qrels.items()} == whole.qrels
    assert all(part.passages == whole.passages for part in parts.values())


def test_what_is_wrong_is_said_and_nothing_is_written(split, tmp_path):
    path = rows(tmp_path / "a.jsonl", count=4)
    for words, message in (
        (("dev=0.9", "test=0.2"), "together above 0 and below 1"),
        (("by=words",), "by=words: allowed are query, passage"),
        (("dev=0.01", "test=0"), "dev would have no query"),
    ):
        code, told = split(f"data={path}", f"output={tmp_path / 'out'}", *words)
        assert (code, message in told) == (2, True), told
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    assert "exists; nothing was overwritten" in split(f"data={path}", f"output={tmp_path / 'out'}")[1]


def test_a_missing_dev_split_names_the_command_and_never_the_test_queries(beir, tmp_path):
    import shutil

    folder = tmp_path / "beir"
    shutil.copytree(beir, folder)
    (folder / "qrels" / "dev.tsv").unlink(missing_ok=True)
    read_judged(str(folder), problems := Problems(), split="dev")
    assert f"uprank split data={folder}" in problems[0]
    assert "test=0" in problems[0]
    assert "give one of these files" not in problems[0]


def test_a_list_of_folders_with_corpora_is_refused(split, beir, tmp_path):
    code, told = split(f"data=[{beir}, {beir}]", f"output={tmp_path / 'out'}")
    assert (code, "has a corpus of its own; split it by itself" in told) == (2, True)


def test_the_licence_travels_with_the_splits(split, tmp_path):
    (tmp_path / "law").mkdir()
    (tmp_path / "law" / "README.md").write_text("---\nlicense: mit\n---\n")
    code, _ = split(f"data={rows(tmp_path / 'law' / 'all.jsonl')}", f"output={tmp_path / 'out'}")
    assert code == 0
    known = {"names": ["law"], "license": "mit", "language": []}
    assert find_origin(str(tmp_path / "out" / "train.jsonl")) == known
