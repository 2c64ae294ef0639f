"""`uprank eval`: what it writes says the same everywhere; mistakes are found before anything is ranked."""

import json
import math

import numpy as np
import pytest
from uprank.data.judged.trec import read_run
from uprank.data.read import read_judged
from uprank.eval.measures.measure import evaluate_measures, parse_measures
from uprank.eval.measures.ranking import rank
from uprank.eval.results import Report
from uprank.eval.retrieval.bm25 import search_bm25
from uprank.model.reranker import Reranker

MEASURES = ["nDCG@10", "MRR@10", "MAP", "R@3"]
SMALL = ("depth=8", "model.max_tokens=64", "model.query_tokens=16", "threads=1")


@pytest.fixture(scope="module")
def two(call, tmp_path_factory, beir, tiny_xlmr, tiny_bert):
    """An evaluation of two models and the first stage side by side."""
    output = tmp_path_factory.mktemp("eval") / "two"
    code = call(
        f"data.test={beir}",
        f"models={{xlmr: '{tiny_xlmr}', bert: '{tiny_bert}'}}",
        f"measures=[{','.join(MEASURES)}]",
        f"output={output}",
        *SMALL,
    )
    assert code == 0
    return output


@pytest.fixture(scope="module")
def judged(beir):
    return read_judged(str(beir), [], split="test")


def test_the_report_names_what_was_ranked(two, beir, judged, tiny_xlmr, tiny_bert):
    report = Report.load(two)
    assert (report.data, report.candidates, report.depth) == (str(beir), "bm25", 8)
    assert (report.queries, report.measures, report.baseline) == (8, MEASURES, "xlmr")
    assert report.command.startswith("uprank eval data.test=")
    assert [(s.name, s.kind, s.path) for s in report.systems] == [
        ("bm25", "first_stage", ""),
        ("xlmr", "model", str(tiny_xlmr)),
        ("bert", "model", str(tiny_bert)),
    ]
    for system in report.systems[1:]:
        loaded = Reranker.load(system.path)
        assert system.weights == loaded.weights_hash()
        assert system.precision == "fp32"
    run = search_bm25(judged.passages, judged.queries, depth=8)
    assert {s.pairs for s in report.systems} == {sum(map(len, run.values()))}
    found = [bool(run[query].keys() & judged.qrels[query].keys()) for query in judged.queries]
    assert report.recall == pytest.approx(np.mean(found))


@pytest.mark.parametrize("system", ["bm25", "xlmr", "bert"])
def test_the_written_runs_give_the_figures_of_the_report(two, judged, system):
    report = Report.load(two)
    run = read_run(two / "runs" / f"{system}.run")
    ranking = rank(judged.qrels, run)
    for measure in parse_measures(MEASURES):
        values = evaluate_measures(measure, ranking)
        assert report.system(system).results[str(measure)].mean == pytest.approx(values.mean(), abs=1e-12)
        assert report.per_query[str(measure)][system] == pytest.approx(
            dict(zip(ranking.queries, values.tolist(), strict=True)), abs=1e-12
        )


@pytest.mark.parametrize("system", ["bm25", "xlmr", "bert"])
def test_pytrec_eval_agrees(two, judged, system):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    report = Report.load(two)
    run = read_run(two / "runs" / f"{system}.run")
    assert all(run.get(query) for query in judged.qrels)  # so that no query is missing for the oracle
    oracle = pytrec_eval.RelevanceEvaluator(judged.qrels, {"ndcg_cut.10", "map", "recall.3", "recip_rank"})
    for query, values in oracle.evaluate(run).items():
        expected = {"nDCG@10": "ndcg_cut_10", "MAP": "map", "R@3": "recall_3", "MRR@10": "recip_rank"}
        for measure, name in expected.items():  # depth 8: MRR@10 is the reciprocal rank
            assert report.per_query[measure][system][query] == pytest.approx(values[name], abs=1e-6)


def test_every_system_ranks_the_same_candidates(two, judged):
    runs = [read_run(two / "runs" / f"{name}.run") for name in ("bm25", "xlmr", "bert")]
    first, *others = [{query: set(row) for query, row in run.items()} for run in runs]
    assert others == [first, first]
    assert first == {
        query: set(row) for query, row in search_bm25(judged.passages, judged.queries, depth=8).items() if row
    }


