"""Which passages are ranked: from each source, cut at the depth, with unknown ids refused."""

import dataclasses
import json

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.configs.schema import DenseSettings
from uprank.data.groups import Collection
from uprank.data.read import read_judged
from uprank.eval.measures.ranking import rank
from uprank.eval.retrieval.bm25 import search_bm25
from uprank.eval.retrieval.candidates import Candidates, find_candidates, resolve_source
from uprank.eval.retrieval.dense import search_dense as dense_search
from uprank.eval.retrieval.embeddings import load_bi_encoder
from uprank.eval.retrieval.fusion import reciprocal_rank_fusion

PASSAGES = {f"d{k}": f"river {'stone ' * k}" for k in range(6)}
CORPUS = Collection(
    "folder",
    {"q1": "stone", "q2": "river"},
    PASSAGES,
    {"q1": {"d3": 1, "d1": 0, "d2": -1}, "q2": {"d5": 2}},
    {},
)
ROWS = Collection(
    "rows.jsonl",
    {"1": "stone", "2": "river"},
    PASSAGES,
    {"1": {"d3": 1, "d1": 0}, "2": {"d5": 1}},
    {"1": ["d1", "d3"], "2": ["d5"]},
)


def find(collection, source, depth=100):
    return find_candidates(collection, source, depth)


def refused(collection, source, depth=100):
    with pytest.raises(UserError) as caught:
        find(collection, source, depth)
    return caught.value.problems


def run_file(tmp_path, *lines, name="first.run"):
    path = tmp_path / name
    path.write_text("".join(f"{query} Q0 {doc} 0 {score} t\n" for query, doc, score in lines))
    return path


def test_auto_searches_a_corpus_and_takes_the_candidates_of_rows(tmp_path, jsonl):
    assert resolve_source("auto", 100, str(tmp_path)) == "bm25"
    assert resolve_source("auto", 100, "x/qrels/test.tsv") == "bm25"
    assert resolve_source("auto", 100, str(jsonl[0])) == "groups"
    assert resolve_source("auto", 100, "mteb://Task") == "auto"  # only its data can say


def test_pools_are_cut_in_the_order_of_their_reader(tmp_path):
    given = dataclasses.replace(ROWS, pools={"1": ["d3", "d1"], "2": ["d5"]})
    assert [list(find(given, "groups", depth).run["1"]) for depth in (1, 2)] == [["d3"], ["d3", "d1"]]
    assert list(find(given, "judged", 1).run["1"]) == ["d1"]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"query": "q", "pos": ["a", "b", "c"], "neg": ["d", "e", "f"]}))
    rows = read_judged(str(file), [], split="test")
    assert list(find(rows, "groups", 3).run["1"]) == sorted(rows.passages)[:3]


def test_bm25_is_the_first_stage():
    found = find(CORPUS, "bm25", 3)
    assert found.run == search_bm25(CORPUS.passages, CORPUS.queries, depth=3)
    assert (found.source, found.depth, found.first_stage) == ("bm25", 3, "bm25")
    assert found.pairs == [(query, doc) for query in ("q1", "q2") for doc in found.run[query]]


@pytest.mark.parametrize(
    ("collection", "source", "run"),
    [
        (ROWS, "groups", {"1": ["d1", "d3"], "2": ["d5"]}),
        (ROWS, "judged", {"1": ["d1", "d3"], "2": ["d5"]}),
        (CORPUS, "judged", {"q1": ["d1", "d2", "d3"], "q2": ["d5"]}),
    ],
)
def test_own_passages_come_without_an_order_that_knows_relevance(collection, source, run):
    expected = {query: dict.fromkeys(docs, 0.0) for query, docs in run.items()}
    assert find(collection, source) == Candidates(source, 100, expected, "")
    assert {query: len(row) for query, row in find(collection, source, 1).run.items()} == dict.fromkeys(
        run, 1
    )


def test_a_run_file_is_cut_by_the_rule_of_trec(tmp_path):
    path = run_file(
        tmp_path,
        ("q1", "d1", 2), ("q1", "d2", 2), ("q1", "d3", 2), ("q1", "d0", 5), ("q9", "x", 1),
    )  # fmt: skip
    found = find(CORPUS, str(path), 2)
    assert found.run == {
        "q1": {"d0": 5.0, "d3": 2.0},
        "q2": {},
    }  # of equal scores the last id; q2 is not there
    assert list(found.run["q1"]) == ["d0", "d3"]
    assert (found.source, found.first_stage) == (str(path), "first")
    assert found.pairs == [("q1", "d0"), ("q1", "d3")]


def test_documents_that_are_not_in_the_corpus_are_all_named(tmp_path):
    path = run_file(tmp_path, ("q1", "d1", 1), ("q1", "x", 1), ("q2", "y", 1), ("q9", "z", 1))
    assert refused(CORPUS, str(path)) == [
        f"{path}: document 'x' (query 'q1') is not in the corpus of folder",
        f"{path}: document 'y' (query 'q2') is not in the corpus of folder",
    ]


