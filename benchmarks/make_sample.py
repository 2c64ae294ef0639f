"""Sample a small BEIR folder from a large one: some queries, their relevant and their best BM25 passages.

    python benchmarks/make_sample.py FOLDER data/samples/scifact --train 400 --dev 60 --test 100 [--seed 0]

FOLDER needs train, dev and test qrels (see hold_out.py). BM25 searches the whole corpus, so the sample
keeps the passages that are hardest for a first stage over everything.
"""

import argparse
import json
import random
from pathlib import Path

from uprank.data.problems import Problems, require
from uprank.data.read import read_judged
from uprank.eval.retrieval.bm25 import search_bm25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    for split in ("train", "dev", "test"):
        parser.add_argument(f"--{split}", type=int, required=True)
    parser.add_argument("--hard", type=int, default=5, help="BM25 passages a query")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    keep_queries: set[str] = set()
    keep_passages: set[str] = set()
    (given.output / "qrels").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        problems = Problems()
        whole = read_judged(str(given.folder), problems, split=split)
        require(problems)
        keys = random.Random(f"{given.seed}/{split}").sample(sorted(whole.queries), getattr(given, split))
        found = search_bm25(whole.passages, {key: whole.queries[key] for key in keys}, depth=given.hard)
        keep_queries |= set(keys)
        keep_passages |= {doc for key in keys for doc in (*whole.qrels[key], *found[key])}
        lines = [f"{key}\t{doc}\t{grade}" for key in keys for doc, grade in whole.qrels[key].items()]
        text = "\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n"
        (given.output / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
        print(f"{split}: {len(keys)} queries, {len(lines)} judgments")
    for name, keep in (("queries", keep_queries), ("corpus", keep_passages)):
        lines = (given.folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["_id"] in keep]
        (given.output / f"{name}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
        print(f"{name}: {len(kept)} of {len(lines)}")


if __name__ == "__main__":
    main()