def test_scores_in_the_run_are_those_of_the_model(two, judged, tiny_xlmr):
    run = read_run(two / "runs" / "xlmr.run")
    reranker = Reranker.load(tiny_xlmr, max_tokens=64, query_tokens=16)
    query = next(iter(run))
    pairs = [(judged.queries[query], judged.passages[doc]) for doc in run[query]]
    assert reranker.score(pairs).tolist() == pytest.approx(list(run[query].values()), abs=1e-4)


def test_per_query_lines_and_report_json_agree(two):
    lines = [json.loads(line) for line in (two / "per_query.jsonl").read_text(encoding="utf-8").splitlines()]
    values = json.loads((two / "report.json").read_text(encoding="utf-8"))
    assert len(lines) == values["queries"] == len({line["query_id"] for line in lines})
    for system in values["systems"]:
        for measure in MEASURES:
            mean = math.fsum(line[measure][system["name"]] for line in lines) / len(lines)
            estimate = system["results"][measure]
            assert estimate["mean"] == pytest.approx(mean, abs=1e-12)
            assert estimate["low"] <= mean <= estimate["high"]


def test_comparisons_are_paired_with_the_first_model(two):
    report = Report.load(two)
    assert {(c.system, c.baseline) for c in report.comparisons} == {("bm25", "xlmr"), ("bert", "xlmr")}
    for comparison in report.comparisons:
        values = report.per_query[comparison.measure]
        differences = [values[comparison.system][q] - values["xlmr"][q] for q in values["xlmr"]]
        assert comparison.difference == pytest.approx(np.mean(differences), abs=1e-12)
        assert comparison.wins == sum(d > 1e-12 for d in differences)
        assert comparison.losses == sum(d < -1e-12 for d in differences)
        assert comparison.wins + comparison.ties + comparison.losses == report.queries


def test_the_page_is_written(two):
    page = (two / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("bm25", "xlmr", "bert", "nDCG@10"))


def test_two_evaluations_give_the_same_numbers(call, two, tmp_path, beir, tiny_xlmr, tiny_bert):
    arguments = [f"data.test={beir}", f"models={{xlmr: '{tiny_xlmr}', bert: '{tiny_bert}'}}", *SMALL]
    arguments += [f"measures=[{','.join(MEASURES)}]", f"output={tmp_path / 'again'}", "tokens_per_batch=100"]
    assert call(*arguments) == 0
    assert Report.load(tmp_path / "again").per_query == Report.load(two).per_query


def test_every_model_has_audits_a_depth_curve_and_its_scores(two):
    report = Report.load(two)
    assert report.hardware
    for name in ("xlmr", "bert"):
        system = report.system(name)
        names = {audit.name for audit in system.audits}
        assert names >= {"ties", "spread", "direction", "judged", "headroom", "truncation", "calibration"}
        assert [point.depth for point in system.depths] == [8]
        assert system.depths[0].results["MAP"].mean == pytest.approx(system.results["MAP"].mean)
        assert sum(system.histogram.relevant) + sum(system.histogram.other) == system.pairs
        assert sum(system.calibration.counts) == system.pairs
        assert system.backend == "uprank"
    stage = report.system("bm25")
    assert (stage.depths, stage.histogram, stage.calibration) == ([], None, None)


def test_a_report_from_the_cache_says_nothing_of_time(call, tmp_path, beir, tiny_bert):
    for name in ("one", "two"):
        arguments = [f"data.test={beir}", f"model.path={tiny_bert}", f"output={tmp_path / name}"]
        assert call(*arguments, *SMALL) == 0
    one, two = (Report.load(tmp_path / name).system("tiny-bert").depths for name in ("one", "two"))
    assert all(point.seconds > 0 for point in one)
    assert [point.seconds for point in two] == [None] * len(one)
    page = (tmp_path / "two" / "report.html").read_text(encoding="utf-8")
    assert "Fewer candidates: result and cost" in page
    assert "None" not in page[page.index("Fewer candidates") :]


