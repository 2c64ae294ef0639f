import random

import numpy as np
import pytest
from uprank.eval.candidates import Candidates
from uprank.eval.depths import at_depth, curve_depths, depth_curve, first_stage, model_order
from uprank.eval.measure import evaluate, parse_measures
from uprank.eval.ranking import rank
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
        assert evaluate(measure, ranking).tolist() == evaluate(measure, expected).tolist()


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
    values = evaluate(MEASURES[0], rank(qrels, model))
    assert points[-1].results["nDCG@10"].mean == pytest.approx(values.mean())
    assert points[-1].results["nDCG@10"].low < values.mean() < points[-1].results["nDCG@10"].high
    assert list(points[0].results) == ["nDCG@10", "MAP"]


@pytest.mark.parametrize(
    ("depth", "depths"), [(5, [5]), (10, [10]), (30, [10, 20, 30]), (1000, [10, 20, 50, 100, 1000])]
)
def test_only_depths_below_that_of_the_candidates(depth, depths):
    assert curve_depths(depth) == depths
