import random

import numpy as np
import pytest
from uprank.data.groups import Collection
from uprank.eval.audits.depths import at_depth, curve_depths, depth_curve, first_stage, model_order
from uprank.eval.evaluate import Entry, ReportOptions, first_stage_entry, make_report
from uprank.eval.measures.measure import evaluate_measures, parse_measures
from uprank.eval.measures.ranking import rank
from uprank.eval.retrieval.candidates import Candidates, find_candidates
from uprank.eval.scoring import Scored

MEASURES = parse_measures(["nDCG@10", "MAP", "MRR", "bpref", "Judged@5", "R@20"])


def make(seed, queries=25):
    """Judgments, a first stage and a model, with ties in both, ragged rows and an empty one."""
    generator = random.Random(seed)
    qrels, stage, model = {}, {}, {}
    for number in range(queries):
        docs = [f"d{k}" for k in generator.sample(range(90), generator.choice([0, 1, 7, 30, 60]))]
        judged = generator.sample(range(90), 12)
        qrels[f"q{number}"] = {f"d{k}": generator.choice([-1, 0, 1, 2]) for k in judged}
        stage[f"q{number}"] = {doc: float(generator.randrange(12)) for doc in docs}
        model[f"q{number}"] = {
            doc: generator.choice([0.5, generator.gauss(0, 1)]) for doc in generator.sample(docs, len(docs))
        }
    return qrels, stage, model


def best_first(row):
    return sorted(sorted(row, reverse=True), key=lambda doc: -np.float32(row[doc]))


def reranked(stage, model, depth):
    """The run written out: the model's order of the best `depth`, then the first stage's."""
    order = best_first(stage)
    top = best_first({doc: model[doc] for doc in order[:depth]})
    return {doc: -float(place) for place, doc in enumerate([*top, *order[depth:]])}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("depth", [1, 5, 10, 40, 200])
def test_every_measure_at_every_depth_is_that_of_the_run_written_out(seed, depth):
    qrels, stage, model = make(seed)
    found = first_stage(rank(qrels, stage), stage)
    ranking = at_depth(found, model_order(found, model), depth)
    expected = rank(qrels, {q: reranked(stage[q], model[q], depth) for q in stage})
    assert ranking.levels.tolist() == expected.levels.tolist()
    for measure in MEASURES:
        assert evaluate_measures(measure, ranking).tolist() == evaluate_measures(measure, expected).tolist()


def test_the_whole_depth_is_the_model_and_depth_1_the_first_stage():
    qrels, stage, model = make(9)
    found = first_stage(rank(qrels, stage), stage)
    order = model_order(found, model)
    assert at_depth(found, order, 60).levels.tolist() == rank(qrels, model).levels.tolist()
    assert at_depth(found, order, 1).levels.tolist() == rank(qrels, stage).levels.tolist()


def test_the_cost_counts_pairs_and_takes_its_share_of_the_time():
    qrels, stage, model = make(2)
    found = first_stage(rank(qrels, stage), stage)
    pairs = len(Candidates("bm25", 60, stage, "bm25").pairs)
    scored = Scored(model, pairs, 0, seconds=3.0, cached=pairs // 2)
    points = depth_curve(found, scored, curve_depths(60), MEASURES[:2], seed=0)
    assert [point.depth for point in points] == [10, 20, 50, 60]
    assert [point.pairs for point in points] == [
        sum(min(len(r), d) for r in stage.values()) for d in (10, 20, 50, 60)
    ]
    for point in points:  # what came from the cache took no time
        assert point.seconds == pytest.approx(3.0 * point.pairs / (pairs - pairs // 2), abs=1e-3)
    values = evaluate_measures(MEASURES[0], rank(qrels, model))
    assert points[-1].results["nDCG@10"].mean == pytest.approx(values.mean())
    assert points[-1].results["nDCG@10"].low < values.mean() < points[-1].results["nDCG@10"].high
    assert list(points[0].results) == ["nDCG@10", "MAP"]


@pytest.mark.parametrize(
    ("depth", "depths"), [(5, [5]), (10, [10]), (30, [10, 20, 30]), (1000, [10, 20, 50, 100, 1000])]
)
def test_only_depths_below_that_of_the_candidates(depth, depths):
    assert curve_depths(depth) == depths


def test_the_last_point_is_the_result_where_positives_were_added(tmp_path):
    """They stand behind the depth of the candidates, and the model ranks them first."""
    queries = {f"q{k}": f"word{k}" for k in range(6)}
    passages = {f"d{k}-{i}": f"word{k} number {i}" for k in range(6) for i in range(9)} | {"p": "apart"}
    collection = Collection("x", queries, passages, {query: {"p": 1} for query in queries}, {})
    (tmp_path / "first.run").write_text(
        "".join(f"q{k} Q0 d{k}-{i} {i} {9 - i} t\n" for k in range(6) for i in range(9))
    )
    source = str(tmp_path / "first.run")
    candidates = find_candidates(collection, source, 7, add_missing_positives=True)
    assert candidates.added == 6
    run = {
        q: {doc: float(doc == "p") * 2 - i / 99 for i, doc in enumerate(r)} for q, r in candidates.run.items()
    }
    model = Entry("m", Scored(run, 48, 0, 1.0), "m", "sha256:m")
    entries, measures = [first_stage_entry(candidates), model], MEASURES[:1]
    report = make_report(
        collection, candidates, entries, ReportOptions(measures, baseline="first", seed=0, command="")
    )
    points = report.system("m").depths
    assert [point.depth for point in points] == [7, 8]
    assert points[-1].results == report.system("m").results
    assert points[-1].results["nDCG@10"].mean == 1.0 > points[0].results["nDCG@10"].mean
    assert points[-1].pairs == 48
    named = {system.name: [audit.name for audit in system.audits] for system in report.systems}
    assert "direction" not in named["first"]  # its end was made, not ranked
    assert "direction" in named["m"]


def test_what_came_from_the_cache_says_nothing_of_time():
    qrels, stage, model = make(2)
    found = first_stage(rank(qrels, stage), stage)
    pairs = sum(map(len, stage.values()))
    points = depth_curve(found, Scored(model, pairs, 0, 0.0, cached=pairs), [10, 60], MEASURES[:1], seed=0)
    assert [point.seconds for point in points] == [None, None]
