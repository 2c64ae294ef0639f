"""From scores to a report: what each kind of scorer is called, with scores made up in place of a model's."""

import dataclasses
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.data.groups import Collection
from uprank.eval.evaluate import Entry, ReportOptions, first_stage_entry, make_report, run_entry
from uprank.eval.measures.measure import evaluate_measures, parse_measures
from uprank.eval.measures.ranking import rank
from uprank.eval.report.sentences import notes
from uprank.eval.report.write import write_report
from uprank.eval.results import Report
from uprank.eval.retrieval.candidates import Candidates
from uprank.eval.scoring import Scored
from uprank.eval.statistics.compare import contradictions, estimate, estimates

MEASURES = parse_measures(["nDCG@10", "MAP"])
OPTIONS = ReportOptions(MEASURES, baseline="bm25", seed=0, command="uprank eval")
QUERIES, DOCUMENTS, DEPTH = 50, 40, 30


@pytest.fixture(scope="module")
def data():
    """A collection and candidates from a weak first stage that finds most of what is relevant."""
    generator = random.Random(6)
    queries = {f"q{i}": f"what is number {i}?" for i in range(QUERIES)}
    passages = {f"d{i}": f"passage {i}" for i in range(DOCUMENTS)}
    qrels = {
        q: {d: generator.choice([0, 0, 1]) for d in generator.sample(list(passages), 8)} for q in queries
    }
    run = {
        q: {
            d: qrels[q].get(d, 0) * 0.3 + generator.gauss(0, 0.5)
            for d in generator.sample(list(passages), DEPTH)
        }
        for q in queries
    }
    return Collection("claims", queries, passages, qrels, {}), Candidates("bm25", DEPTH, run, "bm25")


def scored(data, score, **changes):
    """Scores of a scorer of (query, document, relevance)."""
    collection, candidates = data
    generator = random.Random(3)
    run = {
        q: {d: score(q, d, collection.qrels[q].get(d, 0), generator) for d in row}
        for q, row in candidates.run.items()
    }
    return Scored(run, QUERIES * DEPTH, 0, 2.0, **changes)


def good(query, document, relevance, generator):
    return 1.5 * relevance + generator.gauss(0, 1)


def model(name, scores):
    return Entry(name, scores, f"models/{name}", f"sha256:{name}", "fp32", (64, 512), backend="uprank")


def report(data, *entries, **options):
    collection, candidates = data
    entries = [first_stage_entry(candidates), *entries]
    return make_report(collection, candidates, entries, replace(OPTIONS, **options))


def audit(found, system, name):
    return next(audit for audit in found.system(system).audits if audit.name == name)