def test_several_collections_with_training_data_and_a_gate(
    call, tmp_path, capsys, beir, jsonl, tiny_xlmr, tiny_bert
):
    code = call(
        f"data.test={{own: '{beir}', rows: '{jsonl[1]}'}}",
        f"data.train=[{beir},{jsonl[1]}]",  # the dev rows are leaked, the queries of the folder are not
        f"models={{xlmr: '{tiny_xlmr}', bert: '{tiny_bert}'}}",
        f"output={tmp_path / 'out'}",
        "gate.measure=MAP",
        "gate.min_delta=0.9",  # more than can be: a regression for certain
        "gate.alpha=1",
        *SMALL,
    )
    assert code == 1
    err = capsys.readouterr().err
    assert "regression on MAP" in err
    assert "own: bert" in err
    assert "rows: bert" in err
    assert "bm25" not in err  # the first stage is not judged
    own, rows = Report.load(tmp_path / "out" / "own"), Report.load(tmp_path / "out" / "rows")
    assert own.measures == rows.measures == ["nDCG@10", "MRR@10", "MAP"]
    leaks = [next(a for a in report.audits if a.name == "leak") for report in (own, rows)]
    assert [(leak.loud, leak.values["queries"]) for leak in leaks] == [(False, 0.0), (True, 12.0)]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["macro"]) == ["xlmr", "bert"]  # bm25 has a system on the folder only
    assert [c["system"] for c in summary["comparisons"]] == ["bert"] * 3


def test_added_positives_are_said_on_every_output(call, tmp_path, capsys, beir, tiny_bert):
    output = tmp_path / "out"
    arguments = [f"data.test={beir}", f"model.path={tiny_bert}", f"output={output}", "depth=1"]
    assert call(*arguments, *SMALL[1:], "add_missing_positives=true") == 0
    report = Report.load(output)
    assert report.added_positives > 0
    assert report.recall == 1.0
    said = f"{report.added_positives} relevant passage"
    pages = [(output / name).read_text(encoding="utf-8") for name in ("table.md", "table.tex", "report.html")]
    assert [said in text for text in (*pages, capsys.readouterr().out)] == [True] * 4


def test_one_model_is_called_by_its_folder_and_compared_with_the_first_stage(
    call, tmp_path, capsys, beir, tiny_bert
):
    output = tmp_path / "out"
    assert call(f"data.test={beir}", f"model.path={tiny_bert}", f"output={output}", *SMALL) == 0
    report = Report.load(output)
    assert ([s.name for s in report.systems], report.baseline) == (["bm25", "tiny-bert"], "bm25")
    assert "tiny-bert" in capsys.readouterr().out


def test_the_first_stage_alone(call, tmp_path, beir, judged):
    output = tmp_path / "out"
    assert call(f"data.test={beir}", f"output={output}", "measures=[nDCG@10]") == 0
    report = Report.load(output)
    assert [s.name for s in report.systems] == ["bm25"]
    assert report.comparisons == []
    values = evaluate_measures(
        parse_measures(["nDCG@10"])[0],
        rank(judged.qrels, search_bm25(judged.passages, judged.queries, depth=100)),
    )
    assert report.system("bm25").results["nDCG@10"].mean == pytest.approx(values.mean())


def test_an_encoder_without_a_head_is_named(call, capsys, tmp_path, beir, tiny_encoder):
    arguments = [f"data.test={beir}", f"model.path={tiny_encoder}", f"output={tmp_path / 'out'}", *SMALL]
    assert call(*arguments) == 0
    assert "tiny-encoder: an encoder without a head" in capsys.readouterr().err


def test_a_sample_of_the_queries_is_said_everywhere(call, tmp_path, capsys, beir, judged, tiny_bert):
    given = [f"data.test={beir}", f"model.path={tiny_bert}", *SMALL]
    for name in ("one", "two"):
        assert call(*given, "max_queries=3", f"output={tmp_path / name}") == 0
    report = Report.load(tmp_path / "one")
    assert (report.queries, report.sampled_from) == (3, 8)
    chosen = list(report.per_query["nDCG@10"]["tiny-bert"])
    assert chosen == list(Report.load(tmp_path / "two").per_query["nDCG@10"]["tiny-bert"])
    assert chosen == [query for query in judged.queries if query in chosen]
    said = "a seeded sample of 3 of 8 judged queries"
    files = ("table.md", "table.tex", "report.html")
    texts = [(tmp_path / "one" / name).read_text(encoding="utf-8") for name in files]
    assert [said in text for text in (*texts, capsys.readouterr().out)] == [True] * 4
    # Queries of a run that are not in the sample are judged all the same.
    again = [f"runs={{old: '{tmp_path}/all/runs/bm25.run'}}", "candidates=bm25", "max_queries=3"]
    assert call(*given, f"output={tmp_path / 'all'}") == 0
    assert call(*given[:1], *again, "depth=8", f"output={tmp_path / 'run'}") == 0
    assert not [
        audit for audit in Report.load(tmp_path / "run").system("old").audits if "not judged" in audit.text
    ]
    assert call(*given, "max_queries=800", f"output={tmp_path / 'more'}") == 0
    assert Report.load(tmp_path / "more").sampled_from == 0
