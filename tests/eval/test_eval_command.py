"""`uprank eval`: what it writes says the same everywhere; mistakes are found before anything is ranked."""

import json
import math
import sys

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from uprank.data.read import read_judged
from uprank.data.trec import read_run, write_run
from uprank.eval import candidates as candidates_module
from uprank.eval.__main__ import main
from uprank.eval.bm25 import search
from uprank.eval.measure import evaluate, parse_measures
from uprank.eval.ranking import rank
from uprank.eval.report import Report
from uprank.model.reranker import Reranker

MEASURES = ["nDCG@10", "MRR@10", "MAP", "R@3"]
SMALL = ("depth=8", "model.max_tokens=64", "model.query_tokens=16", "threads=1")


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def call(monkeypatch, *arguments):
    """Run the command; its exit code."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["uprank eval", *map(str, arguments)])
    try:
        main()
    except SystemExit as error:
        return error.code
    finally:
        GlobalHydra.instance().clear()
    return 0


@pytest.fixture(scope="module")
def two(monkeypatch_module, tmp_path_factory, beir, tiny_xlmr, tiny_bert):
    """An evaluation of two models and the first stage side by side."""
    output = tmp_path_factory.mktemp("eval") / "two"
    code = call(
        monkeypatch_module,
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
    run = search(judged.passages, judged.queries, depth=8)
    assert {s.pairs for s in report.systems} == {sum(map(len, run.values()))}
    found = [bool(run[query].keys() & judged.qrels[query].keys()) for query in judged.queries]
    assert report.recall == pytest.approx(np.mean(found))


@pytest.mark.parametrize("system", ["bm25", "xlmr", "bert"])
def test_the_written_runs_give_the_figures_of_the_report(two, judged, system):
    report = Report.load(two)
    run = read_run(two / "runs" / f"{system}.run")
    ranking = rank(judged.qrels, run)
    for measure in parse_measures(MEASURES):
        values = evaluate(measure, ranking)
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
        query: set(row) for query, row in search(judged.passages, judged.queries, depth=8).items() if row
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


def test_two_evaluations_give_the_same_numbers(two, monkeypatch, tmp_path, beir, tiny_xlmr, tiny_bert):
    arguments = [f"data.test={beir}", f"models={{xlmr: '{tiny_xlmr}', bert: '{tiny_bert}'}}", *SMALL]
    arguments += [f"measures=[{','.join(MEASURES)}]", f"output={tmp_path / 'again'}", "tokens_per_batch=100"]
    assert call(monkeypatch, *arguments) == 0
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


def test_a_report_from_the_cache_says_nothing_of_time(monkeypatch, tmp_path, beir, tiny_bert):
    for name in ("one", "two"):
        arguments = [f"data.test={beir}", f"model.path={tiny_bert}", f"output={tmp_path / name}"]
        assert call(monkeypatch, *arguments, *SMALL) == 0
    one, two = (Report.load(tmp_path / name).system("tiny-bert").depths for name in ("one", "two"))
    assert all(point.seconds > 0 for point in one)
    assert [point.seconds for point in two] == [None] * len(one)
    page = (tmp_path / "two" / "report.html").read_text(encoding="utf-8")
    assert "Fewer candidates: result and cost" in page
    assert "None" not in page[page.index("Fewer candidates") :]


def test_several_collections_with_training_data_and_a_gate(
    monkeypatch, tmp_path, capsys, beir, jsonl, tiny_xlmr, tiny_bert
):
    code = call(
        monkeypatch,
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


def test_added_positives_are_said_on_every_output(monkeypatch, tmp_path, capsys, beir, tiny_bert):
    output = tmp_path / "out"
    arguments = [f"data.test={beir}", f"model.path={tiny_bert}", f"output={output}", "depth=1"]
    assert call(monkeypatch, *arguments, *SMALL[1:], "add_missing_positives=true") == 0
    report = Report.load(output)
    assert report.added_positives > 0
    assert report.recall == 1.0
    said = f"{report.added_positives} relevant passage"
    pages = [(output / name).read_text(encoding="utf-8") for name in ("table.md", "table.tex", "report.html")]
    assert [said in text for text in (*pages, capsys.readouterr().out)] == [True] * 4


def test_one_model_is_called_by_its_folder_and_compared_with_the_first_stage(
    monkeypatch, tmp_path, capsys, beir, tiny_bert
):
    output = tmp_path / "out"
    assert call(monkeypatch, f"data.test={beir}", f"model.path={tiny_bert}", f"output={output}", *SMALL) == 0
    report = Report.load(output)
    assert ([s.name for s in report.systems], report.baseline) == (["bm25", "tiny-bert"], "bm25")
    assert "tiny-bert" in capsys.readouterr().out


def test_the_first_stage_alone(monkeypatch, tmp_path, beir, judged):
    output = tmp_path / "out"
    assert call(monkeypatch, f"data.test={beir}", f"output={output}", "measures=[nDCG@10]") == 0
    report = Report.load(output)
    assert [s.name for s in report.systems] == ["bm25"]
    assert report.comparisons == []
    values = evaluate(
        parse_measures(["nDCG@10"])[0], rank(judged.qrels, search(judged.passages, judged.queries, depth=100))
    )
    assert report.system("bm25").results["nDCG@10"].mean == pytest.approx(values.mean())


def test_candidates_from_a_run_file(monkeypatch, tmp_path, beir, judged, tiny_bert):
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
    assert call(monkeypatch, *arguments, f"model.path={tiny_bert}", "baseline=tiny-bert", "threads=1") == 0
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
def test_candidates_of_rows(monkeypatch, tmp_path, jsonl, tiny_xlmr, source):
    output = tmp_path / "out"
    arguments = [f"data.test={jsonl[1]}", f"candidates={source}", f"output={output}", "threads=1"]
    assert call(monkeypatch, *arguments, f"model.path={tiny_xlmr}") == 0
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


def test_judged_passages_of_a_folder(monkeypatch, tmp_path, beir, tiny_bert):
    output = tmp_path / "out"
    arguments = [
        f"data.test={beir}",
        "candidates=judged",
        f"model.path={tiny_bert}",
        f"output={output}",
    ]
    assert call(monkeypatch, *arguments, "threads=1") == 0
    assert Report.load(output).per_query["MRR@10"]["tiny-bert"] == {f"q{k}": 1.0 for k in range(18, 26)}


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """What a wrong command is told; nothing is ranked, no model is loaded, nothing is written."""

    def forbidden(*arguments, **options):
        raise AssertionError("this must not be reached")

    def refused(*arguments, output=tmp_path / "out"):
        monkeypatch.setattr(candidates_module, "search", forbidden)
        monkeypatch.setattr(Reranker, "load", forbidden)
        before = sorted(tmp_path.rglob("*"))
        code = call(monkeypatch, f"output={output}", *arguments)
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return refused


def test_an_unknown_measure(refused, beir):
    err = refused(f"data.test={beir}", "measures=[NDGC@10,P,MRR@10]")
    assert "unknown measure 'NDGC'; did you mean 'nDCG'?" in err
    assert "P needs a cutoff" in err


def test_a_list_with_brackets_is_answered_with_what_works(refused, beir, tmp_path, monkeypatch):
    err = refused(f"data.test={beir}", "measures=[nDCG@10,P@5(rel=2)]")
    assert '\'measures=["…","…"]\'' in err
    monkeypatch.undo()
    for number, measures in enumerate(['[nDCG@10,"P@5(rel=2)"]', "nDCG@10"]):
        output = tmp_path / str(number)
        code = call(monkeypatch, f"data.test={beir}", f"measures={measures}", f"output={output}")
        assert code == 0
        assert Report.load(output).measures == ["nDCG@10", "P@5(rel=2)"][: 2 - number]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("models={a: null}", "model.path="), "model.path is empty"),
        (("candidates=bm52",), "candidates 'bm52': no such file; allowed are bm25, dense, hybrid,"),
        (("candidates=groups", "baseline=null"), "nothing to evaluate"),
        (("depth=0",), "depth=0: allowed are whole numbers from 1"),
        (("baseline=bm52",), "baseline=bm52: no such system; there are bm25"),
        (("models={bm25: x}",), "two systems are called 'bm25'"),
        (("model.path=x", "models={a: y}"), "model.path and models are both set"),
        (("seed=-1",), "seed=-1: allowed are"),
        (("runs=[no.run]",), "runs: no.run: no such file"),
        (("gate.measure=NDCG", "gate.alpha=2"), "3 problems"),
        (("gate.measure=MAP",), "gate.measure=MAP: bm25 has nothing to be compared with"),
        (("data.train=nowhere",), "data.train=nowhere: no such file or folder"),
        (("model.precision=int8", "tokens_per_batch=0", "threads=0"), "3 problems"),
        (("model.path=./nowhere",), "model.path=./nowhere: no such folder"),
        (("data.test=nowhere.tsv",), "nowhere.tsv: no such file or folder"),
    ],
)
def test_settings_that_cannot_be_meant(refused, beir, arguments, message):
    given = () if any(argument.startswith("data.test") for argument in arguments) else (f"data.test={beir}",)
    assert message in refused(*given, *arguments)


def test_an_existing_output_is_not_touched(refused, beir, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "exists" in refused(f"data.test={beir}", output=tmp_path / "full")
    assert "exists" in refused(f"data.test={beir}", output=tmp_path / "full" / "mine.txt")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_model_folder_without_config_is_found_before_the_data_is_ranked(refused, beir, tmp_path):
    (tmp_path / "model").mkdir()
    err = refused(f"data.test={beir}", f"model.path={tmp_path / 'model'}")
    for part in ("no config.json", "no *.safetensors", "no tokenizer"):
        assert part in err


def test_every_model_that_cannot_be_found_is_named(refused, beir, tiny_bert):
    err = refused(f"data.test={beir}", f"models={{good: '{tiny_bert}', one: ./none1, two: ./none2}}")
    assert "./none1: no such folder" in err
    assert "./none2: no such folder" in err


def test_wrong_data_is_listed_with_its_lines(refused, tmp_path, tiny_bert):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query": 1, "pos": ["p"]}\n{}\n')
    err = refused(f"data.test={rows}", f"model.path={tiny_bert}")
    assert f"{rows}:1: `query` is a number, not a string" in err
    assert f"{rows}:2: `query` is missing" in err


def test_a_run_of_documents_that_are_not_there(refused, beir, tmp_path):
    (tmp_path / "bad.run").write_text("q18 Q0 nowhere 1 1.0 t\n")
    assert "document 'nowhere' (query 'q18') is not in the corpus" in refused(
        f"data.test={beir}", f"candidates={tmp_path / 'bad.run'}"
    )


def test_an_encoder_without_a_head_is_named(monkeypatch, capsys, tmp_path, beir, tiny_encoder):
    arguments = [f"data.test={beir}", f"model.path={tiny_encoder}", f"output={tmp_path / 'out'}", *SMALL]
    assert call(monkeypatch, *arguments) == 0
    assert "tiny-encoder: an encoder without a head" in capsys.readouterr().err
