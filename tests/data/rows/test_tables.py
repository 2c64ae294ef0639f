"""Rows of every shape to groups: one query's rows are one group, and what contradicts has both its lines."""

import csv
import json
import logging
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from uprank.data.groups import Group, passage_id
from uprank.data.problems import Problems
from uprank.data.read import iterate_groups, read_groups, read_judged
from uprank.data.rows import to_groups as tables
from uprank.data.store.group_store import GroupStore


def write(path, rows):
    """The rows in the format that the name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, reader=read_groups, **options):
    problems = Problems()
    return list(reader(str(path), problems, **options)), problems


def first(path, line):
    """`where` of the row on a line of a JSONL file, in each format."""
    return f"{path}:{line + (path.suffix == '.csv')}"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_triplets_of_one_query_are_one_group(tmp_path, name):
    rows = [
        {"anchor": "q", "positive": "p", "negative": "n"},
        {"anchor": "r", "positive": "p", "negative": "m"},
        {"anchor": "q", "positive": "o", "negative": "n"},
        {"anchor": "q", "positive": "p", "negative": "m"},
    ]
    path = write(tmp_path / name, rows)
    expected = [
        Group("q", ("p", "o"), ("n", "m"), first(path, 1)),
        Group("r", ("p",), ("m",), first(path, 2)),
    ]
    assert read(path) == (expected, [])
    assert isinstance(read_groups(str(path), []), GroupStore)
    alone, problems = read(path, iterate_groups)
    assert [(g.query, *g.positives, *g.negatives, g.where) for g in alone] == [
        (*row.values(), first(path, k)) for k, row in enumerate(rows, 1)
    ]
    assert problems == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_tuples_may_have_fewer_negatives(tmp_path, name):
    rows = [
        {"query": "q", "positive": "p", "negative_1": "n", "negative_2": "m"},
        {"query": "r", "positive": "p", "negative_1": None, "negative_2": "m"},
        {"query": "s", "positive": "p", "negative_1": None, "negative_2": None},
    ]
    path = write(tmp_path / name, rows)
    groups, problems = read(path)
    assert [group.negatives for group in groups] == [("n", "m"), ("m",)]
    assert problems == [f"{first(path, 3)}: no negatives; give `neg`, or find hard ones with `uprank mine`"]
    assert problems.kinds[0] == "no negatives"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_labels_are_grades(tmp_path, name, caplog):
    judged = [("q", "a", 2), ("q", "b", 0), ("r", "b", 1), ("q", "c", 1), ("q", "d", -1), ("r", "x", 0)]
    judged += [("q", "a", -1), ("q", "b", -2)]  # unjudged contradicts nothing
    rows = [{"sentence1": q, "sentence2": p, "label": float(label)} for q, p, label in judged]
    path = write(tmp_path / name, rows)
    with caplog.at_level(logging.INFO):
        groups, problems = read(path)
    assert groups == [
        Group("q", ("a", "c"), ("b",), first(path, 1), (2, 1)),
        Group("r", ("b",), ("x",), first(path, 3)),
    ]
    assert problems == []
    said = f"{path}: sentence1 = query, sentence2 = passages, label = relevance"
    assert [record.getMessage() for record in caplog.records] == [said]
    problems = Problems()
    collection = read_judged(str(path), problems, split="test")
    a, b, c, x = map(passage_id, "abcx")
    one, three = (first(path, line).rpartition(":")[2] for line in (1, 3))
    assert collection.qrels == {one: {a: 2, c: 1, b: 0}, three: {b: 1, x: 0}}
    assert problems == []


def test_lists_of_passages_with_labels(tmp_path):
    rows = [
        {"query": "q", "docs": ["a", "b", "c"], "labels": [1, 0, -1]},
        {"query": "q", "docs": ["b", "a"], "labels": [3, 0]},  # its own group: nothing contradicts
        {"query": "r", "docs": ["a", "b"], "labels": [1]},
        {"query": "s", "docs": ["a"], "labels": [0]},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    groups, problems = read(path)
    assert groups == [
        Group("q", ("a",), ("b",), f"{path}:1"),
        Group("q", ("b",), ("a",), f"{path}:2", (3,)),
    ]
    assert problems == [
        f"{path}:3: `labels` has 1 labels for 2 passages",
        f"{path}:4: no passage of this query is relevant; a group needs at least one",
    ]


@pytest.mark.parametrize("label", [0.8, "x", None, 10**400, [1], 2**31])
def test_a_label_is_a_whole_number(tmp_path, label):
    rows = [{"query": f"q{k}", "docs": "a", "label": 1} for k in range(3)]
    rows[1]["label"] = label
    path = write(tmp_path / "a.jsonl", rows)
    groups, problems = read(path, need_negatives=False)
    assert len(groups) == 2 + (label == [1])
    if label != [1]:
        (problem,) = problems
        assert problem.startswith(f"{path}:2: `label` ")
        assert problem.endswith("whole number (above 0 relevant, 0 not relevant, below 0 unjudged); "
                                "a teacher's scores belong in pos_scores and neg_scores")  # fmt: skip
        assert problems.kinds == ["scores and grades"]


def test_contradictions_have_both_lines(tmp_path):
    rows = [
        {"query": "q", "positive": "p", "negative": "n"},
        {"query": "r", "positive": "P  x", "negative": "n"},
        {"query": "q", "positive": "o", "negative": "p"},
        {"query": "q", "positive": "n", "negative": "m"},
        {"query": "r", "positive": "s", "negative": "p x"},
        {"query": "s", "positive": "t", "negative": "T"},
        {"query": "t", "positive": "t", "negative": "u"},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    groups, problems = read(path)
    assert [group.query for group in groups] == ["t"]
    assert problems == [
        f"{path}:1: a positive is also a negative: 'p' (line 3)",
        f"{path}:1: a positive is also a negative: 'n' (line 4)",
        f"{path}:2: a positive is also a negative: 'p x' (line 5)",
        f"{path}:6: a positive is also a negative: 'T'",
    ]
    assert set(problems.kinds) == {"contradiction"}
    other = tmp_path / "folder"
    other.mkdir()
    names = write(other / "a.jsonl", rows[:1]), write(other / "b.jsonl", rows[2:3])
    assert read(other)[1] == [f"{names[0]}:1: a positive is also a negative: 'p' ({names[1]}:1)"]
    labelled = [{"query": "q", "docs": "a", "label": label} for label in (1, 2, 1)]
    path = write(tmp_path / "b.jsonl", labelled)
    assert read(path, need_negatives=False)[1] == [f"{path}:1: a passage is judged 1 and 2: 'a' (line 2)"]


def test_what_is_wrong_with_cells_is_all_named(tmp_path):
    rows = [{"query": "q", "positive": "p", "negative": "n"}] * 3
    rows += [{"query": 3, "positive": " ", "negative": ["a", None, ""]}, {"negative": {}}]
    path = write(tmp_path / "a.jsonl", rows)
    groups, problems = read(path)
    assert len(groups) == 1
    assert problems == [
        f"{path}:4: `query` is a number, not a string",
        f"{path}:4: `positive` is an empty text",
        f"{path}:4: `negative[1]` is null, not a string",
        f"{path}:4: `negative[2]` is an empty text",
        f"{path}:5: `query` is missing",
        f"{path}:5: `positive` is missing",
        f"{path}:5: `negative` is an object, not a string",
    ]
    skipped = Problems()
    assert (len(read(path, skipped=skipped)[0]), read(path, skipped=Problems())[1], skipped) == (
        1,
        [],
        problems,
    )


def test_pairs_have_no_negatives_to_train_on(tmp_path):
    path = write(tmp_path / "a.csv", [{"question": "q", "answer": "a"}, {"question": "q", "answer": "b"}])
    groups, problems = read(path)
    assert groups == []
    assert problems == [
        f"{path}: has no negatives (question = query, answer = positive); "
        f"find hard ones first: uprank mine data.train={path} corpus=PASSAGES.jsonl output=train.jsonl"
    ]
    assert read(path, need_negatives=False) == ([Group("q", ("a", "b"), (), f"{path}:2")], [])


def test_a_file_of_no_shape(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": 1}])
    assert read(path) == (
        [],
        [f"{path}: its columns are text (a string), label (numbers); allowed are {tables.ALLOWED}"],
    )
    path = write(tmp_path / "b.jsonl", [[], 3])
    assert len(read(path)[1]) == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.json"])
def test_rows_of_flagembedding_are_never_merged(tmp_path, name):
    rows = [
        {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1.5], "neg_scores": [0.5]},
        {"query": "q", "pos": ["n"], "neg": ["p"], "pos_scores": [1.0], "neg_scores": [0.0]},
    ]
    path = write(tmp_path / name, rows)
    expected = [
        Group("q", ("p",), ("n",), f"{path}:1", (), (1.5, 0.5)),
        Group("q", ("n",), ("p",), f"{path}:2", (), (1.0, 0.0)),
    ]
    assert read(path) == (expected, [])


def test_a_folder_of_many_formats(tmp_path):
    write(tmp_path / "c.jsonl", [{"query": "g", "pos": ["p"], "neg": ["n"]}])
    write(tmp_path / "b.csv", [{"query": "q", "positive": "p", "negative": "n"}])
    write(tmp_path / "a.parquet", [{"anchor": "q", "positive": "o", "negative": "n"}])
    groups, problems = read(tmp_path)
    assert problems == []
    assert groups == [
        Group("g", ("p",), ("n",), f"{tmp_path}/c.jsonl:1"),  # rows to merge come last
        Group("q", ("o", "p"), ("n",), f"{tmp_path}/a.parquet:1"),
    ]
    collection = read_judged(str(tmp_path), problems, split="dev")
    assert (collection.queries, problems) == ({"3-1": "g", "1-1": "q"}, [])


def test_the_order_is_that_of_first_rows_however_many_buckets(tmp_path, monkeypatch):
    generator = random.Random(1)
    rows = [
        {"query": f"q{generator.randrange(300)}", "positive": f"p{k}", "negative": f"n{k}"}
        for k in range(900)
    ]
    path = write(tmp_path / "a.jsonl", rows)
    whole = read(path, iterate_groups, need_negatives=True)[0]
    assert len(whole) == 900
    expected, _ = read(path)
    queries = list(dict.fromkeys(row["query"] for row in rows))
    assert [group.query for group in expected] == queries
    for group in expected:
        assert group.positives == tuple(row["positive"] for row in rows if row["query"] == group.query)
    monkeypatch.setattr("uprank.data.store.group_by.BUCKET", 5000)
    (tmp_path / "copy").mkdir()
    problems = Problems()
    again = tables.iterate_tables(tables.tables_of([path]), problems)
    assert (list(again), problems) == (expected, [])


def test_the_rows_that_flagembedding_publishes(tmp_path):
    """The form of its own example: a trailing `prompt`, several lines of texts, no scores."""
    rows = [
        {"query": ")what was it?", "pos": ["Introduction The presence."], "neg": ["The Launch", "NASA 1957"]},
        {
            "query": "_________ justice",
            "pos": ["What is it. Restorative"],
            "neg": ["a", "b"],
            "prompt": "Given",
        },
    ]
    path = write(tmp_path / "toy.jsonl", rows)
    groups, problems = read(path)
    assert problems == []
    assert [(g.query, list(g.positives), list(g.negatives)) for g in groups] == [
        (row["query"], row["pos"], row["neg"]) for row in rows
    ]


def test_hugging_face_tables_of_every_shape_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"question": "q", "answer": text, "label": label} for text, label in (("a", 1), ("b", 0))]
    write(folder / "train.parquet", rows)
    path = f"hf://{folder}"
    for _ in ("read", "from the cache"):
        assert read(path) == ([Group("q", ("a",), ("b",), f"{path}:1")], [])
        monkeypatch.setattr("uprank.data.rows.hub_datasets.iterate_tables", None)
    assert isinstance(read_groups(path, []), GroupStore)
    monkeypatch.undo()
    groups, problems = read(path, iterate_groups)
    assert (groups, len(problems)) == ([], 2)  # streamed rows are groups of their own
    assert [problem.partition(": ")[0] for problem in problems] == [f"{path}:1", f"{path}:2"]
