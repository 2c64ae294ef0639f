"""Mining by every retriever, from a separate corpus, and with a teacher's veto."""

import json

import pytest
from uprank.configs.schema import DenseSettings
from uprank.configs.schema_data import TeacherSettings
from uprank.data.problems import Problems
from uprank.data.read import read_judged
from uprank.data.rows.jsonl import read_jsonl
from uprank.eval.retrieval.bm25 import search_bm25
from uprank.eval.retrieval.dense import search_dense as dense_search
from uprank.eval.retrieval.embeddings import load_bi_encoder
from uprank.eval.retrieval.fusion import reciprocal_rank_fusion
from uprank.model.reranker import Reranker


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_dense_and_hybrid_negatives_say_where_they_came_from(mined, beir, dense_model, tmp_path):
    settings = DenseSettings(path=str(dense_model))
    collection = read_judged(str(beir), [], split="train")
    encoder = load_bi_encoder(settings)
    near = dense_search(encoder, collection.passages, collection.queries, depth=60)
    words = search_bm25(collection.passages, collection.queries, depth=100)
    fused = reciprocal_rank_fusion([words, near], depth=100)
    for retriever, found in (("dense", near), ("hybrid", fused), ("bm25", words)):
        rows = mined(beir, tmp_path / retriever, retriever=retriever, dense=settings, negatives=5, depth=20)
        assert len(rows) == 12
        for row in rows:
            ranked = found[row["query_id"]]
            assert [collection.passages[source["id"]] for source in row["neg_sources"]] == row["neg"]
            for source in row["neg_sources"]:
                assert source.keys() == {"id", "retriever", "rank", "score"}
                assert source["retriever"] == retriever
                assert list(ranked)[source["rank"] - 1] == source["id"]
                assert source["score"] == pytest.approx(ranked[source["id"]], rel=1e-6)


def test_random_negatives_are_drawn_from_the_whole_corpus(mined, beir, tmp_path):
    rows = mined(beir, tmp_path / "a", retriever="random", negatives=10, depth=20)
    collection = read_judged(str(beir), [], split="train")
    seen = {source["id"] for row in rows for source in row["neg_sources"]}
    assert len(seen) > 45  # of 60; the first stage finds the same ones again and again
    for row in rows:
        assert not {s["id"] for s in row["neg_sources"]} & collection.qrels[row["query_id"]].keys()
    assert rows == mined(beir, tmp_path / "b", retriever="random", negatives=10, depth=20)
    assert rows != mined(beir, tmp_path / "c", retriever="random", negatives=10, depth=20, seed=1)


def test_margins_of_the_hybrid_are_those_of_the_bi_encoder(mined, beir, dense_model, tmp_path):
    settings = DenseSettings(path=str(dense_model))
    collection = read_judged(str(beir), [], split="train")
    near = dense_search(load_bi_encoder(settings), collection.passages, collection.queries, depth=60)
    options = {"retriever": "hybrid", "dense": settings, "negatives": 60, "depth": 60}
    whole = mined(beir, tmp_path / "whole", **options)
    rows = mined(beir, tmp_path / "margin", **options, relative_margin=0.01)
    kept = {row["query_id"]: row["neg"] for row in rows}
    removed = 0
    for row in whole:
        scores = near[row["query_id"]]
        (positive,) = collection.qrels[row["query_id"]]
        expected = [source for source in row["neg_sources"] if scores[source["id"]] < 0.99 * scores[positive]]
        removed += len(row["neg"]) - len(expected)
        assert kept.get(row["query_id"], []) == [collection.passages[source["id"]] for source in expected]
    assert removed > 10


