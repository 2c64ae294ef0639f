"""Tables as pandas, spreadsheets and other trainers write them: read as meant, or refused by name."""

import gzip
import json
import logging
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from uprank.configs.errors import UserError
from uprank.data.problems import Problems
from uprank.data.read import read_groups, read_judged
from uprank.data.rows import lines


def read(path, text="", *, need_negatives=True):
    """Write a text (or bytes) to a path, and return its groups and what is wrong or worth a note."""
    if text:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    problems = Problems()
    groups = list(read_groups(str(path), problems, need_negatives=need_negatives))
    return groups, problems


def content(groups):
    return [(group.query, group.positives, group.negatives) for group in groups]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("查询,段落,标签\n什么是重排序,打分,1\n什么是重排序,停车,0\n", "标签 has numbers and is not read"),
        ("q,doc,y\nwhat is it,a scorer,1\nwhat is it,a lorry,0\n", "y has numbers and is not read"),
        ("q,doc,y\nwhat is it,a scorer,1.0\nwhat is it,a lorry,0.0\n", "y has numbers and is not read"),
        ("a,b,c\nwhat is,a scorer,yes\nwhat is,a lorry,no\n", "c has labels and is not read"),
        ("a,b,c\nq r,s t,relevant\nq r,u v,not relevant\n", "c has labels and is not read"),
        ("a,context,split\nwhat is it,a scorer,train\nwho is it,a king,train\n", "has no negatives"),
        ("a,b,source\nwhat is it,a scorer,doc_17\nwho is it,a king,doc_18\n", "has no negatives"),
        ("query,positive,negative\n17,23,42\n18,24,43\n", "query (numbers), positive (numbers)"),
    ],
)
@pytest.mark.parametrize("judged", [False, True])
def test_numbers_ids_and_constants_are_no_passages(tmp_path, text, message, judged):
    if judged and "negatives" in message:
        return  # judged queries need none
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    problems = Problems()
    if judged:
        read_judged(str(tmp_path / "a.csv"), problems, split="test")
    else:
        assert list(read_groups(str(tmp_path / "a.csv"), problems)) == []
    assert any(message in problem for problem in problems), list(problems)


def test_class_names_by_order_are_no_negatives(tmp_path):
    lines = [f"question {k} is,answer {k} is,{'easy' if k % 2 else 'hard'}" for k in range(12)]
    groups, _ = read(tmp_path / "a.csv", "\n".join(["a,b,kind", *lines]), need_negatives=False)
    assert {group.negatives for group in groups} == {()}


@pytest.mark.parametrize(
    "cells",
    [
        ("\"['a b', 'c']\"", "\"['d', 'e']\""),
        ('"[""a b"", ""c""]"', '"[""d"", ""e""]"'),
        ("\"['a b',\n 'c']\"", "\"['d',\n 'e']\""),
    ],
    ids=["python", "json", "lines"],
)
@pytest.mark.parametrize("names", ["query,positive,negative", "query,pos,neg"])
def test_lists_written_as_text_are_lists(tmp_path, cells, names):
    groups, problems = read(tmp_path / "a.csv", f"{names}\nq,{cells[0]},{cells[1]}\n")
    assert (content(groups), list(problems)) == ([("q", ("a b", "c"), ("d", "e"))], [])


def test_labels_written_as_a_list(tmp_path):
    groups, _ = read(tmp_path / "a.csv", "query,docs,labels\nq,\"['a', 'b']\",\"[1, 0]\"\n")
    assert content(groups) == [("q", ("a",), ("b",))]


@pytest.mark.parametrize("cell", ["['a' 'b']", "['a', 'b', ...]", "['a', 'b"])
def test_a_list_that_cannot_be_read_is_refused(tmp_path, cell):
    groups, problems = read(tmp_path / "a.csv", f'query,positive,negative\nq,"{cell}",n\n')
    assert groups == []
    assert "`positive` is a list written as text that cannot be read" in problems[0]


@pytest.mark.parametrize("text", ["[1] as in [2]", "[sic]", "[a] b", "['tis] the season"])
def test_brackets_of_a_text_stay(tmp_path, text):
    groups, _ = read(tmp_path / "a.csv", f"query,positive,negative\nq,{text},n\n")
    assert content(groups) == [("q", (text,), ("n",))]


@pytest.mark.parametrize("word", ["NaN", "nan", "None", "NULL", "N/A", "<NA>"])
def test_missing_values_written_as_text_are_missing(tmp_path, word):
    text = f"query,positive,negative_1,negative_2\nq,p,{word},n\nr,{word},n,m\n"
    groups, problems = read(tmp_path / "a.csv", text)
    assert content(groups) == [("q", ("p",), ("n",))]
    assert list(problems) == [f"{tmp_path / 'a.csv'}:3: `positive` is null, not a string"]
    row = {"query": "q", "pos": ["p", word], "neg": ["n"]}
    groups, problems = read(tmp_path / "a.jsonl", json.dumps(row))
    assert groups == []
    assert f"`pos[1]` is {word!r}: a missing value" in problems[0]


def test_nan_is_null(tmp_path):
    text = '{"query": "q", "positive": "p", "negative_1": NaN, "negative_2": "n"}\n'
    assert content(read(tmp_path / "a.jsonl", text * 2)[0])[0] == ("q", ("p",), ("n",))


@pytest.mark.parametrize("values", [(True, False), ("True", "False"), ("relevant", "not_relevant")])
def test_truth_values_and_names_are_labels(tmp_path, values):
    rows = [{"query": "q", "passage": f"p{k}", "label": value} for k, value in enumerate(values)]
    assert content(read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))[0]) == [
        ("q", ("p0",), ("p1",))
    ]


