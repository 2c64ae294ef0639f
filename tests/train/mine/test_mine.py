"""Mined negatives are no positives and no copies; one seed writes one file; nothing is overwritten."""

import json

import pytest
from uprank.configs.schema_data import TeacherSettings
from uprank.data.origin import find_origin
from uprank.data.problems import Problems
from uprank.data.read import read_judged
from uprank.data.rows.jsonl import read_jsonl
from uprank.eval.retrieval.bm25 import search_bm25


def normal(text):
    return " ".join(text.lower().split())


@pytest.fixture
def tricky(tmp_path):
    """Return a corpus whose first stage finds positives, copies of them, of the query and of each other."""
    corpus = {
        "p1": "river stone light",
        "p1-copy": "River  STONE light",
        "p2": "river river stone",
        "query-copy": "river\nStone",
        "n1": "river bank",
        "n1-copy": "River bank",
        "n2": "stone wall",
        "n3": "stone bridge river crossing far away",
        "zero": "stone age",
        "minus": "river delta",
        "far": "something else",
    }
    folder = tmp_path / "tricky"
    (folder / "qrels").mkdir(parents=True)
    texts = [json.dumps({"_id": key, "text": text}) for key, text in corpus.items()]
    (folder / "corpus.jsonl").write_text("\n".join(texts))
    queries = {"a": "river stone", "b": "light", "c": "far", "d": "river"}
    (folder / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": k, "text": t}) for k, t in queries.items())
    )
    rows = ["a\tp1\t1", "a\tp2\t2", "a\tzero\t0", "a\tminus\t-1", "b\tp1\t1", "d\tn1\t0"]
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows) + "\n")
    return folder


def test_negatives_are_neither_positives_nor_copies(mined, tricky, tmp_path, capsys):
    (row,) = mined(tricky, tmp_path / "out.jsonl")
    assert row["query_id"] == "a"
    assert row["query"] == "river stone"
    assert row["pos"] == ["river stone light", "river river stone"]
    # Judged 0 and below are negatives like unjudged ones; of two copies the better ranked one is taken.
    assert {normal(text) for text in row["neg"]} == {
        "river bank",
        "stone wall",
        "stone age",
        "river delta",
        "stone bridge river crossing far away",
    }
    assert len(row["neg"]) == 5
    # b finds only its positive and its copy, d has no relevant passage, c is not judged.
    assert "1 queries, 5 negatives (5.0 a query); 2 queries left out" in capsys.readouterr().err


def test_the_licence_of_the_folder_travels_with_the_rows(mined, tricky, tmp_path):
    (tricky / "README.md").write_text("---\nlicense: cc-by-4.0\nlanguage: en\n---\n")
    mined(tricky, tmp_path / "out.jsonl")
    assert find_origin(str(tmp_path / "out.jsonl")) == {
        "names": ["tricky"],
        "license": "cc-by-4.0",
        "language": ["en"],
    }


def test_negatives_of_a_folder(mined, beir, tmp_path):
    output = tmp_path / "out.jsonl"
    rows = mined(beir, output, negatives=6, depth=20)
    collection = read_judged(str(beir), [], split="train")
    assert [row["query_id"] for row in rows] == list(collection.queries)
    ids = {text: doc for doc, text in collection.passages.items()}
    found = search_bm25(collection.passages, collection.queries, depth=60)
    for row in rows:
        query = row["query_id"]
        relevant = [doc for doc, grade in collection.qrels[query].items() if grade > 0]
        assert row["query"] == collection.queries[query]
        assert row["pos"] == [collection.passages[doc] for doc in relevant]
        negatives = [ids[text] for text in row["neg"]]
        ranked = [doc for doc in found[query] if doc not in relevant]
        assert set(negatives) <= set(ranked[:20])
        assert [ranked.index(doc) for doc in negatives] == sorted(ranked.index(doc) for doc in negatives)
        assert len(set(map(normal, row["neg"]))) == len(negatives) == min(6, len(ranked))
        assert not {normal(text) for text in row["neg"]} & {
            normal(text) for text in (*row["pos"], row["query"])
        }
    problems = Problems()
    assert len(read_jsonl(output, problems)) == len(rows)
    assert problems == []


def test_the_same_seed_writes_the_same_bytes(mined, beir, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        mined(beir, tmp_path / name, negatives=4, depth=20, seed=seed)
    first, second, third = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second
    assert first != third


@pytest.mark.parametrize(("skip", "depth"), [(0, 3), (2, 5), (4, 5), (10, 60)])
def test_skip_and_depth_bound_the_ranks(mined, beir, tmp_path, skip, depth):
    rows = mined(beir, tmp_path / "out.jsonl", skip=skip, depth=depth, negatives=100)
    collection = read_judged(str(beir), [], split="train")
    found = search_bm25(collection.passages, collection.queries, depth=1000)
    expected = {}
    for query, ranked in found.items():
        unjudged = [doc for doc in ranked if collection.qrels[query].get(doc, 0) <= 0]
        window = [collection.passages[doc] for doc in unjudged[skip:depth]]
        if window:
            expected[query] = window
    assert {row["query_id"]: row["neg"] for row in rows} == expected


def test_an_existing_output_is_refused(mine_problems, beir, tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    assert mine_problems(beir, output) == [f"output={output}: exists; nothing was overwritten"]
    assert output.read_text() == "mine"
    assert mine_problems(beir, tmp_path) == [f"output={tmp_path}: exists; nothing was overwritten"]


def test_the_folder_of_the_output_is_made(mined, beir, tmp_path):
    assert mined(beir, tmp_path / "new" / "deep" / "out.jsonl")


def test_everything_wrong_at_once(mine_problems, jsonl, tmp_path):
    problems = mine_problems(
        jsonl[0],
        tmp_path,
        retriever="bm52",
        sampling="best",
        depth=0,
        negatives=0,
        skip=-1,
        seed=-1,
        near_duplicates=1.5,
        relative_margin=float("nan"),
        teacher=TeacherSettings(scores=True, precision="int8"),
    )
    assert problems == [
        "retriever=bm52: allowed are bm25, dense, hybrid, random, the path of a TREC run",
        "sampling=best: allowed are random, top, log_random",
        "depth=0: allowed are whole numbers from 1",
        "negatives=0: allowed are whole numbers from 1",
        "seed=-1: allowed are whole numbers from 0 to 2**63 - 1",
        "skip=-1: must be 0 or more and below depth=0",
        "near_duplicates=1.5: allowed is above 0 to 1, or null",
        "relative_margin=nan: allowed are numbers, or null",
        "teacher.precision=int8: allowed are auto, fp32, bf16, fp16",
        "teacher.scores=true: needs teacher.path, the reranker that scores",
        f"output={tmp_path}: exists; nothing was overwritten",
        f"{jsonl[0]}: rows have no corpus to search; set corpus=PASSAGES.jsonl",
    ]


def test_wrong_data_is_named_and_nothing_is_written(mine_problems, tricky, tmp_path):
    (tricky / "corpus.jsonl").write_text('{"_id": "p1"}\n')
    output = tmp_path / "new" / "out.jsonl"
    assert f"{tricky}/corpus.jsonl:1: `text` (and `title`, if given) must be strings" in mine_problems(
        tricky, output
    )
    assert not output.parent.exists()


def test_queries_without_both_sides_are_refused(mine_problems, tricky, tmp_path):
    (tricky / "qrels" / "train.tsv").write_text("b\tp1\t1\n")
    output = tmp_path / "out.jsonl"
    assert mine_problems(tricky, output) == [f"{tricky}: no query has both a relevant passage and a negative"]
    assert not output.exists()
