"""Compare the values and the speed of Uprank's measures with pytrec_eval.

    python benchmarks/measures.py [--queries 5000] [--depth 100]    # speed, from the same dicts
    python benchmarks/measures.py --fuzz 50000                      # values of random rankings
    python benchmarks/measures.py --large                           # 7,000 queries x 1,000, a whole report

Speed is the median of alternating rounds and includes the ranking. Exit code 1 if a value differs.
"""

import argparse
import resource
import sys
import time
from statistics import median

import numpy as np
import pytrec_eval
from uprank.data.groups import Collection
from uprank.eval.evaluate import Entry, ReportOptions, make_report
from uprank.eval.measures.measure import Measure, evaluate_measures, parse_measures
from uprank.eval.measures.ranking import Ranking, rank
from uprank.eval.retrieval.candidates import Candidates
from uprank.eval.scoring import Scored

Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]
FOUR = {"nDCG@10": "ndcg_cut_10", "MRR": "recip_rank", "MAP": "map", "R@100": "recall_100"}
ALL = FOUR | {
    "nDCG": "ndcg", "nDCG@1": "ndcg_cut_1", "nDCG@3": "ndcg_cut_3", "MAP@10": "map_cut_10", "R": "set_recall",
    "R@10": "recall_10", "P@1": "P_1", "P@5": "P_5", "P@10": "P_10", "Success@1": "success_1",
    "Success@5": "success_5", "Success@10": "success_10", "Rprec": "Rprec", "bpref": "bpref",
}  # fmt: skip
GAINS = ("nDCG", "nDCG@1", "nDCG@3", "nDCG@10")  # trec_eval does not apply a relevance level to these
LETTERS = list("aAbzé߿ÿ中文\U0001f600\U00010000\uffee\ue000019_-.")


def simulated(queries: int, depth: int, decimals: int, seed: int = 0) -> tuple[Qrels, Run]:
    """Return judgments and one run; each query has graded documents retrieved and two missed."""
    random = np.random.default_rng(seed)
    run: Run = {}
    qrels: Qrels = {}
    for query in range(queries):
        documents = [f"d{i}" for i in random.choice(10**6, size=depth, replace=False).tolist()]
        run[f"q{query}"] = dict(
            zip(documents, np.round(random.normal(size=depth), decimals).tolist(), strict=True)
        )
        qrels[f"q{query}"] = {
            **dict(zip(documents[::20], random.integers(0, 4, depth).tolist(), strict=False)),
            "x": 1,
            "y": 2,
        }
    return qrels, run


def random_query(random: np.random.Generator) -> tuple[dict[str, int], dict[str, float]]:
    """Draw a query: graded and negative judgments; ties, some only in float32, huge, tiny and -0.0 scores."""
    sizes = random.integers(1, 4, size=random.integers(1, 40))
    documents = sorted({"".join(random.choice(LETTERS, size=size)) for size in sizes})
    judged = {d: int(random.integers(-2, 5)) for d in documents if random.random() < 0.6}
    grade = 10 ** random.integers(0, 3)  # grades with gaps, and large grades
    judged = {d: level * int(grade) if level > 0 else level for d, level in judged.items()}
    scale = random.choice([1.0, 10.0, 1e-44, 1e-38, 1e38, 1e300])
    levels = [*(random.normal(size=random.integers(1, 8)) * scale).tolist(), 0.0, -0.0]
    scores = random.choice(levels, size=len(documents)) * (1 + random.integers(3, size=len(documents)) * 1e-9)
    if random.random() < 0.3:  # without ties
        scores = random.normal(size=len(documents)) * scale
    kept = random.random(len(documents)) < 0.85
    return judged, {d: float(s) for d, s, k in zip(documents, scores, kept, strict=True) if k}


def oracle(qrels: Qrels, run: Run, level: int) -> dict[str, dict[str, float]]:
    """Return pytrec_eval's values by query and trec_eval name, without inputs that crash, hang or confuse it.

    Negative judgments become -1. Queries without a judgment of at least 0 are dropped (it crashes or hangs).
    Ids get a prefix, because it uses `no_query` as a sentinel.
    """
    clamped = {q: {d: max(r, -1) for d, r in docs.items()} for q, docs in qrels.items()}
    safe = {q: docs for q, docs in clamped.items() if q in run and any(r >= 0 for r in docs.values())}
    evaluator = pytrec_eval.RelevanceEvaluator(
        {"p" + q: docs for q, docs in safe.items()},
        {"ndcg", "ndcg_cut.1,3,10", "map", "map_cut.10", "recip_rank", "recall.10,100", "P.1,5,10",
         "success.1,5,10", "Rprec", "bpref", "set_recall"},
        relevance_level=level,
    )  # fmt: skip
    return {q[1:]: values for q, values in evaluator.evaluate({"p" + q: run[q] for q in safe}).items()}