def test_many_unknown_documents_are_cut_and_counted(tmp_path):
    path = run_file(tmp_path, *[("q1", f"x{k:02}", 1) for k in range(30)])
    problems = refused(CORPUS, str(path))
    assert len(problems) == 21
    assert problems[-1] == "… and 10 more"


def test_a_run_of_other_queries_is_refused(tmp_path):
    path = run_file(tmp_path, ("q8", "d1", 1), ("q9", "d1", 1))
    assert refused(CORPUS, str(path)) == [f"{path}: none of its 2 queries is judged in folder"]


def test_a_broken_run_is_refused_line_by_line(tmp_path):
    path = run_file(tmp_path, ("q1", "d1", 1), ("q1", "d2", "nan"), ("q1", "d3", "high"))
    assert refused(CORPUS, str(path)) == [
        f"{path}:2: score 'nan' is not finite",
        f"{path}:3: score 'high' is not a number",
    ]


def test_sources_that_do_not_fit_the_data():
    (problem,) = refused(ROWS, "bm25")
    assert problem.startswith("rows.jsonl: rows have no corpus to search")
    (problem,) = refused(CORPUS, "groups")
    assert problem.startswith("folder: queries over a corpus have no groups; allowed are bm25, dense")


def test_an_unknown_source_and_a_wrong_depth_at_once(tmp_path):
    assert refused(CORPUS, "bm52", 0) == [
        "candidates 'bm52': no such file; allowed are bm25, dense, hybrid, groups, judged, or the path of a "
        "TREC run file",
        "depth=0: allowed are whole numbers from 1",
    ]
    assert refused(CORPUS, str(tmp_path))[0].startswith(f"candidates {str(tmp_path)!r}: no such file")


def test_judged_passages_of_the_fixture(beir):
    collection = read_judged(str(beir), [], split="test")
    found = find(collection, "judged")
    assert {query: set(row) for query, row in found.run.items()} == {
        query: set(row) for query, row in collection.qrels.items()
    }


def test_dense_and_hybrid_are_first_stages(bi_encoder):
    settings = DenseSettings(path=str(bi_encoder()))
    near = dense_search(load_bi_encoder(settings), CORPUS.passages, CORPUS.queries, depth=100)
    found = find_candidates(CORPUS, "dense", 3, dense=settings)
    assert found.run == {query: dict(list(row.items())[:3]) for query, row in near.items()}
    assert (found.source, found.first_stage, found.added) == ("dense", "dense", 0)
    words = search_bm25(CORPUS.passages, CORPUS.queries, depth=100)
    found = find_candidates(CORPUS, "hybrid", 2, dense=settings)
    # Fused from whole rankings and then cut: the best two do not depend on the depth.
    assert found.run == reciprocal_rank_fusion([words, near], depth=2)
    assert (found.source, found.first_stage) == ("hybrid", "hybrid")


def test_a_bi_encoder_is_asked_for_and_looked_for_at_once(tmp_path):
    for source in ("dense", "hybrid"):
        (problem,) = refused(CORPUS, source)
        assert problem.startswith("dense.path is not set")
    with pytest.raises(UserError) as caught:
        resolve_source("dense", 0, "x", DenseSettings(path=str(tmp_path / "none"), batch_size=0))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "depth=0",
        f"dense.path={tmp_path / 'none'}",
        "dense.batch_size=0",
    ]
    assert refused(ROWS, "hybrid")[0].startswith("dense.path is not set")


def test_missing_positives_are_added_behind_everything_found(tmp_path):
    collection = Collection(
        "folder",
        {"q1": "a", "q2": "b", "q3": "c"},
        PASSAGES,
        {"q1": {"d5": 1, "d0": 1, "d4": 0, "d1": -1}, "q2": {"d2": 2}, "q3": {"d1": 1}},
        {},
    )
    path = run_file(tmp_path, ("q1", "d5", 3e9), ("q1", "d3", 2e9), ("q2", "d2", 1))
    without = find(collection, str(path))
    assert (without.added, without.missing) == (0, ["q3"])
    found = find_candidates(collection, str(path), add_missing_positives=True)
    assert (found.added, found.missing, found.depth) == (2, [], 100)
    assert {query: set(row) for query, row in found.run.items()} == {
        "q1": {"d5", "d3", "d0"},
        "q2": {"d2"},
        "q3": {"d1"},
    }
    assert found.run["q2"] == without.run["q2"]
    # As float32, in which everything is ranked, it is below the last one that was found.
    assert np.float32(found.run["q1"]["d0"]) < np.float32(2e9)
    assert rank(collection.qrels, found.run).levels.tolist()[0] == [1, -1, 1]


def test_a_cut_group_gets_its_positives_back():
    found = find_candidates(ROWS, "groups", 1, add_missing_positives=True)
    assert (set(found.run["1"]), found.added) == ({"d1", "d3"}, 1)
