"""`uprank eval` on files alone: the figures of trec_eval, several collections, the gate's exit code."""

import json
import random

import numpy as np
import pytest
from uprank.data.judged.trec import read_run, write_run
from uprank.eval.report.schema import schema_of
from uprank.eval.report.summary import Summary
from uprank.eval.results import Report

NAMES = {
    "nDCG@10": "ndcg_cut_10",
    "MRR": "recip_rank",
    "MAP": "map",
    "R@100": "recall_100",
    "P@5": "P_5",
    "bpref": "bpref",
    "Rprec": "Rprec",
    "Success@5": "success_5",
}


def write_qrels(path, qrels):
    lines = [f"{q} 0 {doc} {grade}\n" for q, row in qrels.items() for doc, grade in row.items()]
    path.write_text("".join(lines), encoding="utf-8")


def make(folder, *, seed=1, gain=2.0, queries=40):
    """TREC files: judgments of many grades, a run with ties, and one that lies `gain` nearer to them."""
    generator = random.Random(seed)
    folder.mkdir(exist_ok=True)
    qrels, runs = {}, {"old": {}, "new": {}}
    for number in range(queries):
        docs = [f"d{k}" for k in range(150)]
        query = f"q{number}"
        qrels[query] = {doc: generator.choice([-1, 0, 0, 0, 1, 2]) for doc in generator.sample(docs, 25)}
        for name, weight in (("old", 0.5), ("new", 0.5 + gain)):
            runs[name][query] = {
                doc: round(weight * qrels[query].get(doc, 0) + generator.gauss(0, 1.5), 1)
                for doc in generator.sample(docs, 120)
            }
    write_qrels(folder / "qrels.txt", qrels)
    for name, run in runs.items():
        write_run(folder / f"{name}.run", run, name)
    return qrels


def test_trec_files_alone_give_the_figures_of_trec_eval(call, tmp_path, capsys):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    qrels = make(tmp_path / "t")
    files = [tmp_path / "t" / f"{name}.run" for name in ("old", "new")]
    output = tmp_path / "out"
    code = call(
        f"data.test={tmp_path / 't' / 'qrels.txt'}", f"runs=[{files[0]},{files[1]}]",
        f"measures=[{','.join(NAMES)}]", f"output={output}",
    )  # fmt: skip
    assert code == 0
    report = Report.load(output)
    assert [(s.name, s.kind, s.path) for s in report.systems] == [
        ("old", "run", str(files[0])),
        ("new", "run", str(files[1])),
    ]
    assert (report.baseline, report.candidates, report.depth) == ("old", "", 0)
    oracle = pytrec_eval.RelevanceEvaluator(
        qrels, {"ndcg_cut.10", "recip_rank", "map", "recall.100", "P.5", "bpref", "Rprec", "success.5"}
    )
    for file in files:
        for query, values in oracle.evaluate(read_run(file)).items():
            for measure, name in NAMES.items():
                own = report.per_query[measure][file.stem][query]
                assert own == pytest.approx(values[name], abs=1e-9), (measure, query)
    assert "new is better than old: nDCG@10" in capsys.readouterr().out
    assert not list((output / "runs").iterdir())  # the user has them


def test_a_candidates_file_beside_trec_qrels_is_measured_whole(call, tmp_path):
    make(tmp_path / "t")
    arguments = [f"data.test={tmp_path / 't' / 'qrels.txt'}", "measures=[R@1000]", "depth=5"]
    assert call(*arguments, f"candidates={tmp_path / 't' / 'old.run'}", f"output={tmp_path / 'a'}") == 0
    assert call(*arguments, f"runs={tmp_path / 't' / 'old.run'}", f"output={tmp_path / 'b'}") == 0
    assert Report.load(tmp_path / "a").per_query == Report.load(tmp_path / "b").per_query