def test_a_good_model_has_one_quiet_line_each(data):
    found = report(data, model("tuned", scored(data, good)))
    names = ["ties", "spread", "direction", "judged", "headroom", "truncation", "calibration", "speed"]
    audits = found.system("tuned").audits
    assert [one.name for one in audits] == names
    assert not [one for one in audits if one.loud and one.name not in ("judged", "calibration")]
    assert not [note for note in notes(found) if note.text.startswith("bm25: ") and not note.loud]
    lines = [note.text for note in notes(found) if note.text.startswith("tuned: ")]
    assert len(lines) == len(names)
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("score", "name", "text"),
    [
        (lambda q, d, relevance, generator: 0.25, "spread", "a constant scorer"),
        (lambda *given: -good(*given), "direction", "ranks in reverse"),
        (lambda *given: 3 + good(*given) / 10_000, "spread", "collapsed"),
        (lambda *given: float(good(*given) > 0), "ties", "over their orders nDCG@10 is"),
        (lambda *given: -good(*given), "headroom", "uses none of the headroom from bm25"),
    ],
)
def test_a_bad_scorer_is_called_what_it_is(data, score, name, text):
    found = report(data, model("tuned", scored(data, score)))
    assert text in audit(found, "tuned", name).text
    assert [
        note for note in notes(found) if note.loud and text in note.text and note.text.startswith("tuned: ")
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_named(data, value):
    scores = scored(data, good)
    query = "q7"
    document = next(iter(scores.run[query]))
    scores.run[query][document] = value
    with pytest.raises(UserError) as error:
        report(data, model("base", scored(data, good)), model("tuned", scores))
    assert error.value.problems == [f"tuned: query 'q7', document '{document}': score {value} is not finite"]


def test_the_depth_curve_ends_at_the_model_itself(data):
    found = report(data, model("tuned", scored(data, good)))
    tuned = found.system("tuned")
    assert [point.depth for point in tuned.depths] == [10, 20, 30]
    for measure, whole in tuned.results.items():
        last = tuned.depths[-1].results[measure]
        assert (last.mean, last.low, last.high) == pytest.approx((whole.mean, whole.low, whole.high))
    assert [point.pairs for point in tuned.depths] == [QUERIES * depth for depth in (10, 20, 30)]
    assert [point.seconds for point in tuned.depths] == pytest.approx([2 / 3, 4 / 3, 2.0], abs=1e-3)
    assert tuned.depths[0].results["MAP"].mean < tuned.depths[-1].results["MAP"].mean
    assert found.system("bm25").depths == []


def test_without_an_order_of_the_candidates_there_is_no_curve_and_a_random_order_is_the_floor(data):
    collection, candidates = data
    groups = replace(candidates, source="groups", first_stage="")
    entries = [model("tuned", scored(data, good))]
    found = make_report(collection, groups, entries, replace(OPTIONS, baseline="tuned"))
    assert found.system("tuned").depths == []
    floor = audit(found, "tuned", "headroom").values["floor"]
    shuffles = []
    for seed in range(60):
        generator = random.Random(seed)
        run = {q: {d: generator.random() for d in row} for q, row in candidates.run.items()}
        shuffles.append(evaluate_measures(MEASURES[0], rank(collection.qrels, run)).mean())
    assert floor == pytest.approx(np.mean(shuffles), abs=4 * np.std(shuffles) / 60**0.5)


def test_the_ceiling_is_that_of_a_model_that_knows(data):
    found = report(data, model("oracle", scored(data, lambda q, d, relevance, generator: float(relevance))))
    headroom = audit(found, "oracle", "headroom").values
    assert headroom["ceiling"] == pytest.approx(found.system("oracle").results["nDCG@10"].mean)
    assert headroom["share"] == pytest.approx(1.0)
    assert found.audits[0].values["ceiling"] == headroom["ceiling"]


def test_leaks_and_the_result_without_them_for_every_system(data):
    collection, _ = data
    train = [collection.queries["q0"].upper(), collection.queries["q9"], "something else"]
    found = report(data, model("tuned", scored(data, good)), train_queries=train)
    leak = next(one for one in found.audits if one.name == "leak")
    assert (leak.loud, leak.values) == (True, {"queries": 2.0, "exact": 1.0})
    for name in ("bm25", "tuned"):
        for measure in ("nDCG@10", "MAP"):
            values = found.per_query[measure][name]
            clean = [value for query, value in values.items() if query not in ("q0", "q9")]
            assert audit(found, name, "leak").values[measure] == pytest.approx(np.mean(clean))
    quiet = report(data, model("tuned", scored(data, good)), train_queries=["something else"])
    assert [one.loud for one in quiet.audits if one.name == "leak"] == [False]
    assert not [one for one in quiet.system("tuned").audits if one.name == "leak"]


def test_cut_pairs_are_set_against_the_queries_they_belong_to(data):
    collection, candidates = data
    cut = np.zeros(QUERIES * DEPTH, dtype=bool)
    hit = set()
    for place, (query, document) in enumerate(candidates.pairs):
        if query in ("q1", "q2") and collection.qrels[query].get(document, 0) > 0:
            cut[place] = True
            hit.add(query)
    assert hit
    scores = replace(scored(data, good), truncated=int(cut.sum()), cut=cut)
    found = report(data, model("tuned", scores))
    values = found.per_query["nDCG@10"]["tuned"]
    figures = audit(found, "tuned", "truncation").values
    assert figures["cut_queries"] == len(hit)
    assert figures["cut"] == pytest.approx(np.mean([values[query] for query in hit]))
    found = {query for query, doc in candidates.pairs if collection.qrels[query].get(doc, 0) > 0}
    assert hit < found < set(values)  # some queries have no relevant candidate
    assert figures["uncut"] == pytest.approx(np.mean([values[query] for query in found - hit]))
    assert figures["not_found_queries"] == len(set(values) - found)


def test_runs_beside_models_rank_their_own_documents(data):
    collection, candidates = data
    own = {
        query: {"elsewhere": 2.0, next(iter(collection.qrels[query])): 1.0} for query in collection.queries
    }
    found = report(data, run_entry("other", "other.run", own), model("tuned", scored(data, good)))
    assert [system.kind for system in found.systems] == ["first_stage", "run", "model"]
    recall = evaluate_measures(parse_measures(["R"])[0], rank(collection.qrels, candidates.run)).mean()
    assert found.recall == pytest.approx(recall)  # of the candidates, not of the run
    assert audit(found, "other", "recall").values["recall"] < recall
    assert found.system("other").histogram is None


def test_holm_is_over_the_systems_of_each_measure(data):
    found = report(data, model("a", scored(data, good)), model("b", scored(data, lambda *g: -good(*g))))
    for measure in ("nDCG@10", "MAP"):
        family = [c for c in found.comparisons if c.measure == measure]
        small, large = sorted(c.p for c in family)
        assert sorted(c.p_holm for c in family) == pytest.approx([2 * small, max(2 * small, large)])
        assert all(c.detectable > 0 for c in family)
    assert contradictions(found) == []


def test_what_is_written_follows_the_schema_and_is_read_back(data, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    collection, candidates = data
    entries = [first_stage_entry(candidates), model("tuned", scored(data, good, cached=10))]
    found = report(data, entries[1])
    runs = {entry.name: entry.scored.run for entry in entries}
    write_report(found, tmp_path / "r", title="t", runs=runs, collection=collection)
    schema = json.loads((tmp_path / "r" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8")), schema)
    assert Report.load(tmp_path / "r") == found
    assert set(schema["properties"]) == {f.name for f in dataclasses.fields(Report)} - {"per_query"}
    for name in (
        "table.md",
        "table.tex",
        "report.html",
        "per_query.jsonl",
        "runs/bm25.run",
        "runs/tuned.run",
    ):
        assert (tmp_path / "r" / name).stat().st_size > 100, name


def test_added_positives_are_told_everywhere(data):
    collection, candidates = data
    entries = [first_stage_entry(candidates), model("tuned", scored(data, good))]
    found = make_report(collection, replace(candidates, added=4), entries, OPTIONS)
    assert found.added_positives == 4
    assert any(note.loud and "4 relevant passages that the first stage" in note.text for note in notes(found))


def test_the_machine_is_named(data):
    found = report(data, model("tuned", scored(data, good)), device="cpu")
    assert "cores" in found.hardware
    assert found.hardware in audit(found, "tuned", "speed").text
    assert audit(found, "tuned", "speed").values["pairs_per_second"] == pytest.approx(QUERIES * DEPTH / 2)


def test_many_intervals_from_one_set_of_draws_are_those_of_each(data):
    rows = np.random.default_rng(5).random((4, 70)) ** 3
    assert [(e.mean, e.low, e.high) for e in estimates(rows, seed=3)] == [
        pytest.approx((one.mean, one.low, one.high), abs=1e-12) for one in (estimate(row, 3) for row in rows)
    ]
