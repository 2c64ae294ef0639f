"""Compare training in one process of all threads with one process of one thread for each core.

    python benchmarks/processes.py MODEL BEIR_FOLDER --work FOLDER [--tokenizer FOLDER] [--queries 8]

Both train on the same groups and are started by torchrun in turns; a round is a start, a warm-up step and
STEPS steps. Gradients are exchanged as in `uprank train`. Tokens a second count all processes. The
imbalance is the excess of the fullest process over the mean tokens of a step.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from common import Texts, alternate, make_parser, report, say, table
from models import model_folder

LAUNCH = ["-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]  # a free port


def launch(given: argparse.Namespace, folder: str, processes: int, precision: str) -> list[dict[str, Any]]:
    """Start once, with warm-up and steps; return the figures of every step."""
    threads = given.threads // processes
    output = given.work / "steps.json"
    words = [*LAUNCH, f"--nproc-per-node={processes}", __file__, folder, str(given.data)]
    words += ["--work", str(given.work), "--threads", str(threads), "--steps", str(given.steps)]
    words += ["--precision", precision, "--worker", str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *words], env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(words)}")
    steps: list[dict[str, Any]] = json.loads(output.read_text())
    return steps


def worker(given: argparse.Namespace) -> None:
    """Run in a process of torchrun: time the steps and write seconds and the tokens of every process."""
    import torch

    torch.set_num_threads(given.threads)
    from training_steps import make_step
    from uprank.data.sampling.draws import Draw
    from uprank.train.batches import step_batches

    rows = json.loads((given.work / "groups.json").read_text())
    step = make_step(f"uprank {given.precision}", given.model, "own", "cpu")
    step.run(rows)
    accelerator, encoder = step.state.accelerator, step.state.reranker.pairs
    draws = [Draw(i, i, row["query"], tuple(row["pos"]), tuple(row["neg"])) for i, row in enumerate(rows)]
    found = []
    for _ in range(given.steps):
        accelerator.wait_for_everyone()
        begun = time.perf_counter()
        step.run(rows)
        accelerator.wait_for_everyone()
        found.append(time.perf_counter() - begun)
    budget = step.state.tokens_per_batch
    batches = functools.partial(
        step_batches, draws, encoder, seed=0, budget=budget, device=accelerator.device
    )
    count = accelerator.num_processes
    tokens = [
        sum(batch.packed.tokens for batch in batches(share=(process, count)) if batch.counts)
        for process in range(count)
    ]
    if accelerator.is_main_process:
        steps = [{"seconds": seconds, "tokens": tokens} for seconds in found]
        Path(given.worker).write_text(json.dumps(steps))
    accelerator.end_training()


def imbalance(tokens: list[int]) -> float:
    """Return the excess of the fullest process over the mean, as a share.

    >>> imbalance([100, 100]), imbalance([150, 50])
    (0.0, 0.5)
    """
    return max(tokens) * len(tokens) / sum(tokens) - 1


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--queries", type=int, default=8, help="groups a step, over all processes")
    parser.add_argument("--passages", type=int, default=8, help="passages a group")
    parser.add_argument("--steps", type=int, default=3, help="steps a round, after the warm-up step")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return worker(given)
    if given.threads < 2:
        sys.exit("one core: nothing to compare")
    folder = str(model_folder(given.model, given.work, given.tokenizer))
    rows = Texts(given.data, Path(folder), given.seed).groups(given.queries, given.passages)
    (given.work / "groups.json").write_text(json.dumps(rows))
    say(f"{len(rows)} groups of {given.passages} passages")
    names = {
        1: f"1 process x {given.threads} threads",
        given.threads: f"{given.threads} processes x 1 thread",
    }
    steps: dict[int, list[list[dict[str, Any]]]] = {count: [] for count in names}

    def one_round(count: int) -> None:
        steps[count].append(launch(given, folder, count, given.precision))

    runs = {name: functools.partial(one_round, count) for count, name in names.items()}
    alternate(runs, given.rounds)
    rows_out, results = [], {}
    medians = {n: [median(s["seconds"] for s in found) for found in steps[n][1:]] for n in names}
    for count, name in names.items():
        tokens = steps[count][0][0]["tokens"]
        times = [one / other for one, other in zip(medians[1], medians[count], strict=True)]
        took = median(medians[count])
        results[name] = {"steps": steps[count], "seconds": took, "ratio": median(times)}
        row = [
            name,
            f"{median(times):.2f}",
            f"{min(times):.2f} to {max(times):.2f}",
            took,
            sum(tokens) / took,
        ]
        rows_out.append([*row, f"{100 * imbalance(tokens):.1f} %"])
    header = ["processes", "ratio", "range", "seconds a step", "tokens/s", "imbalance of tokens"]
    report(given, {f"One step of {len(rows)} groups, {given.precision}": table(header, rows_out)}, results)
    return None


if __name__ == "__main__":
    main()