def test_what_a_run_lacks_counts_0_and_is_listed(call, tmp_path, capsys):
    qrels = make(tmp_path / "t")
    run = read_run(tmp_path / "t" / "old.run")
    del run["q3"]
    write_run(tmp_path / "less.run", run, "less")
    write_qrels(tmp_path / "t" / "qrels.txt", qrels | {"q99": {"d1": 1}, "q98": {"d1": 0}})
    arguments = [
        f"data.test={tmp_path / 't' / 'qrels.txt'}",
        f"runs=[{tmp_path / 'less.run'},{tmp_path / 't' / 'old.run'}]",
    ]
    assert call(*arguments, f"output={tmp_path / 'out'}") == 0
    report = Report.load(tmp_path / "out")
    assert report.queries == 42
    assert (sorted(report.missing_queries), report.unanswerable_queries) == (["q98", "q99"], ["q98"])
    assert report.per_query["nDCG@10"]["less"]["q3"] == report.per_query["nDCG@10"]["old"]["q99"] == 0
    out = capsys.readouterr().out
    assert "2 queries without candidates, counted as 0: q99, q98." in out
    assert "less: 1 query without candidates, counted as 0: q3." in out


@pytest.mark.parametrize(
    ("seed", "gain", "settings", "code"),
    [
        (1, 2.0, [], 0),
        (1, -2.0, [], 1),
        (1, -2.0, ["gate.min_delta=-0.9"], 0),  # so much loss is allowed
        (1, 2.0, ["gate.min_delta=0.9"], 1),
        (2, -0.3, [], 0),  # p is 0.075
        (2, -0.3, ["gate.alpha=0.1"], 1),
        (1, -0.1, ["gate.alpha=1"], 1),  # every shortfall
    ],
)
def test_the_gate_exits_with_1_after_the_report_is_written(
    call, tmp_path, capsys, seed, gain, settings, code
):
    make(tmp_path / "t", seed=seed, gain=gain)
    runs = f"runs=[{tmp_path / 't' / 'old.run'},{tmp_path / 't' / 'new.run'}]"
    arguments = [f"data.test={tmp_path / 't' / 'qrels.txt'}", runs, f"output={tmp_path / 'out'}"]
    assert call(*arguments, "gate.measure=nDCG@5", *settings) == code
    err = capsys.readouterr().err
    comparison = Report.load(tmp_path / "out").comparison("new", "nDCG@5")
    assert Report.load(tmp_path / "out").measures == ["nDCG@10", "MRR@10", "nDCG@5"]
    assert ("regression on nDCG@5" in err) is (code == 1)
    if code:
        assert f"difference {comparison.difference:+.4f}" in err


@pytest.fixture
def several(call, tmp_path, capsys):
    """An evaluation of two runs on a headline with a gain and a guard with a loss; its output and text."""
    for name, gain, queries in (("own", 2.0, 40), ("guard", -2.0, 30)):
        make(tmp_path / name, gain=gain, queries=queries, seed=len(name))
    for run in ("old", "new"):  # one file holds the queries of all collections
        parts = {}
        for name in ("own", "guard"):
            parts |= {f"{name}-{q}": row for q, row in read_run(tmp_path / name / f"{run}.run").items()}
        write_run(tmp_path / f"{run}.run", parts, run)
    for name in ("own", "guard"):
        text = (tmp_path / name / "qrels.txt").read_text()
        (tmp_path / name / "qrels.txt").write_text("".join(f"{name}-{line}\n" for line in text.splitlines()))

    def several(*settings):
        own, guard = (tmp_path / name / "qrels.txt" for name in ("own", "guard"))
        tests = f"data.test={{own: '{own}', guard: '{guard}'}}"
        runs = f"runs=[{tmp_path / 'old.run'},{tmp_path / 'new.run'}]"
        code = call(tests, runs, f"output={tmp_path / 'out'}", *settings)
        return code, tmp_path / "out", capsys.readouterr()

    return several