def differing(qrels: Qrels, run: Run, level: int) -> tuple[int, int, int]:
    """Return the number of rankings, of values, and of values that differ by more than 1e-9."""
    expected = oracle(qrels, run, level)
    ranking = rank(qrels, run)
    place = {query: row for row, query in enumerate(ranking.queries)}
    rows = [place[query] for query in expected]
    different = 0
    for text, theirs in ALL.items():
        kind = Measure.parse(text)
        measure = Measure(kind.name, kind.cutoff, 1 if text in GAINS else level)
        wanted = np.array([values[theirs] for values in expected.values()])
        different += int((np.abs(evaluate_measures(measure, ranking)[rows] - wanted) > 1e-9).sum())
    return len(rows), len(rows) * len(ALL), different


def fuzz(rankings: int, seed: int) -> bool:
    """Compare random rankings in batches of 500; return True if all values agree."""
    done = values = different = 0
    for batch in range(10**9):
        random = np.random.default_rng([seed, batch])
        queries = {f"q{i}": random_query(random) for i in range(min(500, rankings - done) or 1)}
        found = differing(
            {query: judged for query, (judged, _) in queries.items() if judged},
            {query: scores for query, (_, scores) in queries.items()},
            level=1 + batch % 3,
        )
        done, values, different = done + found[0], values + found[1], different + found[2]
        if done >= rankings:
            break
    print(f"{done} random rankings, {values} values of {len(ALL)} measures, {different} differences")
    return different == 0


def speed(queries: int, depth: int, rounds: int) -> None:
    """Print the seconds of both libraries from the same dicts to four measures, in alternating rounds."""
    measures = parse_measures(FOUR)
    for name, decimals in (("no ties", 15), ("scores of two decimals", 2), ("one constant score", -9)):
        qrels, run = simulated(queries, depth, decimals)
        ours, theirs = [], []
        for _ in range(rounds):
            start = time.perf_counter()
            evaluator = pytrec_eval.RelevanceEvaluator(
                qrels, {"ndcg_cut.10", "recip_rank", "map", "recall.100"}
            )
            evaluator.evaluate(run)
            middle = time.perf_counter()
            ranking = rank(qrels, run)
            for measure in measures:
                evaluate_measures(measure, ranking)
            theirs.append(middle - start)
            ours.append(time.perf_counter() - middle)
        print(
            f"{queries} queries x {depth}, four measures, {name}: pytrec_eval {median(theirs):.3f} s, "
            f"uprank {median(ours):.3f} s: {median(theirs) / median(ours):.2f} times as fast"
        )


def large(queries: int, depth: int) -> None:
    """Print seconds and peak memory of a report on a first stage and a model with stub scores."""
    qrels, run = simulated(queries, depth, 15)
    stub = Scored(
        {q: dict(zip(row, np.random.default_rng(i).normal(size=depth).tolist(), strict=True))
         for i, (q, row) in enumerate(run.items())},
        queries * depth, 0, 0.0,
    )  # fmt: skip
    before = _peak()
    start = time.perf_counter()
    report = make_report(
        Collection("simulated", {query: query for query in qrels}, {}, qrels, {}),
        Candidates("simulated", depth, run, "first"),
        [Entry("first", Scored(run, queries * depth, 0, 0.0)), Entry("stub", stub, weights="sha256:0")],
        ReportOptions(parse_measures(["nDCG@10", "MRR@10", "MAP", "R@100"]), "first", 0, "benchmark"),
    )
    seconds = time.perf_counter() - start
    print(
        f"{queries} queries x {depth}, {len(report.systems)} systems, {len(report.measures)} measures, "
        f"report with intervals and tests: {seconds:.1f} s, peak {_peak():.2f} GB ({before:.2f} GB before)"
    )
    start = time.perf_counter()
    ranking: Ranking = rank(qrels, run)
    print(f"of that, one ranking: {time.perf_counter() - start:.1f} s, {ranking.levels.size} cells")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fuzz", type=int, default=0, metavar="RANKINGS")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--depth", type=int)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.fuzz:
        sys.exit(0 if fuzz(given.fuzz, given.seed) else 1)
    if given.large:
        large(given.queries or 7000, given.depth or 1000)
    else:
        speed(given.queries or 5000, given.depth or 100, given.rounds)


if __name__ == "__main__":
    main()