def test_rows_are_mined_from_a_corpus_of_their_own(mined, jsonl, tmp_path, capsys):
    train = lines(jsonl[0])
    corpus = tmp_path / "corpus.jsonl"
    passages = [{"text": text} for row in train for text in row["neg"]]
    passages += [
        {"_id": "known", "title": "", "text": train[0]["pos"][0]}
    ]  # the other positives are not in it
    corpus.write_text("\n".join(json.dumps(row) for row in passages))
    plain = mined(jsonl[0], tmp_path / "plain.jsonl", corpus=str(corpus))
    # Positives are indexed to be compared with, and are found by nobody.
    rows = mined(jsonl[0], tmp_path / "out.jsonl", corpus=str(corpus), absolute_margin=-100.0)
    assert "margin" not in capsys.readouterr().err
    assert len(train) / 2 < len(rows) == len(plain)
    fewer = mined(jsonl[0], tmp_path / "fewer.jsonl", corpus=str(corpus), absolute_margin=0.0)
    assert sum(len(row["neg"]) for row in fewer) < sum(len(row["neg"]) for row in rows)
    known = {text for row in train for text in row["neg"]} | {train[0]["pos"][0]}
    for row in rows:
        original = train[int(row["query_id"]) - 1]
        assert (row["query"], row["pos"]) == (original["query"], original["pos"])
        assert set(row["neg"]) <= known - set(row["pos"])
    problems = Problems()
    assert len(read_jsonl(tmp_path / "out.jsonl", problems)) == len(rows)
    assert problems == []


def test_a_corpus_that_is_wrong_is_refused_line_by_line(mine_problems, jsonl, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "a"}\n{"_id": 3, "text": "b"}\n{"title": "c"}\n{"_id": "x", "text": "d"}\n'
                      '{"_id": "x", "text": "e"}\n')  # fmt: skip
    assert mine_problems(jsonl[0], tmp_path / "out", corpus=str(corpus)) == [
        f"{corpus}:2: `_id` must be a string that is not empty",
        f"{corpus}:3: `text` (and `title`, if given) must be strings that are not empty",
        f"{corpus}:5: `_id` 'x' stands twice in this file",
    ]
    (problem,) = mine_problems(jsonl[0], tmp_path / "out", corpus=str(tmp_path / "none"))
    assert problem.startswith(f"corpus={tmp_path / 'none'}: no such file")


def test_the_same_query_on_two_lines_lends_no_negatives(mined, tmp_path):
    data, corpus = tmp_path / "rows.jsonl", tmp_path / "corpus.jsonl"
    rows = [
        {"query": "river stone", "pos": ["river stone one"]},
        {"query": "River  stone?", "pos": ["stone two"]},
    ]
    data.write_text("\n".join(map(json.dumps, rows)))
    texts = ["river stone one", "stone two", "river three", "stone four"]
    corpus.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    for row in mined(data, tmp_path / "out.jsonl", corpus=str(corpus)):
        assert set(row["neg"]) == {"river three", "stone four"}


def test_the_teacher_of_a_command_and_its_scores(mined, beir, tiny_bert, tmp_path, capsys):
    teacher = TeacherSettings(path=str(tiny_bert), scores=True, margin=0.05)
    rows = mined(beir, tmp_path / "out.jsonl", negatives=6, teacher=teacher)
    assert "vetoed by the teacher" in capsys.readouterr().err
    reranker = Reranker.load(tiny_bert)
    for row in rows:
        positives = reranker.score((row["query"], text) for text in row["pos"])
        negatives = reranker.score((row["query"], text) for text in row["neg"])
        assert row["pos_scores"] == pytest.approx(positives.tolist(), abs=1e-5)
        assert row["neg_scores"] == pytest.approx(negatives.tolist(), abs=1e-5)
        assert [source["teacher_score"] for source in row["neg_sources"]] == row["neg_scores"]
        assert max(row["neg_scores"]) < min(row["pos_scores"]) - 0.05
    problems = Problems()
    assert len(read_jsonl(tmp_path / "out.jsonl", problems)) == len(rows) > 3
    assert problems == []


def test_an_encoder_without_a_head_is_no_teacher(mine_problems, beir, tiny_encoder, tmp_path):
    (problem,) = mine_problems(beir, tmp_path / "out", teacher=TeacherSettings(path=str(tiny_encoder)))
    assert problem == f"teacher.path={tiny_encoder}: an encoder without a head, which ranks at random"
    (problem,) = mine_problems(beir, tmp_path / "out", teacher=TeacherSettings(path=f"{tmp_path}/none"))
    assert problem.startswith(f"teacher.path={tmp_path}/none: no such folder")
