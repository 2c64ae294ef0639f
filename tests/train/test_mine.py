"""Mined negatives: none judged relevant or a copy, the same bytes for the same seed, nothing overwritten."""

import json
import os
import subprocess
import sys

import pytest
from uprank.configs.errors import UserError
from uprank.configs.schema import DenseSettings, MineCommand, MineDataSettings, TeacherSettings
from uprank.data.jsonl import read_groups
from uprank.data.read import read_judged
from uprank.eval.bm25 import search
from uprank.eval.dense import search as dense_search
from uprank.eval.embeddings import load_bi_encoder
from uprank.eval.fusion import reciprocal_rank_fusion
from uprank.eval.scoring import Share
from uprank.model.reranker import Reranker
from uprank.train import mine as mine_module
from uprank.train.mine import mine
from uprank.train.mine_parts import Parts
from uprank.train.mine_search import Search


def normal(text):
    return " ".join(text.lower().split())


def run(data, output, **options):
    mine(MineCommand(data=MineDataSettings(train=str(data)), output=str(output), **options))
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def refused(data, output, **options):
    with pytest.raises(UserError) as caught:
        run(data, output, **options)
    return caught.value.problems


@pytest.fixture
def tricky(tmp_path):
    """A corpus in which the first stage finds positives, copies of them, of the query and of each other."""
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


def test_negatives_are_neither_positives_nor_copies(tricky, tmp_path, capsys):
    (row,) = run(tricky, tmp_path / "out.jsonl")
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


def test_negatives_of_a_folder(beir, tmp_path):
    output = tmp_path / "out.jsonl"
    rows = run(beir, output, negatives=6, depth=20)
    collection = read_judged(str(beir), [], split="train")
    assert [row["query_id"] for row in rows] == list(collection.queries)
    ids = {text: doc for doc, text in collection.passages.items()}
    found = search(collection.passages, collection.queries, depth=60)
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
    problems = []
    assert len(read_groups(output, problems)) == len(rows)
    assert problems == []