@pytest.mark.parametrize("names", [["irrelevant", "relevant"], ["relevant", "irrelevant"], ["0", "1"]])
def test_class_names_stored_with_the_data_are_read(tmp_path, names):
    import datasets

    features = datasets.Features(
        {
            "query": datasets.Value("string"),
            "passage": datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
        }
    )
    good = next(place for place, name in enumerate(names) if name in ("relevant", "1"))
    data = {"query": ["q", "q"], "passage": ["good", "bad"], "label": [good, 1 - good]}
    made = datasets.Dataset.from_dict(data, features)
    made.to_parquet(str(tmp_path / "a.parquet"))
    made.save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "a.parquet", tmp_path / "saved"):
        assert content(read(path)[0]) == [("q", ("good",), ("bad",))]


@pytest.mark.parametrize("names", [["A", "B"], ["entailment", "neutral", "contradiction"]])
def test_class_names_that_say_nothing_of_relevance_are_refused(tmp_path, names):
    """Read by number, SNLI's contradictions would be the most relevant passages."""
    import datasets

    features = datasets.Features(
        {
            "query": datasets.Value("string"),
            "passage": datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
        }
    )
    data = {"query": ["q"] * 2, "passage": ["one text", "other text"], "label": [0, 1]}
    made = datasets.Dataset.from_dict(data, features)
    made.to_parquet(str(tmp_path / "a.parquet"))
    made.save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "a.parquet", tmp_path / "saved"):
        groups, problems = read(path)
        assert not content(groups)
        assert f"`label` {names[0]!r}" in "".join(problems)


def test_passages_as_objects_are_title_and_text(tmp_path):
    one, other = {"docid": "1", "title": "T", "text": "x"}, {"docid": "2", "title": "", "text": "y"}
    row = {"query_id": "1", "query": "q", "positive_passages": [one], "negative_passages": [other]}
    groups, _ = read(tmp_path / "a.jsonl", json.dumps(row))
    assert content(groups) == [("q", ("T x",), ("y",))]


@pytest.mark.parametrize(
    "text",
    [
        ",query,positive,negative\n0,q,p,n\n",
        "Unnamed: 0,query,positive,negative\n0,q,p,n\n",
        "\ufeffquery;positive;negative\nq;p;n\n",
        "query\tpositive\tnegative\nq\tp\tn\n",
        "query|positive|negative\nq|p|n\n",
        "sep=;\nquery;positive;negative\nq;p;n\n",
        '"query";"positive";"negative"\r\n"q";"p";"n"\r\n',
    ],
)
def test_tables_of_pandas_and_spreadsheets(tmp_path, text):
    groups, problems = read(tmp_path / "a.csv", text)
    assert content(groups) == [("q", ("p",), ("n",))], list(problems)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "查询,段落\n甲,乙\n".encode("gb18030"), "a.csv: its first line is not UTF-8; save it as"),
        ("a.tsv", "query\tpositive\n".encode("utf-16"), "a.tsv: is UTF-16; save it as CSV UTF-8"),
        ("a.xlsx", b"PK\x03\x04", "a.xlsx: a spreadsheet; save it as CSV UTF-8"),
        ("a.txt", "query,positive\n", "a.txt: no JSON lines, and its name says no other kind"),
        (
            "a.csv",
            "what is it?,p\n",
            "has to name the columns, as in query,positive,negative: what is it?, p",
        ),
        ("a.jsonl", '{"query": "q", "pos": ["a"], "pos": ["b"]}', "a.jsonl:1: broken JSON (key 'pos' stands"),
        (
            "a.json",
            '{"query": {"0": "q"}, "positive": {"0": "p"}, "negative": {"0": "n"}}',
            "query (an object in each row), positive (an object in each row)",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, text, message):
    groups, problems = read(tmp_path / name, text)
    assert groups == []
    assert message in problems[0]


def test_bytes_are_named(tmp_path):
    pq.write_table(pa.table({"query": [b"q"], "positive": [b"p"]}), tmp_path / "a.parquet")
    assert "query (of type bytes in each row)" in read(tmp_path / "a.parquet")[1][0]


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (str(tmp_path / "pipe.jsonl"), "/dev/zero"):
        problems = Problems()
        assert list(read_groups(path, problems)) == []
        assert problems[0].startswith(f"{path}: a pipe or a device")


def test_a_line_that_unpacks_to_anything_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST", 1000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"x" * 100_000))
    with pytest.raises(UserError, match=r"a\.jsonl\.gz:1: a line of more than"):
        list(lines.read_lines(tmp_path / "a.jsonl.gz"))


def test_train_and_eval_say_how_a_table_was_read(tmp_path, caplog):
    from uprank.train.check.command import check_before_training

    caplog.set_level(logging.WARNING)
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\nwhat is it,a thing here,no way\nwho is it,a person,some text\n")
    groups = read_groups(str(path), Problems())
    note = f"{path}: a = query, b = positive, c = negative"
    dev = read_judged(str(path), Problems(), split="dev")
    assert caplog.messages == [note]
    path.write_text("query,pos,neg\nanother one,p,n\n")
    other = read_judged(str(path), Problems(), split="dev")
    assert f"columns: {note}" in check_before_training([(str(path), groups)], other)
    assert len(dev.queries) == 2


def test_scores_beyond_float32_are_refused(tmp_path):
    row = {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1e39], "neg_scores": [0.5]}
    groups, problems = read(tmp_path / "a.jsonl", json.dumps(row))
    assert groups == []
    assert "`pos_scores` needs one number for each of its 1 passages" in problems[0]
