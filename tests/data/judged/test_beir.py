"""BEIR folders are read, and every defect of their three files is named by file and line."""

import gzip
import json

import pytest
from uprank.data.groups import Group
from uprank.data.judged.beir import read_beir_collection, read_beir_groups
from uprank.data.problems import Problems

HEADER = "query-id\tcorpus-id\tscore\n"


def folder(tmp_path, *, corpus=None, queries=None, qrels="q1\td1\t1\nq1\td2\t0\nq2\td3\t2\n", split="test"):
    corpus = corpus or [
        {"_id": "d1", "title": "Title", "text": "one"},
        {"_id": "d2", "title": "", "text": "two"},
        {"_id": "d3", "text": "three"},
        {"_id": "d4", "title": "four", "text": ""},
    ]
    queries = queries or [{"_id": q, "text": f"query {q}"} for q in ("q1", "q2", "q3")]
    (tmp_path / "qrels").mkdir(exist_ok=True)
    (tmp_path / "qrels" / f"{split}.tsv").write_text(HEADER + qrels, encoding="utf-8")
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def read(path, split="test"):
    problems = Problems()
    return read_beir_collection(path, split, problems), problems


def test_a_folder_is_read(tmp_path):
    path = folder(tmp_path)
    collection, problems = read(path)
    assert problems == []
    assert collection.queries == {"q1": "query q1", "q2": "query q2"}  # q3 is not judged
    assert collection.passages == {"d1": "Title one", "d2": "two", "d3": "three", "d4": "four"}
    assert collection.qrels == {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 2}}
    assert collection.pools == {}
    assert collection.path == str(path)


def test_one_file_of_the_qrels_names_the_folder_around_it(tmp_path):
    path = folder(tmp_path, split="mine", qrels="q3\td1\t1\n")
    collection, problems = read(path / "qrels" / "mine.tsv", split="test")
    assert (problems, collection.qrels) == ([], {"q3": {"d1": 1}})
    assert list(collection.passages) == ["d1", "d2", "d3", "d4"]


def test_a_split_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    path = folder(tmp_path, split="dev")
    (path / "qrels" / "all.tsv").write_text(HEADER)
    there = "the folder has all.tsv, dev.tsv: give one of these files instead"
    assert read(path, split="train") == (None, [f"{path}/qrels/train.tsv: not there; {there}"])


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("x")
    assert read(tmp_path) == (
        None,
        [f"{tmp_path}: not a BEIR folder; it needs corpus.jsonl, queries.jsonl and qrels/test.tsv"],
    )


def test_everything_wrong_in_all_three_files_is_listed_at_once(tmp_path):
    path = folder(
        tmp_path,
        corpus=[
            {"_id": "d1", "text": "one"},
            {"_id": 2, "text": "two"},
            {"_id": "", "text": "two"},
            {"_id": "d3"},
            {"_id": "d4", "text": "x", "title": 5},
            {"_id": "d5", "text": " ", "title": ""},
            {"_id": "d1", "text": "again"},
            {"_id": "d 6", "text": "six"},
            "{broken",
            "[]",
        ],
        queries=["", {"_id": "q1", "text": ""}, {"text": "x"}],
        qrels="q1\td1\tone\nq1 d1 1\n",
    )
    corpus, queries, qrels = path / "corpus.jsonl", path / "queries.jsonl", path / "qrels" / "test.tsv"
    assert read(path)[1] == [
        f"{queries}:3: `_id` must be a string that is not empty",
        f"{corpus}:2: `_id` must be a string that is not empty",
        f"{corpus}:3: `_id` must be a string that is not empty",
        f"{corpus}:4: `text` (and `title`, if given) must be strings",
        f"{corpus}:5: `text` (and `title`, if given) must be strings",
        f"{corpus}:7: `_id` 'd1' stands twice in this file",
        f"{corpus}:8: `_id` 'd 6' has white space, which a TREC run file cannot hold",
        f"{corpus}:9: broken JSON (Expecting property name enclosed in double quotes at character 2)",
        f"{corpus}:10: a row is a JSON object, this is a list",
        f"{qrels}:2: relevance 'one' is not a whole number",
        f"{qrels}:3: 1 columns separated by tabs, BEIR qrels have 3",
    ]


def test_unknown_ids_are_named_with_their_line(tmp_path):
    # The fourth line has a character at which str.splitlines would count one line too many.
    corpus = [{"_id": "d1", "text": "y"}]
    path = folder(
        tmp_path, corpus=corpus, qrels="q1\td1\t1\n\nq1\td\u20281\t0\r\nq9\td1\t1\nq8\td7\t1\nq2\td1\t1\n"
    )
    qrels = path / "qrels" / "test.tsv"
    collection, problems = read(path)
    document = repr("d" + chr(0x2028) + "1")
    assert problems == []
    assert collection.notes == (
        f"judged queries that are not there: 2, the first is {qrels}:5: 'q9'; they are left out",
        f"judged documents that are not there: 2, the first is {qrels}:4: {document}; "
        "relevant ones count as not found: 1",
    )
    found = groups(path, need_negatives=True)[1]
    assert found[:2] == [
        f"{qrels}:4: document id {document} is not in corpus.jsonl",
        f"{qrels}:5: query id 'q9' is not in queries.jsonl",
    ]


