"""One door for every format: which reader a path means, and what a path that means none is told."""

import json

import pytest
from uprank.data import read
from uprank.data.problems import Problems
from uprank.data.read import read_groups, read_judged

ALLOWED = f"allowed is {read.FORMATS}"


def both(path):
    """Problems of the two readers, which must not differ on a path that is none."""
    groups, judged = Problems(), Problems()
    assert read_groups(str(path), groups) == []
    assert read_judged(str(path), judged, split="test") is None
    assert groups == judged
    return groups


def test_a_missing_path(tmp_path):
    assert both(tmp_path / "none") == [f"{tmp_path}/none: no such file or folder; {ALLOWED}"]


def test_an_empty_folder(tmp_path):
    assert both(tmp_path) == [f"{tmp_path}: the folder is empty; {ALLOWED}"]


def test_a_jsonl_file(jsonl):
    problems = Problems()
    groups = read_groups(str(jsonl[0]), problems)
    collection = read_judged(str(jsonl[0]), problems, split="test")
    assert problems == []
    assert len(groups) == len(collection.queries) == len(collection.pools) == 24
    assert list(collection.queries) == [str(line) for line in range(1, 25)]


def test_judged_rows_need_no_negatives_but_training_does(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"query": "q", "pos": ["p"]}))
    problems = Problems()
    assert len(read_judged(str(path), problems, split="test").queries) == 1
    assert len(read_groups(str(path), problems, need_negatives=False)) == 1
    assert problems == []
    assert read_groups(str(path), problems) == []
    assert len(problems) == 1


@pytest.mark.parametrize(("split", "count"), [("train", 12), ("dev", 6), ("test", 8)])
def test_a_beir_folder_and_a_file_of_its_qrels(beir, split, count):
    problems = Problems()
    by_folder = read_judged(str(beir), problems, split=split)
    by_file = read_judged(str(beir / "qrels" / f"{split}.tsv"), problems, split="train")
    assert problems == []
    assert len(by_folder.queries) == count
    assert by_folder.qrels == by_file.qrels
    assert len(read_groups(str(beir), problems, split=split, need_negatives=False)) == count
