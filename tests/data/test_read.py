"""One door for every format: which reader a path means, and what a path that means none is told."""

import json

import pytest
from uprank.configs.errors import UserError
from uprank.data import read
from uprank.data.problems import require
from uprank.data.read import read_groups, read_judged

ALLOWED = f"allowed is {read.FORMATS}"


def both(path):
    """Problems of the two readers, which must not differ on a path that is none."""
    groups, judged = [], []
    assert read_groups(str(path), groups) == []
    assert read_judged(str(path), judged, split="test") is None
    assert groups == judged
    return groups


def test_a_missing_path(tmp_path):
    assert both(tmp_path / "none") == [f"{tmp_path}/none: no such file or folder; {ALLOWED}"]


def test_an_empty_folder(tmp_path):
    assert both(tmp_path) == [f"{tmp_path}: the folder is empty; {ALLOWED}"]


def test_a_jsonl_file(jsonl):
    problems = []
    groups = read_groups(str(jsonl[0]), problems)
    collection = read_judged(str(jsonl[0]), problems, split="test")
    assert problems == []
    assert len(groups) == len(collection.queries) == len(collection.pools) == 24
    assert list(collection.queries) == [str(line) for line in range(1, 25)]


def test_judged_rows_need_no_negatives_but_training_does(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"query": "q", "pos": ["p"]}))
    problems = []
    assert len(read_judged(str(path), problems, split="test").queries) == 1
    assert len(read_groups(str(path), problems, need_negatives=False)) == 1
    assert problems == []
    assert read_groups(str(path), problems) == []
    assert len(problems) == 1


@pytest.mark.parametrize(("split", "count"), [("train", 12), ("dev", 6), ("test", 8)])
def test_a_beir_folder_and_a_file_of_its_qrels(beir, split, count):
    problems = []
    by_folder = read_judged(str(beir), problems, split=split)
    by_file = read_judged(str(beir / "qrels" / f"{split}.tsv"), problems, split="train")
    assert problems == []
    assert len(by_folder.queries) == count
    assert by_folder.qrels == by_file.qrels
    assert len(read_groups(str(beir), problems, split=split, need_negatives=False)) == count


def test_nothing_wrong_raises_nothing():
    require([])


def test_few_problems_are_all_shown():
    with pytest.raises(UserError) as caught:
        require([f"p{k}" for k in range(read.SHOWN)], advice="do this")
    assert caught.value.problems == [f"p{k}" for k in range(20)]
    assert caught.value.advice == "do this"


def test_many_problems_are_cut_and_counted():
    given = [f"p{k}" for k in range(35)]
    with pytest.raises(UserError) as caught:
        require(given)
    assert caught.value.problems == given[:20] + ["… and 15 more; `uprank check examples=null` prints all"]
    assert len(given) == 35  # the list of the caller stays