def test_each_collection_has_its_report_and_all_have_a_summary(several):
    code, output, printed = several()
    assert code == 0
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    reports = {name: Report.load(output / name) for name in ("own", "guard")}
    assert [(c["name"], c["role"], c["queries"]) for c in summary["collections"]] == [
        ("own", "headline", 40),
        ("guard", "guard", 30),
    ]
    for measure in ("nDCG@10", "MRR@10"):
        differences = [report.comparison("new", measure).difference for report in reports.values()]
        assert differences[0] > 0.1 > -0.1 > differences[1]
        (macro,) = [c for c in summary["comparisons"] if c["measure"] == measure]
        assert macro["difference"] == pytest.approx(np.mean(differences))  # each the same weight
        for system in ("old", "new"):
            means = [report.system(system).results[measure].mean for report in reports.values()]
            assert summary["macro"][system][measure]["mean"] == pytest.approx(np.mean(means))
    for collection, report in zip(summary["collections"], reports.values(), strict=True):
        assert collection["comparisons"][0]["difference"] == report.comparison("new", "nDCG@10").difference
    for name in ("own", "guard"):
        assert (output / name / "report.html").is_file()
    assert not (output / "report.json").exists()
    assert "own: new is better than old" in printed.out
    assert "guard: new is worse than old" in printed.out
    assert "macro average" in printed.out


def test_the_schemas_hold_for_what_was_written(several):
    jsonschema = pytest.importorskip("jsonschema")
    _, output, _ = several()
    for file in ("summary", "own/report", "guard/report"):
        schema = json.loads((output / f"{file}.schema.json").read_text(encoding="utf-8"))
        jsonschema.validate(json.loads((output / f"{file}.json").read_text(encoding="utf-8")), schema)
    assert json.loads((output / "summary.schema.json").read_text(encoding="utf-8")) == schema_of(Summary)


def test_gain_and_loss_stand_in_one_table(several):
    _, output, printed = several()
    table = (output / "summary.md").read_text(encoding="utf-8").split("\n\n")[1].splitlines()
    assert table[0] == "| System | own | guard (guard) | macro average |"
    name, own, guard, _ = (cell.strip() for cell in table[3].strip("|").split("|"))
    assert (name, own[-1], guard[-1]) == ("new", "†", "‡")
    assert r"$^{\ddagger}$" in (output / "summary.tex").read_text(encoding="utf-8")
    lines = printed.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("nDCG@10"))
    assert [line.split()[0] for line in lines[start : start + 12] if line[:1].strip()][:4] == [
        "nDCG@10", "─" * len(lines[start + 1].strip()), "own", "guard",
    ]  # fmt: skip


def test_the_gate_watches_the_guards(several):
    code, output, printed = several("gate.measure=nDCG@10")
    assert code == 1
    assert (output / "summary.json").is_file()
    assert "  guard: new 0." in printed.err
    assert "own: new" not in printed.err


def test_a_run_without_a_judged_query_is_refused_before_anything_is_written(call, tmp_path, capsys):
    make(tmp_path / "t")
    write_run(tmp_path / "x.run", {"other": {"d1": 1.0}}, "x")
    (tmp_path / "y.run").write_text("q1 Q0 d1 1 nan t\n")
    arguments = [
        f"data.test={tmp_path / 't' / 'qrels.txt'}",
        f"runs=[{tmp_path / 'x.run'},{tmp_path / 'y.run'}]",
    ]
    assert call(*arguments, f"output={tmp_path / 'out'}") == 2
    err = capsys.readouterr().err
    assert "x.run: none of its 1 queries is judged in" in err
    assert "y.run:1: score 'nan' is not finite" in err
    assert not (tmp_path / "out").exists()


