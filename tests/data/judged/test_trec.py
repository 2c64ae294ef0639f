"""TREC and BEIR files: accepted and refused lines; written runs come back bit for bit, in rank order."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uprank.configs.errors import UserError
from uprank.data.judged.trec import read_beir_qrels, read_qrels, read_run, trec_collection, write_run
from uprank.data.judged.trec_lines import is_qrels
from uprank.data.trec_order import trec_order


def test_qrels_are_read(file, tmp_path):
    path = file("q1 0 d1 1\n\n  q1\tx  d2 -1\r\nq2 0 d1 +2")
    assert read_qrels(path) == {"q1": {"d1": 1, "d2": -1}, "q2": {"d1": 2}}


def test_run_is_read_and_the_rank_and_further_columns_are_ignored(file, tmp_path):
    path = file("q1 Q0 d1 7 1e-3 my run\n\tq1 Q0 d2 rank -.5 t\r\nq2 Q0 d1 1 3 t\n")
    assert read_run(path) == {"q1": {"d1": 0.001, "d2": -0.5}, "q2": {"d1": 3.0}}


def test_ids_may_contain_unicode_spaces(file, tmp_path):
    # trec_eval splits at ASCII white space only; str.split would see six columns here.
    path = file("q\u00a01 0 d\u30001 1\n")
    assert read_qrels(path) == {"q\u00a01": {"d\u30001": 1}}


@pytest.mark.parametrize("read", [read_qrels, read_run, read_beir_qrels])
def test_byte_order_mark_is_not_part_of_the_first_id(file, tmp_path, read):
    line = {read_qrels: "q1 0 d 1", read_run: "q1 Q0 d 1 1.0 t", read_beir_qrels: "q1\td\t1"}[read]
    assert list(read(file(b"\xef\xbb\xbf" + line.encode()))) == ["q1"]


def test_hash_is_a_query_id_not_a_comment(file, problems, tmp_path):
    assert read_qrels(file("#1 0 d1 1\n")) == {"#1": {"d1": 1}}
    path = file("# a remark\nq1 0 d1 1\n")
    assert problems(read_qrels, path) == [f"{path}:1: 3 columns, qrels have 4"]


def test_every_problem_of_the_qrels_is_listed(file, problems, tmp_path):
    path = file(
        b"q1 0 d1 1\nq1 0 d1 0\nq1 d2 1\nq1 0 d3 yes\nq1 0 d4 1.7\nq1 0 d5 1 x\nq1 0 \xff 1\n"
        b"q1 0 d6 3000000000\nq1 0 d7 " + b"9" * 9999 + b"\nq1 0 d8 1_0\n",
    )
    assert problems(read_qrels, path) == [
        f"{path}:2: document 'd1' appears again in query 'q1'",
        f"{path}:3: 3 columns, qrels have 4",
        f"{path}:4: relevance 'yes' is not a whole number",
        f"{path}:5: relevance '1.7' is not a whole number",
        f"{path}:6: 5 columns, qrels have 4",
        f"{path}:7: id b'\\xff' is not UTF-8",
        f"{path}:8: relevance '3000000000' is beyond 2147483647",
        f"{path}:9: relevance '{'9' * 40}' is beyond 2147483647",
        f"{path}:10: relevance '1_0' is not a whole number",
    ]


def test_every_problem_of_the_run_is_listed(file, problems, tmp_path):
    path = file(
        "q Q0 a 1 2 t\nq Q0 a 2 1 t\nq Q0 b 1 nan t\nq Q0 c 1 -inf t\nq Q0 d 1 1e999 t\nq Q0 e 1 high t\n"
        "q Q0 f 1 1_0 t\nq Q0 g 1 1.0\nq Q0 h 1 1.0 t\rq Q0 i 2 0.5 t\n",
    )
    assert problems(read_run, path) == [
        f"{path}:2: document 'a' appears again in query 'q'",
        f"{path}:3: score 'nan' is not finite",
        f"{path}:4: score '-inf' is not finite",
        f"{path}:5: score '1e999' is not finite",
        f"{path}:6: score 'high' is not a number",
        f"{path}:7: score '1_0' is not a number",
        f"{path}:8: 5 columns, a run has 6",
        f"{path}:9: a carriage return within the line; lines must end with LF or CRLF",
    ]


@pytest.mark.parametrize("read", [read_qrels, read_run, read_beir_qrels])
@pytest.mark.parametrize("content", ["", "\n \r\n\t\n"])
def test_empty_and_missing_files_are_refused(file, problems, tmp_path, read, content):
    path = file(content)
    assert problems(read, path) == [f"{path}:1: the file is empty"]
    assert problems(read, tmp_path / "none") == [f"{tmp_path / 'none'}: no such file"]
    assert problems(read, tmp_path) == [f"{tmp_path}: no such file"]


def test_beir_qrels_are_read(file, tmp_path):
    path = file("query-id\tcorpus-id\tscore\r\nq 1\td 1\t1\r\n\nq 1\td 2\t0\n")
    assert read_beir_qrels(path) == {"q 1": {"d 1": 1, "d 2": 0}}


def test_beir_first_line_is_dropped_only_if_it_is_the_header(file, problems, tmp_path):
    assert read_beir_qrels(file("q1\td1\t1\nq2\td1\t1\n")) == {"q1": {"d1": 1}, "q2": {"d1": 1}}
    path = file("q1\td1\tyes\nq2\td1\t1\n")
    assert problems(read_beir_qrels, path) == [f"{path}:1: relevance 'yes' is not a whole number"]
    path = file("query-id\tcorpus-id\tscore\n")
    assert problems(read_beir_qrels, path) == [f"{path}:1: the file is empty"]


def test_every_problem_of_the_beir_qrels_is_listed(file, problems, tmp_path):
    path = file("query-id\tcorpus-id\tscore\nq d 1\nq\t\t1\nq\td\t1.7\nq\te\t1\nq\te\t2\nq\tf\t1\t2\n")
    assert problems(read_beir_qrels, path) == [
        f"{path}:2: 1 columns separated by tabs, BEIR qrels have 3",
        f"{path}:3: an id is empty",
        f"{path}:4: relevance '1.7' is not a whole number",
        f"{path}:6: document 'e' appears again in query 'q'",
        f"{path}:7: 4 columns separated by tabs, BEIR qrels have 3",
    ]


def test_what_is_not_utf8_text_is_said_once(file, problems, tmp_path):
    path = file("q1 0 d 1\nq2 0 d 1\n".encode("utf-16"))
    assert problems(read_qrels, path) == [f"{path}:1: the file is UTF-16"]
    path = file(gzip.compress(b"q1 0 d 1\n" * 9))
    assert problems(read_run, path) == [f"{path}:1: the file is compressed"]


def test_a_file_of_another_kind_does_not_list_every_line(file, problems, tmp_path):
    found = problems(read_run, path := file("one two\n" * 5000))
    assert len(found) == 1001
    assert found[-1] == f"{path}: … and 4000 more"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("qrels.txt", "q1 0 d1 1\n", True),
        ("qrels", "\ufeff\n\nq1\t0\td1\t-1\r\n", True),
        ("qrels.txt", "# a remark\nq1 0 d1 1\n", True),
        ("qrels.tsv", "q1 0 d1 1\n", True),
        ("qrels.txt", "q1 0 d1 1.0\n", True),  # whose grade is for read_qrels to refuse
        ("test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n", False),
        ("test.tsv", "q 1\td1\t1\n", False),
        ("groups.jsonl", "q1 0 d1 1\n", False),
        ("groups", '{"query": "a", "n": 1\n', False),
        ("a.run", "q1 Q0 d1 1 2.0 t\n", False),
        ("empty", "", False),
        ("qrels.tsv.gz", gzip.compress(b"q1\t0\td1\t1\n", mtime=0), True),
        ("test.tsv.gz", gzip.compress(b"q 1\td1\t1\n", mtime=0), False),
        ("groups.jsonl.gz", gzip.compress(b"q1 0 d1 1\n", mtime=0), False),
    ],
)
def test_qrels_are_recognised(file, tmp_path, name, content, expected):
    assert is_qrels(file(content, name)) is expected
    assert not is_qrels(tmp_path)
    assert not is_qrels(tmp_path / "none")


def test_a_collection_of_judgments_alone(file, tmp_path):
    path = file("q1 0 d1 1\nq2 0 d1 0\n")
    collection = trec_collection(path)
    assert collection.path == str(path)
    assert collection.queries == {"q1": "", "q2": ""}
    assert collection.qrels == {"q1": {"d1": 1}, "q2": {"d1": 0}}
    assert (collection.passages, collection.pools) == ({}, {})


def test_run_is_written_in_rank_order(tmp_path):
    path = tmp_path / "folder" / "run.txt"
    write_run(path, {"q2": {"a": 0.5, "é": 2, "b": 0.5}, "q1": {"a": -1.0}}, "mine")
    assert path.read_bytes().decode() == (
        "q2 Q0 é 1 2 mine\nq2 Q0 b 2 0.5 mine\nq2 Q0 a 3 0.5 mine\nq1 Q0 a 1 -1 mine\n"
    )


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
@settings(max_examples=200, deadline=None)
def test_float32_scores_round_trip(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("run") / "run.txt"
    run = {"q": {f"d{i}": score for i, score in enumerate(scores)}}
    write_run(path, run, "t")
    back = read_run(path)["q"]
    got = np.array([back[document] for document in run["q"]], dtype=np.float32)
    assert got.tobytes() == np.array(scores, dtype=np.float32).tobytes()


def test_float32_scores_of_every_magnitude_round_trip(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, size=20_000, dtype=np.uint32)
    scores = bits.view(np.float32)
    scores = scores[np.isfinite(scores)]
    write_run(tmp_path / "run.txt", {"q": {f"d{i}": score for i, score in enumerate(scores)}}, "t")
    back = read_run(tmp_path / "run.txt")["q"]
    got = np.array([back[f"d{i}"] for i in range(len(scores))], dtype=np.float32)
    assert got.tobytes() == scores.tobytes()


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=200, deadline=None)
def test_float64_scores_round_trip_as_the_float32_they_are_ranked_by(tmp_path_factory, score):
    path = tmp_path_factory.mktemp("run") / "run.txt"
    write_run(path, {"q": {"d": score}}, "t")
    with np.errstate(over="ignore"):
        assert np.float32(read_run(path)["q"]["d"]) == np.float32(score)


def test_what_cannot_be_written_is_listed_and_nothing_is_written(tmp_path):
    path = tmp_path / "run.txt"
    run = {"q 1": {"d": 1.0}, "q": {"": 1.0, "a\u00a0b": 1.0, "c": float("nan"), "e": float("inf")}}
    with pytest.raises(UserError) as caught:
        write_run(path, run, "my run")
    assert caught.value.problems == [
        f"{path}: tag 'my run' is empty or has white space",
        f"{path}: query id 'q 1' is empty or has white space",
        f"{path}: query 'q': document id '' is empty or has white space",
        f"{path}: query 'q': document id 'a\\xa0b' is empty or has white space",
        f"{path}: query 'q': the score of document 'c' is nan",
        f"{path}: query 'q': the score of document 'e' is inf",
    ]
    assert not path.exists()


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=4), st.sampled_from([0.0, -0.0, 1.0, 1 + 1e-12])
    )
)
def test_order_is_score_then_id_descending_by_utf8_bytes(scores):
    documents = list(scores)
    got = [documents[i] for i in trec_order(documents, list(scores.values()))]
    assert got == sorted(documents, key=lambda d: (np.float32(scores[d]), d.encode()), reverse=True)


def test_an_id_with_a_blank_does_not_make_the_rank_a_score(file, problems):
    path = file("q Q0 my doc 1 2.0 t\nq Q0 d 1 2.0 a tag with blanks\n")
    assert problems(read_run, path) == [
        f"{path}:1: more than 6 columns, and the rank is 'doc': an id with a blank?"
    ]
