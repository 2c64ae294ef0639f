"""Each graph is proven or refused: against scipy, and against graphs that are wrong on purpose."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from uprank.configs import validate_publish as onnx_settings
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import OnnxSettings
from uprank.data.groups import Collection
from uprank.eval.results import Comparison, Report
from uprank.eval.retrieval.candidates import Candidates
from uprank.model.reranker import Reranker
from uprank.publish.command import publish, publish_summary
from uprank.publish.evidence.dev_scores import DevScores
from uprank.publish.folder import folder
from uprank.publish.onnx import export as onnx_export
from uprank.publish.onnx import graphs as onnx_graphs
from uprank.publish.onnx import parity as onnx_proof
from uprank.publish.onnx.parity import GraphProof, mean_tau, shortfalls, tau_b
from uprank.publish.parity.probes import DIFFICULT, RECORDED

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

QUERIES, DOCS = 12, 9


@pytest.fixture
def place(published_source, tmp_path):
    """Return a folder of model files without a graph, and the reranker."""
    reranker = Reranker.load(published_source.run / "best", query_tokens=24, max_tokens=96, device="cpu")
    folder.write_model(reranker, tmp_path / "place")
    return tmp_path / "place", reranker


@pytest.fixture
def dev():
    """Return queries with passages of different words, judged by position."""
    words = "museum Peking reranker passage query score close word number free empty open"
    words = words.split()
    texts = [" ".join(words[(i * 5 + j * j) % len(words)] for j in range(3 + i)) for i in range(DOCS)]
    passages = {f"d{i}": text for i, text in enumerate(texts)}
    queries = {f"q{i}": f"what {words[i]} is {words[-i]}" for i in range(QUERIES)}
    qrels = {query: {f"d{i % DOCS}": 1, f"d{(i + 4) % DOCS}": 1} for i, query in enumerate(queries)}
    run = {query: {doc: float(-i) for i, doc in enumerate(passages)} for query in queries}
    return DevScores(Collection("dev", queries, passages, qrels, {}), Candidates("bm25", 30, run, "bm25"), {})


@pytest.fixture
def report(published_source):
    return Report.load(published_source.final)


def add(place, dev, report, **settings):
    return onnx_graphs.add_graphs(OnnxSettings(**settings), place[1], place[0], DIFFICULT, dev, report)


def test_tau_is_that_of_scipy_with_ties():
    rng = np.random.default_rng(0)
    for size in (2, 3, 10, 50):
        a, b = rng.normal(size=size), rng.integers(0, 5, size).astype(float)
        if len(set(b)) > 1:
            assert tau_b(a, b) == pytest.approx(kendalltau(a, b).statistic)
    a, b = rng.normal(size=9), rng.normal(size=9)
    a[4:7] = 1.0  # no order that could be kept
    expected = [kendalltau(a[:4], b[:4]).statistic, kendalltau(a[7:], b[7:]).statistic]
    assert mean_tau(a, b, [4, 3, 2]) == pytest.approx(np.mean(expected))


def test_a_graph_of_equal_scores_has_lost_the_order():
    before, half = np.array([3.0, 2.0, 1.0, 6.0, 5.0, 4.0]), np.array([3.0, 2.0, 1.0, 7.0, 7.0, 7.0])
    assert [mean_tau(before, after, [3, 3]) for after in (np.zeros(6), half)] == [0, 0.5]
    assert mean_tau(np.zeros(6), before, [3, 3]) is mean_tau(before, before, [1] * 6) is None


def test_fp32_and_int8_are_proven_on_the_dev_queries(place, dev, report):
    graphs = add(place, dev, report, graphs=["int8", "fp32"], min_tau=0.5, max_loss=1.0)
    fp32, int8 = graphs.proofs
    assert [p.file for p in graphs.proofs] == ["onnx/model.onnx", "onnx/model_int8.onnx"]
    assert fp32.pairs == int8.pairs == len(RECORDED) + QUERIES * DOCS
    assert 0 < fp32.largest_difference < 1e-4
    assert fp32.tau == pytest.approx(1.0, abs=0.01)
    assert fp32.comparison.difference == 0
    assert fp32.comparison.low == fp32.comparison.high == 0
    assert int8.largest_difference > 10 * fp32.largest_difference
    assert int8.queries == QUERIES
    assert int8.size == (place[0] / int8.file).stat().st_size
    np.testing.assert_allclose(fp32.probe_scores, place[1].score(RECORDED), atol=1e-4)
    assert len(graphs.lines) == 2
    assert json.loads(json.dumps(graphs.record))[1]["kind"] == "int8"


def test_exact_graphs_are_compared_on_fewer_pairs_than_rounded_ones(place, dev, report, monkeypatch):
    monkeypatch.setattr(onnx_proof, "EXACT_PAIRS", 2 * DOCS + 1)
    fp32, int8 = add(place, dev, report, graphs=["fp32", "int8"], min_tau=0, max_loss=1.0).proofs
    assert (fp32.queries, int8.queries) == (2, QUERIES)
    assert (fp32.pairs, int8.pairs) == (len(RECORDED) + 2 * DOCS, len(RECORDED) + QUERIES * DOCS)


def test_the_time_of_a_scorer_is_its_best_round(place, monkeypatch):
    seconds = {"a": iter([9.0, 1.0, 5.0]), "b": iter([2.0, 4.0, 3.0])}
    clock, sizes = [0.0], {"a": [], "b": []}

    def scorer(name):
        def score(batch):
            if len(batch) == 2 or name == "b":  # once a round
                clock[0] += next(seconds[name])
            sizes[name].append(len(batch))

        return score

    monkeypatch.setattr(onnx_proof.time, "perf_counter", lambda: clock[0])
    pairs = [("what", "word " * n) for n in (1, 9, 4)]
    found = onnx_proof.fastest([(scorer("a"), 2), (scorer("b"), 3)], place[1], pairs)
    assert found == [1.0, 2.0]
    assert sizes == {"a": [2, 1] * 3, "b": [3] * 3}


def test_measure_and_tau_are_those_of_scores_by_hand(place, dev, report, monkeypatch):
    """A graph that reverses every order: tau is -1, and the measure is that of the reversed ranking."""

    class Reversed:
        alone = False

        def score(self, pairs):
            return -place[1].score(pairs)

        def predict(self, pairs):
            return self.score(pairs)

    monkeypatch.setattr(onnx_proof, "open_graph", lambda *_: Reversed())
    monkeypatch.setattr(onnx_graphs, "shortfalls", lambda *_: [])
    (proof,) = add(place, dev, report, graphs=["fp32"]).proofs
    assert proof.tau == pytest.approx(-1)
    texts = dev.collection.queries.values(), dev.collection.passages.values()
    scores = place[1].score([(query, passage) for query in texts[0] for passage in texts[1]])
    gains = []
    for i, row in enumerate(scores.reshape(QUERIES, DOCS)):
        relevant = np.isin(np.arange(DOCS), [i % DOCS, (i + 4) % DOCS])
        discounts = 1 / np.log2(np.arange(DOCS) + 2)
        ideal = discounts[:2].sum()
        gains.append([(relevant[np.argsort(sign * row)] * discounts).sum() / ideal for sign in (1, -1)])
    after, before = np.mean(gains, axis=0)
    assert proof.comparison.measure == "nDCG@10"
    assert proof.comparison.difference == pytest.approx(after - before)
    assert abs(after - before) > 0.01


def test_a_wrong_graph_is_refused_with_its_figures(place, dev, report, monkeypatch):
    def other_weights(reranker, file):
        with torch.no_grad():
            reranker.model.classifier.out_proj.bias += 0.01
        own(reranker, file)

    own = onnx_export.export
    monkeypatch.setattr(onnx_export, "export", other_weights)
    with pytest.raises(
        UserError, match=r"fp32 \(onnx/model.onnx\): scores differ by 0\.01 over 121 "
    ) as raised:
        add(place, dev, report)
    assert raised.value.advice == "Nothing was published."


def test_int8_without_dev_data_is_refused_and_fp32_is_not(place, report):
    graphs = add(place, None, report)
    assert [proof.kind for proof in graphs.proofs] == ["fp32"]
    assert (graphs.proofs[0].tau, graphs.proofs[0].queries) == (None, 0)
    with pytest.raises(UserError, match="the dev queries of the report are out of reach"):
        add(_fresh(place), None, report, graphs=["fp32", "int8"])


def _fresh(place):
    other = place[0].with_name("other")
    folder.write_model(place[1], other)
    return other, place[1]


PROOF = GraphProof(
    "int8", "onnx/model_int8.onnx", 1, "1", 10, 0.3, 0.1, None, 8, 0.941,
    Comparison("int8", "published", "nDCG@10", -0.0123, -0.03, 0.001, 0.2, 1, 5, 2), 1.5, 10.0, (),
)  # fmt: skip


def test_every_shortfall_is_named_with_what_allows_it():
    tau, measure = shortfalls(PROOF, OnnxSettings())
    assert "tau with the fp32 order is 0.9410 over 8 queries, at least 0.95 is asked" in tau
    assert tau.endswith("set onnx.min_tau=0.94")
    assert "nDCG@10 -0.0123 [-0.0300, +0.0010] over 8 queries, a loss of 0.01 is allowed" in measure
    assert measure.endswith("set onnx.max_loss=0.013")
    assert shortfalls(PROOF, OnnxSettings(min_tau=0.94, max_loss=0.013)) == []
    assert "not a number" in shortfalls(replace(PROOF, largest_difference=float("nan")), OnnxSettings())[0]
    (negative,) = shortfalls(replace(PROOF, tau=-0.2), OnnxSettings(max_loss=1))
    assert negative.endswith("at least 0.95 is asked; leave it out")  # -0.2 is refused as onnx.min_tau
    (constant,) = shortfalls(replace(PROOF, tau=None), OnnxSettings(max_loss=1))
    assert "gives all passages of a query one score, in each of 8 queries" in constant
    fp32 = replace(PROOF, kind="fp32", allowed=1e-4)
    assert "scores differ by 0.3 over 10 pairs, allowed is 0.0001" in shortfalls(fp32, OnnxSettings())[0]
    assert shortfalls(replace(fp32, largest_difference=9e-5), OnnxSettings()) == []


def test_settings_that_cannot_be_meant(monkeypatch):
    wrong = OnnxSettings(graphs=["int8", "int4"], pairs=0, min_tau=2, max_loss=-1)
    problems = onnx_settings.onnx_problems(wrong)
    assert len(problems) == 5
    assert problems[0] == "onnx.graphs=int4: allowed are fp32, int8, fp16, openvino"
    assert onnx_settings.onnx_problems(OnnxSettings()) == []
    monkeypatch.setattr(onnx_settings, "PACKAGES", ("onnx", "no_such_runtime"))
    (problem,) = onnx_settings.onnx_problems(OnnxSettings(graphs=["fp32"]))
    assert "no_such_runtime not installed: pip install" in problem


def test_without_the_packages_it_is_left_out_with_a_line(place, dev, report, monkeypatch):
    monkeypatch.setattr(onnx_settings, "PACKAGES", ("no_such_runtime",))
    graphs = add(place, dev, report)
    assert graphs.proofs == ()
    assert graphs.lines[0].startswith("ONNX: left out")
    assert add(place, dev, report, graphs=[]).lines == []
    assert not (place[0] / "onnx").exists()


def test_a_graph_that_cannot_be_made_or_run_is_left_out_and_the_rest_goes_on(place, dev, report, monkeypatch):
    """Longformer's graph holds the length that it was traced with, and fails on any other."""
    proven = onnx_graphs.prove_graph

    def fails(kind, folder, file, *rest):
        if kind == "fp32":
            raise UserError(f"model.path={folder / file}: model.onnx cannot be run: Gather out of bounds")
        return proven(kind, folder, file, *rest)

    monkeypatch.setattr(onnx_graphs, "prove_graph", fails)
    graphs = add(place, dev, report, graphs=["fp32", "int8"], min_tau=-1, max_loss=1)
    assert [proof.kind for proof in graphs.proofs] == ["int8"]
    left_out = (
        "ONNX fp32: left out, model.path=onnx/model.onnx: model.onnx cannot be run: Gather out of bounds"
    )
    assert graphs.left_out == graphs.lines[-1] == left_out
    assert [path.name for path in (place[0] / "onnx").iterdir()] == ["model_int8.onnx"]
    shutil.rmtree(place[0] / "onnx")
    monkeypatch.setattr(place[1].model, "forward", lambda **_: 1 // 0)
    graphs = add(place, dev, report)
    words = "XLMRobertaForSequenceClassification cannot be exported: integer division or modulo by zero"
    assert graphs.lines == [f"ONNX fp32: left out, onnx.graphs: {words}"]
    assert not (place[0] / "onnx").exists()


def test_dev_pairs_are_whole_queries_spread_over_the_data(dev):
    queries, docs = onnx_proof._choose(dev, 4 * DOCS + 3)
    assert queries == ["q0", "q3", "q6", "q9"]
    assert docs == [list(dev.collection.passages)] * 4
    assert len(onnx_proof._choose(dev, 10_000)[0]) == QUERIES
    assert len(onnx_proof._choose(dev, 1)[0]) == 1


@pytest.fixture
def settings(settings):
    """Settings of a user who says nothing about ONNX."""
    return replace(settings, onnx=OnnxSettings())


def test_published_folder_has_the_graph_and_the_card_says_so(only_transformers, settings):
    done = publish(settings)
    (proof,) = done.graphs.proofs
    assert (done.folder / "onnx/model.onnx").is_file()
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert f"| `onnx/model.onnx` | fp32 | {proof.size / 1e6:.0f} | {proof.pairs} |" in card
    assert any(line.startswith("ONNX fp32: ") for line in publish_summary(done))
    record = json.loads((done.folder / "uprank.json").read_text(encoding="utf-8"))
    assert record["onnx"][0]["file"] == "onnx/model.onnx"
    assert [(row["query"], row["passage"]) for row in record["probes"]] == list(RECORDED)


def snippet(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    (found,) = [
        part.split("```")[0] for part in card.split("```python\n")[1:] if "import onnxruntime" in part
    ]
    return found


def test_snippet_of_the_card_gives_the_scores(only_transformers, settings, monkeypatch, capsys):
    done = publish(settings).folder
    monkeypatch.chdir(done.parent)
    namespace: dict = {}
    exec(compile(snippet(done), "card", "exec"), namespace)
    reranker = Reranker.load(done, query_tokens=24, max_tokens=96, device="cpu")
    expected = reranker.score([(namespace["query"], passage) for passage in namespace["passages"]])
    np.testing.assert_allclose(namespace["scores"], expected, atol=1e-4)
    assert len(snippet(done).splitlines()) <= 30
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.slow
def test_snippet_runs_where_only_onnxruntime_and_tokenizers_are(only_transformers, settings, tmp_path):
    done = publish(settings).folder
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", str(bare)], check=True)
    install = [str(bare / "bin/python"), "-m", "pip", "install", "-q", "onnxruntime", "tokenizers", "numpy"]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"no package registry: {installed.stderr[-200:]}")
    code = (
        snippet(done)
        + "\nimport importlib.util as u, json\n"
        + "heavy = [n for n in ('torch', 'transformers', 'uprank') if u.find_spec(n)]\n"
        + "print(json.dumps([scores.tolist(), heavy]))"
    )
    run = [str(bare / "bin/python"), "-I", "-c", code]
    out = subprocess.run(run, cwd=done.parent, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr[-2000:]
    scores, heavy = json.loads(out.stdout.splitlines()[-1])
    assert heavy == []
    namespace: dict = {}
    given = [line for line in snippet(done).splitlines() if line.startswith(("query", "passages"))]
    exec("\n".join(given), namespace)
    reranker = Reranker.load(done, query_tokens=24, max_tokens=96, device="cpu")
    expected = reranker.score([(namespace["query"], passage) for passage in namespace["passages"]])
    np.testing.assert_allclose(scores, expected, atol=1e-4)
