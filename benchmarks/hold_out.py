"""Copy a BEIR folder and hold dev queries out of its train split.

    python benchmarks/hold_out.py FOLDER OUTPUT --queries 150 [--seed 0]

Training queries with the text of a test query are dropped, so nothing leaks.
"""

import argparse
import random
import shutil
from pathlib import Path

from uprank.data.problems import Problems, require
from uprank.data.read import read_judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--queries", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    problems = Problems()
    splits = {name: read_judged(str(given.folder), problems, split=name) for name in ("train", "test")}
    require(problems)
    train, test = splits["train"], splits["test"]
    test_texts = {text.casefold() for text in test.queries.values()}
    kept = [key for key, text in train.queries.items() if text.casefold() not in test_texts]
    texts = sorted({train.queries[key].casefold() for key in kept})
    held = set(random.Random(given.seed).sample(texts, given.queries))
    dev = [key for key in kept if train.queries[key].casefold() in held]
    rest = [key for key in kept if train.queries[key].casefold() not in held]

    (given.output / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl"):
        shutil.copyfile(given.folder / name, given.output / name)
    for split, keys, source in (
        ("train", rest, train),
        ("dev", dev, train),
        ("test", list(test.queries), test),
    ):
        lines = [f"{key}\t{doc}\t{grade}" for key in keys for doc, grade in source.qrels[key].items()]
        text = "\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n"
        (given.output / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
        print(f"{split}: {len(keys)} queries, {len(lines)} judgments")
    print(f"dropped, because their text is a test query: {len(train.queries) - len(kept)}")


if __name__ == "__main__":
    main()
