"""trec_eval 9.0.8, to 1e-9: recorded cases, and pytrec_eval beside them and on random rankings."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.data.judged.trec import read_qrels, read_run
from uprank.eval.measures.measure import Measure, evaluate_measures
from uprank.eval.measures.ranking import rank

FIXTURE = Path(__file__).parents[2] / "fixtures" / "trec_eval_cases.json"
RECORDED = json.loads(FIXTURE.read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in RECORDED["cases"]}
FILE_CASES = {case["name"]: case for case in RECORDED["file_cases"]}
API_CASES = {case["name"]: case for case in RECORDED["api_cases"]}

NAMES = {
    "ndcg": "nDCG", "ndcg_cut": "nDCG", "ndcg_exp": "nDCG_exp", "ndcg_exp_cut": "nDCG_exp", "map": "MAP",
    "map_cut": "MAP", "recip_rank": "MRR", "recall": "R", "P": "P", "success": "Success", "Rprec": "Rprec",
    "bpref": "bpref",
}  # fmt: skip
COUNTS = ("num_ret", "num_rel", "num_rel_ret")
ORACLE = ("ndcg", "ndcg_cut.1,3,5,10", "map", "map_cut.5,10", "recip_rank", "recall.1,5,10,100", "P.1,5,10",
          "success.1,5,10", "Rprec", "bpref", *COUNTS)  # fmt: skip


def values_of(trec_name, ranking, level=1):
    """(Q,) of what trec_eval calls `trec_name`."""
    if trec_name in COUNTS:
        counts = (ranking.lengths, ranking.num_relevant(level), ranking.hits(level).sum(axis=1))
        return counts[COUNTS.index(trec_name)]
    if trec_name == "mrr_10_trec_order":
        return evaluate_measures(Measure("MRR", 10, level), ranking)
    name, cutoff = re.fullmatch(r"(.+?)(?:_(\d+))?", trec_name).groups()
    rel = 1 if name.startswith("ndcg") else level  # trec_eval does not apply -l to gains
    return evaluate_measures(Measure(NAMES[name], int(cutoff) if cutoff else None, rel), ranking)


def ranked(case):
    options = case["options"]
    assert set(options) <= {"relevance_level", "judged_docs_only_flag"}
    judged_only = options.get("judged_docs_only_flag", False)
    return rank(case["qrels"], case["run"], judged_only=judged_only), options.get("relevance_level", 1)


def test_the_recorded_cases_are_all_here():
    assert (len(CASES), len(FILE_CASES), len(API_CASES)) == (42, 24, 14)
    assert sum(len(v) for c in CASES.values() for v in c["measures"]["per_query"].values()) > 1000


@pytest.mark.parametrize("name", CASES)
def test_case_per_query(name):
    case = CASES[name]
    ranking, level = ranked(case)
    expected = case["measures"]["per_query"]
    derived = {name: v for name, v in case["derived"].items() if not name.startswith("if_scores")}
    for query, recorded in expected.items():
        values = recorded | {name: by_query[query] for name, by_query in derived.items()}
        assert len(values) >= 25
        row = ranking.queries.index(query)
        got = {measure: float(values_of(measure, ranking, level)[row]) for measure in values}
        assert got == pytest.approx(values, abs=1e-9)
    # The others are those that are missing from the run: they count 0.
    assert set(ranking.queries) - set(expected) == set(ranking.missing) - set(expected)


@pytest.mark.parametrize("name", CASES)
def test_case_mean(name):
    case = CASES[name]
    ranking, level = ranked(case)
    expected = {m: v for m, v in case["measures"]["mean_complete"].items() if m not in COUNTS}
    assert len(expected) > 20
    got = {measure: float(values_of(measure, ranking, level).mean()) for measure in expected}
    assert got == pytest.approx(expected, abs=1e-9)


def test_scores_are_compared_as_float32_not_as_float64():
    checked = 0
    for case in CASES.values():
        for query, values in (
            case["derived"].get("if_scores_compared_as_float64_like_trec_eval_10", {}).items()
        ):
            ranking, level = ranked(case)
            row = ranking.queries.index(query)
            assert all(
                values_of(m, ranking, level)[row] != pytest.approx(v, abs=1e-9) for m, v in values.items()
            )
            checked += 1
    assert checked == 3


# Where we refuse: as trec_eval 9.0.8 does, or (STRICTER) what it reads without a word.
REFUSED = {
    "duplicate_doc_in_run": "run:2: document 'd1' appears again in query 'q1'",
    "duplicate_doc_in_qrels": "qrels:2: document 'd1' appears again in query 'q1'",
    "comment_lines": "qrels:1: 2 columns",
    "three_columns_in_qrels": "qrels:1: 3 columns",
    "empty_run": "run:1: the file is empty",
    "empty_qrels": "qrels:1: the file is empty",
}
STRICTER = {
    "score_nan": "run:1: score 'nan' is not finite",
    "score_inf": "run:1: score 'inf' is not finite",
    "float_relevance_in_qrels": "qrels:1: relevance '1.7' is not a whole number",
    "text_relevance_in_qrels": "qrels:1: relevance 'yes' is not a whole number",
}


def read_case(case, folder):
    (folder / "qrels").write_bytes(case["qrels_text"].encode())
    (folder / "run").write_bytes(case["run_text"].encode())
    return read_qrels(folder / "qrels"), read_run(folder / "run")


@pytest.mark.parametrize("name", [*REFUSED, *STRICTER])
def test_file_case_refused(name, tmp_path):
    observed = FILE_CASES[name]["observed"]["trec_eval_9.0.8"]
    assert (observed["exit_code"] == 0) == (name in STRICTER)
    with pytest.raises(UserError) as caught:
        read_case(FILE_CASES[name], tmp_path)
    assert caught.value.problems[0].startswith(f"{tmp_path}/{(REFUSED | STRICTER)[name]}")


@pytest.mark.parametrize(
    "name", [name for name in FILE_CASES if name not in REFUSED and name not in STRICTER]
)
def test_file_case_accepted(name, tmp_path):
    case = FILE_CASES[name]
    qrels, run = read_case(case, tmp_path)
    options = case["extra_args"]
    level = int(options[1]) if options[:1] == ["-l"] else 1
    assert options in ([], ["-c"], ["-J"], ["-l", "2"])
    ranking = rank(qrels, run, judged_only="-J" in options)
    observed = case["observed"]["trec_eval_9.0.8"]
    expected = observed["values"]
    if name == "negative_two_only_second_query":  # trec_eval crashes; -2 is no other than -1
        assert observed["exit_code"] == -11
        expected = FILE_CASES["negative_one_only_second_query"]["observed"]["trec_eval_9.0.8"]["values"]
    for query in expected:
        for measure, text in expected[query].items():
            if measure == "num_q":
                assert len(ranking.queries) == int(text)
                continue
            values = values_of(measure, ranking, level)
            fold = np.sum if measure in COUNTS else np.mean
            got = fold(values) if query == "all" else values[ranking.queries.index(query)]
            assert (f"{got:.0f}" if measure in COUNTS else f"{got:.4f}") == text
    assert {"all", *ranking.queries} - set(expected) == set(ranking.missing) - set(expected)


def mrr(qrels, run, cutoff=None):
    return evaluate_measures(Measure("MRR", cutoff), rank(qrels, run)).tolist()


ONE = {"q": {"a": 1}}
ELEVEN = {"q": {f"d{i}": float(i) for i in range(11)}}
# Inputs on which pytrec_eval fails, hangs or is silently wrong, and what we give instead.
API_ANSWERS = {
    "numpy_float32_score": (lambda: mrr(ONE, {"q": {"a": np.float32(1)}}), [1.0]),
    "numpy_float16_score": (lambda: mrr(ONE, {"q": {"a": np.float16(1)}}), [1.0]),
    "numpy_int64_relevance": (lambda: mrr({"q": {"a": np.int64(1)}}, ONE), [1.0]),
    "float_relevance": (lambda: mrr({"q": {"a": 1.0}}, ONE), UserError),
    "none_score": (lambda: mrr(ONE, {"q": {"a": None}}), TypeError),
    "int_query_id": (lambda: mrr({1: {"a": 1}}, {1: {"a": 1.0}}), [1.0]),
    "inf_score": (lambda: mrr(ONE, {"q": {"a": float("inf"), "b": 1.0}}), UserError),
    "empty_run": (lambda: mrr(ONE, {}), [0.0]),
    "relevance_level_0": (lambda: Measure("MRR", rel=0), UserError),
    "recip_rank_10": (lambda: mrr({"q": {"d0": 1}}, ELEVEN, 10), [0.0]),
    "query_only_le_minus_2": (lambda: mrr(ONE | {"r": {"a": -2}}, ONE | {"r": {"a": 1}}), [1.0, 0.0]),
    "query_only_minus_1": (lambda: mrr({"z": {"a": -1}}, {"z": {"a": 1.0}}), [0.0]),
    "qid_is_no_query_sentinel_after_cleanup": (
        lambda: [mrr({"no_query": {"a": 1}}, {"no_query": {"a": 1.0}}) for _ in range(2)],
        [[1.0], [1.0]],
    ),
    "huge_relevance": (lambda: mrr({"q": {"a": 2_000_000_000}}, ONE), [1.0]),
}


@pytest.mark.parametrize("name", API_CASES)
def test_api_case(name):
    call, expected = API_ANSWERS[name]
    if isinstance(expected, list):
        assert call() == expected
    else:
        with pytest.raises(expected):
            call()


def oracle(qrels, run, level=1):
    """Query to trec_eval name to value, without the inputs that crash, hang or confuse pytrec_eval.

    Negative judgments become -1, queries without a judgment of at least 0 are left out, and ids get a prefix,
    because `no_query` is a sentinel inside it.
    """
    pytrec_eval = pytest.importorskip("pytrec_eval")
    clamped = {q: {d: max(r, -1) for d, r in docs.items()} for q, docs in qrels.items()}
    safe = {q: docs for q, docs in clamped.items() if q in run and any(r >= 0 for r in docs.values())}
    if not safe:
        return {}
    evaluator = pytrec_eval.RelevanceEvaluator(
        {"p" + q: d for q, d in safe.items()}, set(ORACLE), relevance_level=level
    )
    got = evaluator.evaluate({"p" + q: run[q] for q in safe})
    return {query[1:]: values for query, values in got.items()}


def assert_equals_oracle(qrels, run, level=1):
    """Compare every value; the number of queries compared."""
    expected = oracle(qrels, run, level)
    ranking = rank(qrels, run)
    rows = {query: row for row, query in enumerate(ranking.queries)}
    for measure in next(iter(expected.values()), {}):
        got = values_of(measure, ranking, level)
        want = np.array([expected[query][measure] for query in expected])
        np.testing.assert_allclose(got[[rows[q] for q in expected]], want, rtol=0, atol=1e-9, err_msg=measure)
    return len(expected)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if "judged_docs_only_flag" not in c["options"]])
def test_case_beside_pytrec_eval(name):
    case = CASES[name]
    compared = assert_equals_oracle(case["qrels"], case["run"], case["options"].get("relevance_level", 1))
    assert compared or "hazard" in case


LETTERS = "aAbzé߿ÿ中文\U0001f600\U00010000\uffee\ue000019"


def random_query(random):
    """Judgments and scores of one query, with ties and extreme scores, gaps in the grades and unicode ids."""
    sizes = random.integers(1, 4, size=random.integers(1, 40))
    documents = sorted({"".join(random.choice(list(LETTERS), size=size)) for size in sizes})
    grade = 10 ** int(random.integers(3))
    judged = {d: int(random.integers(-2, 5)) for d in documents if random.random() < 0.6}
    judged = {d: level * grade if level > 0 else level for d, level in judged.items()}
    # Some are equal as float32 only: denormal, beyond its range, or apart by less than its precision.
    scale = random.choice([1.0, 10.0, 1e-44, 1e-38, 1e38, 1e300])
    levels = np.array(
        [*random.normal(scale=scale, size=random.integers(1, 8)), 0.0, -0.0]
    )  # few distinct scores
    scores = random.choice(levels, size=len(documents)) * (1 + random.integers(3, size=len(documents)) * 1e-9)
    return judged, {d: float(s) for d, s in zip(documents, scores, strict=True) if random.random() < 0.8}


@pytest.mark.parametrize("seed", range(8))
def test_random_rankings_equal_pytrec_eval(seed):
    random = np.random.default_rng(seed)
    queries = {f"q{i}": random_query(random) for i in range(280)}
    qrels = {query: judged for query, (judged, _) in queries.items()}
    run = {query: scores for query, (_, scores) in queries.items()}
    assert rank(qrels, run).tied().mean() > 0.5
    assert assert_equals_oracle(qrels, run, level=1 + seed % 3) >= 250
