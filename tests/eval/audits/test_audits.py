import random

import numpy as np
import pytest
from uprank.eval.audits import data as data_audits
from uprank.eval.audits import scores as audits
from uprank.eval.measures import ranking as orders
from uprank.eval.measures.measure import Measure, evaluate_measures
from uprank.eval.measures.ranking import rank
from uprank.eval.measures.ties import tie_bounds
from uprank.eval.results import Calibration

NDCG = Measure("nDCG", 10)


def make(scorer, queries=60, documents=30, *, judged=1):
    """Queries with one relevant document in so many; `scorer(query, document, relevant)` scores."""
    generator = random.Random(4)
    qrels, run = {}, {}
    for query in range(queries):
        docs = list(range(documents))
        relevant = generator.choice(docs)
        qrels[f"q{query}"] = {f"d{d}": int(d == relevant) for d in [relevant, *docs[:judged]]}
        run[f"q{query}"] = {f"d{d}": scorer(query, d, d == relevant) for d in docs}
    return qrels, run


def noisy(query, document, relevant):
    return 2.0 * relevant + random.Random(f"{query} {document}").gauss(0, 1)


def ranked(scorer, **options):
    return rank(*make(scorer, **options))


def test_scores_without_ties_are_quiet():
    ranking = ranked(noisy)
    found = audits.ties(ranking, NDCG, tie_bounds(NDCG, ranking))
    assert (found.loud, found.values["queries"]) == (False, 0)


def test_ties_are_loud_with_their_bounds_where_they_decide_the_result():
    ranking = ranked(lambda q, d, relevant: float(noisy(q, d, relevant) > 1))
    found = audits.ties(ranking, NDCG, tie_bounds(NDCG, ranking))
    assert found.loud
    worst, expected, best = (found.values[name] for name in ("worst", "expected", "best"))
    assert worst < expected < best
    assert f"{worst:.3f} to {best:.3f}, {expected:.3f} expected" in found.text
    assert worst <= evaluate_measures(NDCG, ranking).mean() <= best