@pytest.mark.parametrize("header", ["", "\ufeff" + HEADER])
def test_line_numbers_with_and_without_header(tmp_path, header):
    path = folder(tmp_path)
    qrels = path / "qrels" / "test.tsv"
    qrels.write_text(header + "q1\td9\t1\n", encoding="utf-8")
    line = 2 if header else 1
    text = f"{qrels}:{line}: documents of other files: no id is in the documents given"
    assert read(path)[1] == [text]


def groups(path, **options):
    problems = Problems()
    return list(read_beir_groups(path, "test", problems, **options)), problems


def test_groups_of_judged_passages(tmp_path):
    path = folder(tmp_path, qrels="q2\td3\t1\nq1\td1\t2\nq1\td2\t0\nq1\td3\t-1\nq3\td3\t0\n")
    qrels = path / "qrels" / "test.tsv"
    first = Group("query q2", ("three",), (), f"{qrels}:2")
    second = Group("query q1", ("Title one",), ("two",), f"{qrels}:3", grades=(2,))
    assert groups(path) == ([second], [])
    assert groups(path, need_negatives=False) == ([first, second], [])


def test_groups_of_one_file_of_the_qrels_and_of_compressed_texts(tmp_path):
    path = folder(tmp_path, split="mine", qrels="q1\td1\t1\nq1\td2\t0\n")
    for name in ("corpus", "queries"):
        file = path / f"{name}.jsonl"
        (path / f"{name}.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    qrels = path / "qrels" / "mine.tsv"
    assert groups(qrels) == ([Group("query q1", ("Title one",), ("two",), f"{qrels}:2")], [])
    assert len(read(qrels)[0].passages) == 4


def test_what_is_wrong_for_training_is_named_file_by_file(tmp_path):
    path = folder(
        tmp_path,
        corpus=[{"_id": "d1", "text": "one"}, {"_id": "d2"}, {"_id": "d1", "text": "two"}],
        queries=[{"_id": "q1", "text": "one"}, "{"],
        qrels="q1\td1\t1\nq9\td1\t1\nq1\td7\t1\nq1\td1\t0\nq1\td8\tx\n",
    )
    corpus, queries, qrels = path / "corpus.jsonl", path / "queries.jsonl", path / "qrels" / "test.tsv"
    assert groups(path)[1] == [
        f"{qrels}:3: query id 'q9' is not in queries.jsonl",
        f"{qrels}:4: document id 'd7' is not in corpus.jsonl",
        f"{qrels}:5: document 'd1' appears again in query 'q1'",
        f"{qrels}:6: relevance 'x' is not a whole number",
        f"{queries}:2: broken JSON (Expecting property name enclosed in double quotes at character 2)",
        f"{corpus}:2: `text` (and `title`, if given) must be strings",
        f"{corpus}:3: `_id` 'd1' stands twice in this file",
    ]


@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_missing_and_empty_files_are_named(tmp_path, name):
    path = folder(tmp_path)
    file = path / f"{name}.jsonl"
    for spoil, problem in ((lambda: file.write_text("\n"), "no rows"), (file.unlink, "no such file")):
        spoil()
        assert read(path)[1] == [f"{file}: {problem}"]
        assert groups(path) == ([], [f"{file}: {problem}"])


def test_empty_qrels_are_named(tmp_path):
    path = folder(tmp_path, qrels="")
    problems = [f"{path}/qrels/test.tsv:1: the file is empty"]
    assert read(path)[1] == problems
    assert groups(path) == ([], problems)


def test_groups_without_any_negative_are_answered_with_mining(tmp_path):
    path = folder(tmp_path, qrels="q1\td1\t1\nq2\td3\t1\n")
    mine = f"find hard ones first: uprank mine data.train={path} output=train.jsonl"
    assert groups(path) == ([], [f"{path}: no query has judged negatives; {mine}"])


@pytest.mark.parametrize("need_negatives", [True, False])
def test_judgments_without_any_relevant_passage_are_a_problem(tmp_path, need_negatives):
    path = folder(tmp_path, qrels="q1\td1\t0\nq2\td3\t-1\n")
    expected = [f"{path}: no query has a relevant passage (a score above 0)"]
    assert groups(path, need_negatives=need_negatives) == ([], expected)


def test_a_negative_with_the_text_of_a_positive_is_a_problem(tmp_path):
    corpus = [{"_id": "d1", "text": "same"}, {"_id": "d2", "text": "same"}, {"_id": "d3", "text": "other"}]
    path = folder(tmp_path, corpus=corpus, qrels="q1\td1\t1\nq1\td2\t0\nq1\td3\t0\n")
    assert groups(path)[1] == [f"{path}/qrels/test.tsv:3: a positive is also a negative: document 'd2'"]


def test_problems_found_before_do_not_hide_a_good_folder(tmp_path):
    path = folder(tmp_path)
    problems = Problems([("row", "another file: wrong")])
    assert len(read_beir_groups(path, "test", problems, need_negatives=False)) == 2
    assert problems == ["another file: wrong"]