# 5e-5 is below what 10,000 permutations can reach, though 20 queries could.
@pytest.mark.parametrize(("queries", "alpha"), [(5, 0.05), (5, 0.07), (6, 0.05), (20, 5e-5)])
def test_a_loss_in_too_few_queries_to_decide_fails_loudly(call, tmp_path, capsys, queries, alpha):
    write_qrels(tmp_path / "qrels.txt", {f"q{k}": {"a": 1} for k in range(20)})
    worse = {f"q{k}": {"a": 1.0, "b": 2.0 if k < queries else 0.0} for k in range(20)}
    write_run(tmp_path / "old.run", {f"q{k}": {"a": 2.0, "b": 1.0} for k in range(20)}, "old")
    write_run(tmp_path / "new.run", worse, "new")
    runs = f"runs=[{tmp_path / 'old.run'},{tmp_path / 'new.run'}]"
    arguments = [f"data.test={tmp_path / 'qrels.txt'}", runs, "gate.measure=MRR", f"gate.alpha={alpha}"]
    assert call(*arguments, f"output={tmp_path / 'out'}") == 1
    undecided = (queries, alpha) in ((5, 0.05), (20, 5e-5))
    said = f"the gate cannot decide at gate.alpha={alpha:g} with {queries} differing queries"
    assert (said in capsys.readouterr().err) is undecided


def test_queries_that_are_not_judged_are_said_in_the_report(call, tmp_path):
    make(tmp_path / "t")
    run = read_run(tmp_path / "t" / "old.run")
    write_run(tmp_path / "more.run", {**run, "other": {"d1": 1.0}}, "more")
    runs = f"runs=[{tmp_path / 't' / 'old.run'},{tmp_path / 'more.run'}]"
    arguments = [f"data.test={tmp_path / 't' / 'qrels.txt'}", runs]
    assert call(*arguments, f"output={tmp_path / 'out'}") == 0
    report = Report.load(tmp_path / "out")
    said = [[audit.text for audit in s.audits if audit.name == "not_judged"] for s in report.systems]
    assert said == [[], ["1 of its 41 queries not judged, so they do not count"]]


def test_one_bad_file_does_not_hide_the_others(call, tmp_path, capsys):
    make(tmp_path / "t")
    (tmp_path / "x.run").write_text("q1 Q0 d1 1 nan t\n" * 50)
    (tmp_path / "y.run").write_text("q1 Q0 d1 1 high t\n")
    (tmp_path / "grades.txt").write_text("q1 0 d1 1.0\n")
    runs = f"runs=[{tmp_path / 'x.run'},{tmp_path / 'y.run'}]"
    tests = f"data.test=[{tmp_path / 't' / 'qrels.txt'},{tmp_path / 'grades.txt'}]"
    assert call(tests, runs, f"output={tmp_path / 'out'}") == 2
    err = capsys.readouterr().err
    assert "x.run:20: score 'nan' is not finite" in err
    assert "x.run:21" not in err
    assert "more" in err
    assert "uprank check" not in err  # which reads no runs
    assert "y.run:1: score 'high' is not a number" in err
    assert "grades.txt:1: relevance '1.0' is not a whole number" in err


def test_empty_qrels_are_said_once(call, tmp_path, capsys):
    make(tmp_path / "t")
    (tmp_path / "none.txt").write_text("")
    arguments = [f"data.test={tmp_path / 'none.txt'}", f"runs={tmp_path / 't' / 'old.run'}"]
    assert call(*arguments, f"output={tmp_path / 'out'}") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_query_id_with_a_line_separator_is_read_back(call, tmp_path):
    write_qrels(tmp_path / "qrels.txt", {"q\u2028x": {"a": 1}, "r": {"a": 1}})
    (tmp_path / "a.run").write_text("q\u2028x Q0 a 1 1.0 t\n", encoding="utf-8")
    arguments = [f"data.test={tmp_path / 'qrels.txt'}", f"runs={tmp_path / 'a.run'}"]
    assert call(*arguments, f"output={tmp_path / 'out'}") == 0
    assert Report.load(tmp_path / "out").per_query["MRR@10"]["a"] == {"q\u2028x": 1.0, "r": 0.0}
