"""`uprank eval`: where the candidates come from."""

import json

import pytest
from uprank.data.judged.trec import write_run
from uprank.data.read import read_judged
from uprank.eval.results import Report
from uprank.model.reranker import Reranker

SMALL = ("depth=8", "model.max_tokens=64", "model.query_tokens=16", "threads=1")


@pytest.fixture(scope="module")
def judged(beir):
    return read_judged(str(beir), [], split="test")


def test_candidates_from_a_run_file(call, tmp_path, beir, judged, tiny_bert):
    docs = sorted(judged.passages)
    target = {query: next(iter(row)) for query, row in judged.qrels.items()}
    missing = next(iter(judged.queries))
    run = {
        query: {target[query]: 0.5} | {doc: 1.0 + k for k, doc in enumerate(docs[:5]) if doc != target[query]}
        for query in judged.queries
        if query != missing
    }
    write_run(tmp_path / "dense.run", run | {"other": {"nowhere": 1.0}}, "dense")
    output = tmp_path / "out"
    arguments = [f"data.test={beir}", f"candidates={tmp_path / 'dense.run'}", f"output={output}"]
    assert call(*arguments, f"model.path={tiny_bert}", "baseline=tiny-bert", "threads=1") == 0
    report = Report.load(output)
    assert [s.name for s in report.systems] == ["dense", "tiny-bert"]
    assert report.baseline == "tiny-bert"
    assert report.missing_queries == [missing]
    assert report.queries == 8
    assert report.recall == pytest.approx(7 / 8)
    assert report.per_query["nDCG@10"]["tiny-bert"][missing] == 0.0
    for query, row in run.items():  # the relevant one is last, so the place is the number of candidates
        assert report.per_query["MRR@10"]["dense"][query] == pytest.approx(1 / len(row))


@pytest.mark.parametrize("source", ["groups", "judged", "auto"])
def test_candidates_of_rows(call, tmp_path, jsonl, tiny_xlmr, source):
    output = tmp_path / "out"
    arguments = [f"data.test={jsonl[1]}", f"candidates={source}", f"output={output}", "threads=1"]
    assert call(*arguments, f"model.path={tiny_xlmr}") == 0
    report = Report.load(output)
    assert [s.name for s in report.systems] == ["tiny-xlmr"]
    assert (report.queries, report.recall, report.candidates) == (
        12,
        1.0,
        source.replace("auto", "groups"),
    )
    rows = [json.loads(line) for line in jsonl[1].read_text(encoding="utf-8").splitlines()]
    reranker = Reranker.load(tiny_xlmr)
    for number, row in enumerate(rows, 1):  # written down anew: the place of the best positive
        scores = reranker.score([(row["query"], text) for text in (*row["pos"], *row["neg"])])
        best = scores[: len(row["pos"])].max()
        place = 1 + int((scores[len(row["pos"]) :] > best).sum())
        assert report.per_query["MRR@10"]["tiny-xlmr"][str(number)] == pytest.approx(1 / place)


def test_judged_passages_of_a_folder(call, tmp_path, beir, tiny_bert):
    output = tmp_path / "out"
    arguments = [
        f"data.test={beir}",
        "candidates=judged",
        f"model.path={tiny_bert}",
        f"output={output}",
    ]
    assert call(*arguments, "threads=1") == 0
    assert Report.load(output).per_query["MRR@10"]["tiny-bert"] == {f"q{k}": 1.0 for k in range(18, 26)}
