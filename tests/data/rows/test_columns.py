"""How columns are read: by their names first, then in their order, as sentence-transformers does."""

import pytest
from uprank.data.problems import Problems
from uprank.data.read import read_groups
from uprank.data.rows.columns import Shape, columns_of, find_shape


def shape(*columns, **values):
    return find_shape([dict.fromkeys(columns, "text") | values])


SHAPES = {
    ("query", "pos", "neg", "id", "prompt"): "query = query, pos = positive, neg = negative, id is not used",
    ("query", "positive", "negative"): "query = query, positive = positive, negative = negative",
    ("anchor", "positive"): "anchor = query, positive = positive",
    ("answer", "question"): "question = query, answer = positive",
    ("sentence1", "sentence2"): "sentence1 = query, sentence2 = positive",
    ("sentence_A", "sentence_B", "sentence_C"): "sentence_A = query, sentence_B = positive, "
    "sentence_C = negative",
    ("premise", "hypothesis"): "premise = query, hypothesis = positive",
    ("idx", "title", "body", "other", "last"): "title = query, body = positive, "
    "other = negative, last = negative",
    ("Query", "Positive", "negative_1", "negative_2"): "Query = query, Positive = positive, "
    "negative_1 = negative, negative_2 = negative",
    ("query", "positive", "url", "hard_negative"): "query = query, positive = positive, "
    "hard_negative = negative, url is not used",
    ("query", "body"): "query = query, body = positive",
    ("title", "answer"): "title = query, answer = positive",
    ("title", "query", "body"): "query = query, title = positive, body = negative",
    ("query", "body", "negative", "url"): "query = query, body = positive, "
    "negative = negative, url is not used",
    ("query-id", "_id", "doc_id", "index", "query", "document"): "query = query, document = positive",
    ("premise", "hypothesis", "label"): "premise = query, hypothesis = passages, label = relevance",
    ("Score", "query", "docs", "source"): "query = query, docs = passages, Score = relevance, "
    "source is not used",
}  # fmt: skip


@pytest.mark.parametrize("columns", SHAPES)
def test_columns_are_read_so(columns):
    assert str(shape(*columns)) == SHAPES[columns]


@pytest.mark.parametrize(
    "columns",
    [
        ("text",),
        ("query",),
        ("id", "query_id", "positive_id"),
        ("query", "positive", "negative", "label"),  # a margin, which is no relevance
        ("a", "b", "c", "label"),
        ("query", "docs", "label", "score"),
        (),
    ],
)
def test_columns_that_mean_nothing(columns):
    assert shape(*columns) is None


def test_values_that_are_no_texts_are_no_passages():
    assert shape("query", "positive", messages=[{"role": "user"}], number=3).unused == ("messages", "number")
    assert shape("a", "b", number=3).unused == ("number",)  # a problem, as it may be the relevance
    assert shape("a", messages=[{"role": "user"}]) is None
    assert shape("a", "b", more=None).negatives == ("more",)


def test_one_row_decides_nothing():
    good = {"query": "q", "positive": "p", "negative": "n"}
    for bad in ({}, {"other": 1}, good | {"positive": 3}, good | {"extra": "x"}, {"query": None}):
        for rows in ([bad, good, good], [good, bad, good]):
            assert find_shape(rows) == Shape("query", "positive", ("negative",))
    assert columns_of([{"b": 1}, {"a": 1, "b": 2}, {"a": 3}, {"c": 3}]) == ["b", "a"]


def test_lists_are_groups_and_texts_are_merged():
    assert shape("query", negative=["n"], positive=["p"]).lists
    assert not shape("query", "positive", "negative").lists
    assert shape("query", docs=["a"], labels=[1]).lists
    groups = shape("query", pos=["p"], neg=["n"], pos_scores=[1], neg_scores=[0])
    assert groups.groups
    assert groups.unused == ()


def test_pos_and_neg_of_csv_are_texts():
    row = {"query": "q", "pos": "p", "neg": "n"}
    assert find_shape([row], separated=True) == Shape("query", "pos", ("neg",))
    assert find_shape([row]).groups


def rows_of(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    problems = Problems()
    groups = list(read_groups(str(path), problems, need_negatives=False))
    return groups, problems


@pytest.mark.parametrize("column", ["relevance", "rel", "Grade"])
def test_relevance_is_known_by_other_names(tmp_path, column):
    lines = [f'{{"sentence1": "q", "sentence2": "p{grade}", "{column}": {grade}}}' for grade in (0, 1, 2)]
    (group,), problems = rows_of(tmp_path, "r.jsonl", "\n".join(lines))
    assert (group.positives, group.negatives, group.grades, problems) == (("p1", "p2"), ("p0",), (1, 2), [])


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_numbers_that_are_not_read_beside_pairs_are_an_error(tmp_path, name):
    text = (
        '{"query": "q", "answer": "a", "judged": 0}\n'
        if name == "r.jsonl"
        else "query,answer,judged\nq,a,0\n"
    )
    groups, problems = rows_of(tmp_path, name, text)
    assert groups == []
    assert len(problems) == 1
    assert "judged has numbers and is not read" in problems[0]


def test_columns_taken_by_order_or_not_read_are_a_warning_that_stays(tmp_path):
    for _ in range(2):  # read, and from the cache
        groups, problems = rows_of(tmp_path, "r.csv", "text1,text2,source\na,b,news\nc,d,web\n")
        assert problems == []
        assert read_store(tmp_path / "r.csv").problems.of("columns") == [
            f"{tmp_path / 'r.csv'}: text1 = query, text2 = positive, source = negative"
        ]
        assert len(groups) == 2


def read_store(path):
    return read_groups(str(path), [], need_negatives=False)


def test_a_known_column_that_few_rows_have_is_read(tmp_path):
    lines = [
        f'{{"query": "q{n}", "positive": "p{n}", "negative": "n{n}"'
        + (f', "negative_2": "m{n}"' * (n < 4))
        + "}"
        for n in range(10)
    ]
    groups, problems = rows_of(tmp_path, "r.jsonl", "\n".join(lines))
    assert problems == []
    assert sum(len(group.negatives) for group in groups) == 14


def test_the_first_triple_is_no_header(tmp_path):
    text = "what is x\tgood answer\tbad answer\nand y\tyes\tno\n"
    groups, problems = rows_of(tmp_path, "triples.tsv", text)
    assert ([group.query for group in groups], problems) == (["what is x", "and y"], [])
    groups, _ = rows_of(tmp_path, "triples.train.tsv", "query\tpositive\tnegative\n" + text)
    assert [group.query for group in groups] == ["what is x", "and y"]