def test_a_tie_among_documents_that_are_not_relevant_is_quiet():
    ranking = ranked(lambda q, d, relevant: 9.0 if relevant else float(d // 2 * (d > 25)) - d * (d < 26))
    found = audits.ties(ranking, NDCG, tie_bounds(NDCG, ranking))
    assert found.values["queries"] > 0
    assert found.values["best"] == found.values["worst"]


def test_a_constant_scorer_is_called_one():
    found = audits.spread(ranked(lambda q, d, relevant: float(q)), logits=True)
    assert found.loud
    assert "constant scorer" in found.text
    assert found.values["constant_queries"] == 60


@pytest.mark.parametrize(("share", "loud"), [(120, False), (3, True)])
def test_some_constant_queries_are_counted_and_the_scorer_is_not_called_constant(share, loud):
    ranking = ranked(lambda q, d, relevant: 0.5 if q % share == 0 else noisy(q, d, relevant), queries=120)
    found = audits.spread(ranking, logits=True)
    assert f"all equal in {120 // share} quer" in found.text
    assert "constant scorer" not in found.text
    assert found.loud is loud


def test_collapsed_logits_are_loud_and_a_first_stage_of_small_scores_is_not():
    ranking = ranked(lambda q, d, relevant: 5 + noisy(q, d, relevant) / 1000)
    assert "collapsed" in audits.spread(ranking, logits=True).text
    assert audits.spread(ranking, logits=True).loud
    assert not audits.spread(ranking, logits=False).loud


def test_the_spread_is_the_median_range():
    qrels, run = make(noisy)
    run["q3"] = {"d1": 1.0}  # one candidate has no range
    run["q4"] = {}
    ranges = [
        np.ptp(np.float32(list(row.values()))) for query, row in run.items() if query not in ("q3", "q4")
    ]
    found = audits.spread(rank(qrels, run), logits=True)
    assert not found.loud
    assert found.values["median_range"] == pytest.approx(np.median(ranges))
    assert audits.spread(rank(qrels, {"q3": {"d1": 1.0}}), logits=True) is None


def test_a_reversed_scorer_is_called_one():
    for sign, loud in ((1, False), (-1, True)):
        ranking = ranked(lambda q, d, relevant, sign=sign: sign * noisy(q, d, relevant))
        found = audits.direction(ranking, NDCG, evaluate_measures(NDCG, ranking), seed=0)
        assert (found.loud, "ranks in reverse" in found.text) == (loud, loud)


def test_a_random_scorer_is_not_reversed():
    for seed in range(5):
        ranking = ranked(lambda q, d, relevant, seed=seed: noisy(q, d + 1000 * seed, False))
        assert not audits.direction(ranking, NDCG, evaluate_measures(NDCG, ranking), seed=0).loud


def test_backwards_is_the_run_with_negated_scores():
    qrels, run = make(noisy)
    run["q1"], run["q2"] = {}, {"d1": 1.0, "d2": 3.0}
    negated = {query: {doc: -score for doc, score in row.items()} for query, row in run.items()}
    found, expected = orders.backwards(rank(qrels, run)), rank(qrels, negated)
    assert found.levels.tolist() == expected.levels.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


def test_the_best_order_is_that_of_the_relevance():
    qrels, run = make(noisy, judged=8)
    perfect = {query: {doc: qrels[query].get(doc, -1) for doc in row} for query, row in run.items()}
    best = orders.ideal(rank(qrels, run))
    assert best.levels.tolist() == rank(qrels, perfect).levels.tolist()
    assert evaluate_measures(NDCG, best).min() == 1.0


def test_headroom_is_the_share_between_floor_and_ceiling():
    found = audits.headroom(NDCG, 0.7, ("bm25", 0.6), 0.8)
    assert found.values["share"] == pytest.approx(0.5)
    assert "uses 50.0 % of the headroom from bm25 0.600 to the best order 0.800" in found.text
    worse = audits.headroom(NDCG, 0.5, ("bm25", 0.6), 0.8)
    assert worse.loud
    assert "uses none" in worse.text
    assert "no headroom" in audits.headroom(NDCG, 0.6, ("bm25", 0.6), 0.6).text


def test_one_score_for_all_expects_a_random_order():
    ranking = ranked(noisy)
    expected = tie_bounds(NDCG, orders.all_equal(ranking))[1].mean()
    generator, means = random.Random(1), []
    for _ in range(200):
        qrels, run = make(lambda q, d, relevant: generator.random())
        means.append(evaluate_measures(NDCG, rank(qrels, run)).mean())
    assert expected == pytest.approx(np.mean(means), abs=3 * np.std(means) / 200**0.5)


def test_truncation_separates_queries_whose_relevant_passage_was_cut():
    values = np.array([0.2, 0.4, 0.9, 1.0, 0.0, 0.0])
    cut, found = np.array([True, True, *[False] * 4]), np.array([*[True] * 4, False, False])
    one = audits.truncation(1000, 32, measure=NDCG, values=values, cut=cut, found=found)
    assert (one.loud, one.values["cut"], one.values["uncut"]) == (False, pytest.approx(0.3), 0.95)
    text = "3.2 % of 1,000 pairs cut to the token budget; nDCG@10 0.300 in 2 queries with a relevant passage "
    assert one.text == text + "cut, 0.950 in 2 with none cut (2 without a relevant candidate left out)"
    assert audits.truncation(1000, 101).loud


def test_truncation_says_nothing_of_queries_that_were_never_found():
    values, cut = np.array([0.5, 0.0]), np.array([True, False])
    one = audits.truncation(10, 1, measure=NDCG, values=values, cut=cut, found=cut)
    assert "uncut" not in one.values
    assert one.text.endswith("with a relevant passage cut (1 without a relevant candidate left out)")


def test_cut_pairs_are_found_in_the_order_of_scoring():
    run = {"b": {"x": 1.0, "y": 2.0}, "unjudged": {"x": 1.0}, "a": {"y": 0.0, "x": 1.0}, "c": {"x": 1.0}}
    qrels = {"a": {"x": 1, "y": 0}, "b": {"x": 1, "y": 1}, "c": {"z": 1}}
    cut = np.array([False, True, True, True, False, True])
    assert audits.relevant_cut(("a", "b", "c"), run, qrels, cut).tolist() == [False, True, False]
    cut = np.array([False, False, True, False, True, False])
    assert audits.relevant_cut(("a", "b", "c"), run, qrels, cut).tolist() == [True, False, False]


def test_few_judged_are_loud_only_where_more_could_be():
    assert not audits.judged(ranked(noisy, judged=1), NDCG).loud  # two judgments a query
    assert not audits.judged(ranked(noisy, judged=30), NDCG).loud
    qrels, run = make(lambda q, d, relevant: float(d), judged=15)  # the judged ones come last
    found = audits.judged(rank(qrels, run), NDCG)
    assert found.loud
    assert found.values["most"] == 1.0


def test_speed_counts_what_was_really_scored():
    found = audits.speed(1000, 200, 4.0, 10, "a machine")
    assert found.values["pairs_per_second"] == 200
    assert found.values["milliseconds_per_query"] == 500
    assert "a machine" in found.text
    assert "200 of 1,000 pairs from the cache" in found.text
    assert audits.speed(1000, 1000, 0.0, 10, "a machine").text == "1,000 of 1,000 pairs from the cache"


@pytest.mark.parametrize(("error", "loud"), [(0.02, False), (0.3, True)])
def test_calibration_says_over_what(error, loud):
    found = audits.calibrated(Calibration("all", [], [], [], error))
    assert found.loud is loud
    assert f"{error:.3f} over all candidates, unjudged as not relevant" in found.text


TRAIN = ["Is it so?", "something else"]


def test_leaks_are_found_but_for_case_blanks_and_punctuation():
    queries = {"a": "Is it so?", "b": "is  it, so", "c": "is it not so", "d": "?"}
    leaks = data_audits.find_leaks(queries, ["d", "c", "b", "a"], TRAIN)
    assert (leaks.same.tolist(), leaks.exact) == ([False, False, True, True], 1)
    assert data_audits.leak(leaks).loud
    assert "2 of 4 queries in data.train too, 1 to the letter" in data_audits.leak(leaks).text
    assert not data_audits.leak(data_audits.find_leaks({"c": "is it not so"}, ["c"], TRAIN)).loud


def test_the_clean_subset_leaves_the_leaked_out():
    values = np.array([1.0, 0.2, 0.4, 1.0])
    found = audits.clean({"nDCG@10": values, "MAP": values / 2}, np.array([True, False, False, True]), seed=0)
    assert found.values["nDCG@10"] == pytest.approx(0.3)
    assert found.values["MAP"] == pytest.approx(0.15)
    assert "0.300 [0.200, 0.400] on the 2 queries not in data.train, 0.650 on all" in found.text
    assert "no query is left" in audits.clean({"MAP": values}, np.full(4, True), seed=0).text


def test_coverage_names_source_recall_and_ceiling(html_report):
    found = data_audits.coverage(html_report(7, candidates="bm25", depth=5, recall=0.4), ("MAP", 0.6))
    assert found.loud
    assert found.text.startswith("7 queries. Candidates: bm25, at most 5 a query; recall 0.400")
    assert "(MAP 0.600)" in found.text


def test_added_positives_are_said_loudly():
    (found,) = data_audits.added(3)
    assert found.loud
    assert "3 relevant passages that the first stage did not find were added" in found.text
    assert data_audits.added(0) == []


def test_queries_of_a_run_that_nobody_judged_are_counted():
    found = audits.not_judged(["q1", "q2", "x"], {"q1": {}, "q2": {}, "q3": {}})
    assert (found.loud, found.values) == (False, {"queries": 1.0})
    assert found.text == "1 of its 3 queries not judged, so they do not count"
    assert audits.not_judged(["q1"], {"q1": {}}) is None


def test_a_few_queries_of_equal_passages_are_no_collapse():
    qrels, run = make(noisy, queries=200)
    run["q7"] = dict.fromkeys(run["q7"], 1.0)
    one = audits.spread(rank(qrels, run), logits=True)
    assert not one.loud
    assert "collapsed" not in one.text
    assert one.text.endswith(" (median), all equal in 1 query of 200")


def test_the_judged_share_is_of_queries_with_candidates_and_of_what_they_rank():
    qrels = {"short": {"a": 1, "b": 0, "c": 0}, "lost": {"x": 1}}
    one = audits.judged(rank(qrels, {"short": {"a": 3.0, "b": 2.0, "c": 1.0}}), NDCG)
    assert (one.values["share"], one.values["most"]) == (1.0, 1.0)
    assert one.text.startswith("100.0 % of the top 10 judged, of at most 100.0 %")
    assert audits.judged(rank(qrels, {}), NDCG) is None


def test_a_share_of_no_pairs_is_not_measured():
    assert audits.truncation(0, 0).text == "truncation not measured: no pair was scored"


def test_a_cut_passage_below_the_measured_grade_is_not_relevant():
    run, qrels = {"q": {"good": 2.0, "fair": 1.0}}, {"q": {"good": 2, "fair": 1}}
    cut = np.array([False, True])
    assert audits.relevant_cut(["q"], run, qrels, cut).tolist() == [True]
    assert audits.relevant_cut(["q"], run, qrels, cut, 2).tolist() == [False]
