"""Compare scoring and training with other libraries on a CUDA device. The authors had no GPU to run it.

    python benchmarks/gpu.py MODEL BEIR_FOLDER --work FOLDER [--tokenizer FOLDER] [--json FILE]

Methods, pools and rounds are those of speed_scoring.py and speed_training.py; peak memory is what PyTorch
allocated. Without CUDA it prints a line and ends.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from common import Pairs, Texts, alternate, make_parser, ratio, report, table
from models import model_folder

DEVICE = "cuda"
ST_BATCHES = (32, 128, 512)


def scoring(folder: str, calls: list[Pairs], rounds: int) -> tuple[str, dict[str, Any]]:
    """Measure seconds and memory of scoring a pool."""
    from scoring_methods import flag_reranker, plain_loop, score_all, sentence_transformers, uprank

    make: dict[str, Callable[[], Any]] = {
        "uprank fp32": lambda: uprank(folder, "fp32", DEVICE),
        "uprank bf16": lambda: uprank(folder, "bf16", DEVICE),
        "plain loop fp32, unsorted": lambda: plain_loop(folder, DEVICE),
        "FlagReranker fp16, batch 128": lambda: flag_reranker(folder, DEVICE, 128, half=True),
    }
    for precision in ("fp32", "bf16"):
        for batch in ST_BATCHES:
            name = f"sentence-transformers {precision}, batch {batch}"
            make[name] = functools.partial(sentence_transformers, folder, precision, DEVICE, batch)
    runs = {name: functools.partial(score_all, method(), calls) for name, method in make.items()}
    return _compare(runs, rounds, base="sentence-transformers fp32, batch 32")


def training(folder: str, rows: list[dict[str, Any]], rounds: int) -> tuple[str, dict[str, Any]]:
    """Measure seconds and memory of one optimizer step with the model's own dropout."""
    from training_steps import one_at_a_time

    names = [f"{library}{detail}" for library, detail in (
        ("uprank", " fp32"),
        ("uprank", " bf16"),
        ("plain padded loop", " fp32"),
        ("sentence-transformers", " ListNetLoss fp32, mini-batch None, queries at once all"),
        ("sentence-transformers", " ListNetLoss fp32, mini-batch -1, queries at once all"),
        ("sentence-transformers", " ListNetLoss bf16, mini-batch -1, queries at once all"),
        ("FlagEmbedding", " fp32, queries at once all"),
        ("FlagEmbedding", " bf16, queries at once all"),
    )]  # fmt: skip
    prepare, run = one_at_a_time(folder, rows, "own", DEVICE)
    return _compare(dict.fromkeys(names, run), rounds, base=names[3], prepare=prepare)


def _compare(
    runs: dict[str, Callable[[], Any]],
    rounds: int,
    *,
    base: str,
    prepare: Callable[[str], object] | None = None,
) -> tuple[str, dict[str, Any]]:
    import torch

    peaks: dict[str, float] = {}
    held = 0

    def before(name: str) -> None:
        nonlocal held
        if prepare:
            prepare(name)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()

    def measured(name: str, call: Callable[[], Any]) -> None:
        call()
        torch.cuda.synchronize()
        peaks[name] = (torch.cuda.max_memory_allocated() - held) / 2**20

    timed = {name: functools.partial(measured, name, call) for name, call in runs.items()}
    seconds = alternate(timed, rounds, before=before)
    rows, figures = [], {}
    for name in runs:
        times, least, most = ratio(seconds[base], seconds[name])
        took = median(seconds[name][1:])
        figures[name] = {"seconds": seconds[name], "ratio": times, "memory": peaks[name]}
        rows.append([name, f"{times:.2f}", f"{least:.2f} to {most:.2f}", took, peaks[name]])
    return table(["method", "ratio", "range", "seconds", "MiB beyond the start"], rows), figures


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=20000)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--passages", type=int, default=8)
    given = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("No CUDA device on this machine: nothing was measured.")
        return
    folder = str(model_folder(given.model, given.work, given.tokenizer))
    texts = Texts(given.data, Path(folder), given.seed)
    sections, results = {}, {}
    for pool, calls in texts.pools(given.pairs, given.few).items():
        title = f"Scoring on {torch.cuda.get_device_name()}, pool `{pool}`"
        sections[title], results[pool] = scoring(folder, calls, given.rounds)
    title = "One optimizer step, the model's own dropout"
    rows = texts.groups(given.queries, given.passages)
    sections[title], results["training"] = training(folder, rows, given.rounds)
    report(given, sections, results)


if __name__ == "__main__":
    main()