def test_the_same_seed_writes_the_same_bytes(beir, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(beir, tmp_path / name, negatives=4, depth=20, seed=seed)
    first, second, third = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second
    assert first != third


@pytest.mark.parametrize(("skip", "depth"), [(0, 3), (2, 5), (4, 5), (10, 60)])
def test_skip_and_depth_bound_the_ranks(beir, tmp_path, skip, depth):
    rows = run(beir, tmp_path / "out.jsonl", skip=skip, depth=depth, negatives=100)
    collection = read_judged(str(beir), [], split="train")
    found = search(collection.passages, collection.queries, depth=1000)
    expected = {}
    for query, ranked in found.items():
        unjudged = [doc for doc in ranked if collection.qrels[query].get(doc, 0) <= 0]
        window = [collection.passages[doc] for doc in unjudged[skip:depth]]
        if window:
            expected[query] = window
    assert {row["query_id"]: row["neg"] for row in rows} == expected


def test_an_existing_output_is_refused(beir, tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    assert refused(beir, output) == [f"output={output}: exists; nothing was overwritten"]
    assert output.read_text() == "mine"
    assert refused(beir, tmp_path) == [f"output={tmp_path}: exists; nothing was overwritten"]


def test_the_folder_of_the_output_is_made(beir, tmp_path):
    assert run(beir, tmp_path / "new" / "deep" / "out.jsonl")


def test_everything_wrong_at_once(jsonl, tmp_path):
    problems = refused(
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
        "retriever=bm52: allowed are bm25, dense, hybrid, random",
        "sampling=best: allowed are random, top, log_random",
        "depth=0: allowed are whole numbers from 1",
        "negatives=0: allowed are whole numbers from 1",
        "seed=-1: allowed are whole numbers from 0 to 2**63 - 1",
        "skip=-1: has to be 0 or more and below depth=0",
        "near_duplicates=1.5: allowed is above 0 to 1, or null",
        "relative_margin=nan: allowed are numbers, or null",
        "teacher.precision=int8: allowed are fp32, bf16",
        "teacher.scores=true: needs teacher.path, the reranker that scores",
        f"output={tmp_path}: exists; nothing was overwritten",
        f"{jsonl[0]}: rows have no corpus to search; set corpus=PASSAGES.jsonl",
    ]


def test_wrong_data_is_named_and_nothing_is_written(tricky, tmp_path):
    (tricky / "corpus.jsonl").write_text('{"_id": "p1"}\n')
    output = tmp_path / "new" / "out.jsonl"
    assert f"{tricky}/corpus.jsonl:1: `text` (and `title`, if given) have to be strings" in refused(
        tricky, output
    )
    assert not output.parent.exists()


def test_queries_without_both_sides_are_refused(tricky, tmp_path):
    (tricky / "qrels" / "train.tsv").write_text("b\tp1\t1\n")
    output = tmp_path / "out.jsonl"
    assert refused(tricky, output) == [f"{tricky}: no query has both a relevant passage and a negative"]
    assert not output.exists()


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def model(bi_encoder):
    return bi_encoder()


def test_dense_and_hybrid_negatives_say_where_they_came_from(beir, model, tmp_path):
    settings = DenseSettings(path=str(model))
    collection = read_judged(str(beir), [], split="train")
    encoder = load_bi_encoder(settings)
    near = dense_search(encoder, collection.passages, collection.queries, depth=60)
    words = search(collection.passages, collection.queries, depth=100)
    fused = reciprocal_rank_fusion([words, near], depth=100)
    for retriever, found in (("dense", near), ("hybrid", fused), ("bm25", words)):
        rows = run(beir, tmp_path / retriever, retriever=retriever, dense=settings, negatives=5, depth=20)
        assert len(rows) == 12
        for row in rows:
            ranked = found[row["query_id"]]
            assert [collection.passages[source["id"]] for source in row["neg_sources"]] == row["neg"]
            for source in row["neg_sources"]:
                assert source.keys() == {"id", "retriever", "rank", "score"}
                assert source["retriever"] == retriever
                assert list(ranked)[source["rank"] - 1] == source["id"]
                assert source["score"] == pytest.approx(ranked[source["id"]], rel=1e-6)


def test_random_negatives_are_drawn_from_the_whole_corpus(beir, tmp_path):
    rows = run(beir, tmp_path / "a", retriever="random", negatives=10, depth=20)
    collection = read_judged(str(beir), [], split="train")
    seen = {source["id"] for row in rows for source in row["neg_sources"]}
    assert len(seen) > 45  # of 60; the first stage finds the same ones again and again
    for row in rows:
        assert not {s["id"] for s in row["neg_sources"]} & collection.qrels[row["query_id"]].keys()
    assert rows == run(beir, tmp_path / "b", retriever="random", negatives=10, depth=20)
    assert rows != run(beir, tmp_path / "c", retriever="random", negatives=10, depth=20, seed=1)


def test_margins_of_the_hybrid_are_those_of_the_bi_encoder(beir, model, tmp_path):
    settings = DenseSettings(path=str(model))
    collection = read_judged(str(beir), [], split="train")
    near = dense_search(load_bi_encoder(settings), collection.passages, collection.queries, depth=60)
    options = {"retriever": "hybrid", "dense": settings, "negatives": 60, "depth": 60}
    whole = run(beir, tmp_path / "whole", **options)
    rows = run(beir, tmp_path / "margin", **options, relative_margin=0.01)
    kept = {row["query_id"]: row["neg"] for row in rows}
    removed = 0
    for row in whole:
        scores = near[row["query_id"]]
        (positive,) = collection.qrels[row["query_id"]]
        expected = [source for source in row["neg_sources"] if scores[source["id"]] < 0.99 * scores[positive]]
        removed += len(row["neg"]) - len(expected)
        assert kept.get(row["query_id"], []) == [collection.passages[source["id"]] for source in expected]
    assert removed > 10


def test_rows_are_mined_from_a_corpus_of_their_own(jsonl, tmp_path, capsys):
    train = lines(jsonl[0])
    corpus = tmp_path / "corpus.jsonl"
    passages = [{"text": text} for row in train for text in row["neg"]]
    passages += [
        {"_id": "known", "title": "", "text": train[0]["pos"][0]}
    ]  # the other positives are not in it
    corpus.write_text("\n".join(json.dumps(row) for row in passages))
    plain = run(jsonl[0], tmp_path / "plain.jsonl", corpus=str(corpus))
    # Positives are indexed to be compared with, and are found by nobody.
    rows = run(jsonl[0], tmp_path / "out.jsonl", corpus=str(corpus), absolute_margin=-100.0)
    assert "margin" not in capsys.readouterr().err
    assert len(train) / 2 < len(rows) == len(plain)
    fewer = run(jsonl[0], tmp_path / "fewer.jsonl", corpus=str(corpus), absolute_margin=0.0)
    assert sum(len(row["neg"]) for row in fewer) < sum(len(row["neg"]) for row in rows)
    known = {text for row in train for text in row["neg"]} | {train[0]["pos"][0]}
    for row in rows:
        original = train[int(row["query_id"]) - 1]
        assert (row["query"], row["pos"]) == (original["query"], original["pos"])
        assert set(row["neg"]) <= known - set(row["pos"])
    problems = []
    assert len(read_groups(tmp_path / "out.jsonl", problems)) == len(rows)
    assert problems == []


def test_a_corpus_that_is_wrong_is_refused_line_by_line(jsonl, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "a"}\n{"_id": 3, "text": "b"}\n{"title": "c"}\n{"_id": "x", "text": "d"}\n'
                      '{"_id": "x", "text": "e"}\n')  # fmt: skip
    assert refused(jsonl[0], tmp_path / "out", corpus=str(corpus)) == [
        f"{corpus}:2: `_id` has to be a string that is not empty",
        f"{corpus}:3: `text` (and `title`, if given) have to be strings that are not empty",
        f"{corpus}:5: `_id` 'x' stands twice in this file",
    ]
    (problem,) = refused(jsonl[0], tmp_path / "out", corpus=str(tmp_path / "none"))
    assert problem.startswith(f"corpus={tmp_path / 'none'}: no such file")


def test_the_same_query_on_two_lines_lends_no_negatives(tmp_path):
    data, corpus = tmp_path / "rows.jsonl", tmp_path / "corpus.jsonl"
    rows = [
        {"query": "river stone", "pos": ["river stone one"]},
        {"query": "River  stone?", "pos": ["stone two"]},
    ]
    data.write_text("\n".join(map(json.dumps, rows)))
    texts = ["river stone one", "stone two", "river three", "stone four"]
    corpus.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    for row in run(data, tmp_path / "out.jsonl", corpus=str(corpus)):
        assert set(row["neg"]) == {"river three", "stone four"}


def test_the_teacher_of_a_command_and_its_scores(beir, tiny_bert, tmp_path, capsys):
    teacher = TeacherSettings(path=str(tiny_bert), scores=True, margin=0.05)
    rows = run(beir, tmp_path / "out.jsonl", negatives=6, teacher=teacher)
    assert "vetoed by the teacher" in capsys.readouterr().err
    reranker = Reranker.load(tiny_bert)
    for row in rows:
        positives = reranker.score((row["query"], text) for text in row["pos"])
        negatives = reranker.score((row["query"], text) for text in row["neg"])
        assert row["pos_scores"] == pytest.approx(positives.tolist(), abs=1e-5)
        assert row["neg_scores"] == pytest.approx(negatives.tolist(), abs=1e-5)
        assert [source["teacher_score"] for source in row["neg_sources"]] == row["neg_scores"]
        assert max(row["neg_scores"]) < min(row["pos_scores"]) - 0.05
    problems = []
    assert len(read_groups(tmp_path / "out.jsonl", problems)) == len(rows) > 3
    assert problems == []


def test_an_encoder_without_a_head_is_no_teacher(beir, tiny_encoder, tmp_path):
    (problem,) = refused(beir, tmp_path / "out", teacher=TeacherSettings(path=str(tiny_encoder)))
    assert problem == f"teacher.path={tiny_encoder}: an encoder without a head, which ranks at random"
    (problem,) = refused(beir, tmp_path / "out", teacher=TeacherSettings(path=f"{tmp_path}/none"))
    assert problem.startswith(f"teacher.path={tmp_path}/none: no such folder")


@pytest.mark.parametrize("teacher", [False, True])
def test_a_killed_run_continues_and_ends_with_the_same_bytes(
    beir, model, tiny_bert, tmp_path, monkeypatch, teacher
):
    options = {"retriever": "hybrid", "dense": DenseSettings(path=str(model)), "negatives": 5}
    options["teacher"] = TeacherSettings(path=str(tiny_bert) if teacher else None)
    run(beir, tmp_path / "whole", **options)
    output, written = tmp_path / "killed" / "out", []

    def write(stream, entry, real=Parts.write):
        if len(written) == 5:
            stream.write('{"number": 5, "line')
            raise KeyboardInterrupt
        written.append(entry["number"])
        real(stream, entry)

    with monkeypatch.context() as killed:
        killed.setattr(Parts, "write", staticmethod(write))
        with pytest.raises(KeyboardInterrupt):
            run(beir, output, **options)
    assert not output.exists()
    searched = []
    real = Search.find
    monkeypatch.setattr(
        Search, "find", lambda self, queries: searched.append(len(queries)) or real(self, queries)
    )
    run(beir, output, **options)
    assert searched == [12 - 5]
    assert output.read_bytes() == (tmp_path / "whole").read_bytes()
    assert [path.name for path in output.parent.iterdir()] == ["out"]


def test_other_settings_do_not_continue_what_was_left(beir, tmp_path, monkeypatch):
    def write(stream, entry, real=Parts.write):
        if entry["number"] == 4:
            raise KeyboardInterrupt
        real(stream, entry)

    with monkeypatch.context() as killed:
        killed.setattr(Parts, "write", staticmethod(write))
        with pytest.raises(KeyboardInterrupt):
            run(beir, tmp_path / "out", negatives=5)
    run(beir, tmp_path / "out", negatives=6)
    run(beir, tmp_path / "other", negatives=6)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_second_start_is_refused_while_the_first_is_at_it(beir, tmp_path, monkeypatch):
    problems = []

    def write(stream, entry, real=Parts.write):
        if not problems:
            problems.append(refused(beir, tmp_path / "out"))
        real(stream, entry)

    monkeypatch.setattr(Parts, "write", staticmethod(write))
    assert len(run(beir, tmp_path / "out")) == 12
    assert problems == [[f"output={tmp_path / 'out'}: another process is mining it"]]


def test_two_processes_write_the_same_bytes_as_one(beir, model, tiny_bert, tmp_path):
    """One part after the other; real processes are started in the slow test below."""
    options = {"retriever": "hybrid", "dense": DenseSettings(path=str(model)), "negatives": 5}
    options["teacher"] = TeacherSettings(path=str(tiny_bert))
    run(beir, tmp_path / "one", **options)
    settings = MineCommand(data=MineDataSettings(train=str(beir)), output=str(tmp_path / "two"), **options)
    sources = mine_module._read(settings)
    assert mine_module._mine(settings, sources, Share(1, 2), None) is None
    entries = mine_module._mine(settings, sources, Share(0, 2), None)
    assert [entry["number"] for entry in entries] == list(range(12))
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.mark.slow
def test_processes_of_torchrun_write_the_same_bytes_as_one(beir, model, tiny_bert, tmp_path):
    options = [f"data.train={beir}", "retriever=hybrid", f"dense.path={model}", f"teacher.path={tiny_bert}"]
    options += ["negatives=5", "teacher.scores=true", "teacher.device=cpu"]
    launcher = [sys.executable, "-m"]
    for count in (1, 2):
        several = (
            ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"] if count == 2 else []
        )
        command = [*launcher, *several, "uprank.train.mine", *options, f"output={tmp_path / str(count)}"]
        environment = os.environ | {"UPRANK_CACHE": str(tmp_path / f"cache{count}")}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("negatives (") == 1
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["1", "2"]
