"""Kill a run at random instants, resume it, and compare every bit with an undisturbed run.

    python benchmarks/crashes.py --work crashes --kills 30
    python benchmarks/crashes.py --work crashes --kills 10 --processes 2
    python benchmarks/crashes.py --work crashes --kills 6 --processes 1,2

One process imports everything and then only watches. Each start of the run is a fork of it in its own
process group that calls `main` of `uprank.train` with the same words, like the command but without the
seconds of imports. Several processes get the environment variables of torchrun. A kill is SIGKILL to the
whole group. `--processes 1,2` alternates at every start; the weights are then compared to rounding.
"""

import argparse
import faulthandler
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

STEPS, EVERY = 12, 3
TURNS = [0.0, 0.0, 0.5]  # chance of a second kill, in the resumed run
CLOCKS = ("second", "data_share", "memory")  # values of metrics.jsonl that differ in every run
ROUNDING = 1e-5
POLL = 2e-4  # seconds


def build(work: Path) -> list[str]:
    """Write a BERT of 1.7 million weights and groups; return the words of the command without `output`."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = [f"word{number}" for number in range(300)]
    rng = random.Random(0)
    tokenizer = BertTokenizer(
        vocab={word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 1024}
    config = BertConfig(**shape, vocab_size=len(tokenizer), max_position_embeddings=64, num_labels=1)
    BertForSequenceClassification(config).save_pretrained(work / "model")
    tokenizer.save_pretrained(work / "model")
    for name, start, count in (("train", 0, 40), ("dev", 40, 24)):
        rows = []
        for word in words[start : start + count]:
            passages = [" ".join(rng.choices(words[100:], k=rng.randrange(4, 16))) for _ in range(6)]
            row = {"query": word, "pos": [f"{word} {passages[0]}"], "neg": passages[1:]}
            rows.append(json.dumps(row) + "\n")
        (work / f"{name}.jsonl").write_text("".join(rows))
    data = [f"data.train={work / 'train.jsonl'}", f"data.dev={work / 'dev.jsonl'}", "model.query_tokens=16"]
    amount = [f"train.max_steps={STEPS}", f"train.eval_every={EVERY}", "train.queries_per_step=6"]
    # An eps far above the rounding of a gradient keeps Adam from amplifying rounding.
    rate = ["optim.learning_rate=2e-3", "optim.eps=1e-4", "train.group_size=4", "threads=1"]
    return [f"model.path={work / 'model'}", "model.device=cpu", *data, *amount, *rate]


def start(words: list[str], log: Path, processes: int) -> int:
    """Start the run and return its process group."""
    port = free_port()
    leader = os.fork()
    if leader:
        return leader
    os.setpgid(0, 0)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    if processes == 1:
        work(words, {})
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = []
    for rank in range(processes):
        child = os.fork()
        if not child:
            work(words, group | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        children.append(child)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os._exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))


def work(words: list[str], environment: dict[str, str]) -> None:
    """Run the command in this process and exit."""
    from uprank.train.__main__ import main

    faulthandler.register(signal.SIGUSR1)  # a hanging run prints where
    os.environ.update(environment)
    sys.argv = ["uprank train", *words]
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def ended(group: int) -> int | None:
    """Return the exit code of the leader, None while it runs."""
    found, status = os.waitpid(group, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def last_step(output: Path) -> int:
    """Return the step of the last complete line of metrics.jsonl; -1 before the first."""
    file = output / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.is_file() else []
    return json.loads(lines[-1])["step"] if lines else -1


def instants(rng: random.Random, seconds: float) -> dict[str, tuple[Callable[[Path], bool], float]]:
    """Draw one instant of each kind: a condition to wait for, and the seconds from it to the kill."""
    saved = rng.randrange(1, STEPS // EVERY + 1) * EVERY
    inside = rng.choice(["", "/model.safetensors", "/optimizer.safetensors", "/hashes.json"])
    part = f"checkpoints/.step-{{:06d}}.part{inside}"
    due, between = rng.randrange(1, STEPS // EVERY + 1) * EVERY, rng.choice([1, 2, 4, 5, 7, 8, 10, 11])
    pause = rng.random()
    return {
        "start-up": (lambda run: (run / ".lock").exists(), 0.15 * seconds * pause),
        "first save": (lambda run: (run / part.format(EVERY)).exists(), 0.01 * pause),
        "step": (lambda run: last_step(run) >= between, 0.1 * pause),
        "evaluation": (lambda run: last_step(run) >= due, 0.1 * pause),
        "save": (lambda run: (run / part.format(saved)).exists(), 0.02 * pause),
        "best model": (lambda run: (run / ".best.part").exists(), 0.02 * pause),
        "any time": (lambda run: (run / ".lock").exists(), seconds * pause),
        "the end": (lambda run: (run / ".last.part").exists(), 0.2 * pause),
    }


def kill_at(group: int, output: Path, wait: Callable[[Path], bool], pause: float) -> str:
    """Kill the group at an instant; return what it left, or that it had ended."""
    begun = None
    while (code := ended(group)) is None:
        if begun is None and wait(output):
            begun = time.perf_counter()
        if begun is not None and time.perf_counter() - begun >= pause:
            os.killpg(group, signal.SIGKILL)
            os.waitpid(group, 0)
            time.sleep(0.05)  # its orphaned members end by themselves
            half = sorted(path.name for path in output.rglob(".*") if path.suffix in (".part", ".old"))
            return f"after step {last_step(output)}" + (f", with {', '.join(half)}" if half else "")
        time.sleep(POLL)
    return f"had ended with {code}"


def finish(words: list[str], log: Path, processes: int, limit: float = 120.0) -> int:
    """Run to the end and return the exit code; a hanging run writes its stack to the log."""
    group, begun = start(words, log, processes), time.perf_counter()
    while (code := ended(group)) is None:
        if time.perf_counter() - begun > limit:
            for number in (signal.SIGUSR1, signal.SIGKILL):
                os.killpg(group, number)
                time.sleep(1)
            os.waitpid(group, 0)
            return -signal.SIGKILL
        time.sleep(0.01)
    return code


def differences(whole: Path, found: Path, *, exact: bool) -> list[str]:
    """List the differences between two finished runs that should be equal."""
    from safetensors.torch import load_file

    files = ["best/model.safetensors", "last/model.safetensors"]
    saved = [{path.name for path in (run / "checkpoints").glob("step-*")} for run in (whole, found)]
    wrong = [] if saved[0] == saved[1] else [f"checkpoints {saved}"]
    files += [f"checkpoints/{max(saved[0])}/{name}.safetensors" for name in ("model", "optimizer")]
    for name in files if not wrong else []:
        if exact and (whole / name).read_bytes() != (found / name).read_bytes():
            wrong.append(name)
        one, two = load_file(whole / name), load_file(found / name)
        most = max(float((one[key].double() - two[key].double()).abs().max()) for key in one)
        if most > (0 if exact else ROUNDING):
            wrong.append(f"{name} by {most:.2g}")
    rows = [
        [comparable(row) for row in map(json.loads, (run / "metrics.jsonl").open())] for run in (whole, found)
    ]
    if exact and rows[0] != rows[1]:
        wrong.append("metrics.jsonl")
    if [(row["step"], row.keys()) for row in rows[0]] != [(row["step"], row.keys()) for row in rows[1]]:
        wrong.append(f"lines of metrics.jsonl: {[row['step'] for row in rows[1]]}")
    ends = [json.loads((run / "manifest.json").read_text()) for run in (whole, found)]
    names = ["best_step", "stopped_at"] + (["best_weights", "verdict"] if exact else [])
    wrong += [f"{name} of the manifest" for name in names if ends[0][name] != ends[1][name]]
    left = [path.name for path in found.rglob(".*") if path.suffix in (".part", ".old")]
    return wrong + [f"left behind: {name}" for name in left]


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Drop the values that differ in every run."""
    return {key: value for key, value in row.items() if not any(clock in key for clock in CLOCKS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for model, data and runs")
    parser.add_argument("--kills", type=int, default=30, help="number of killed runs")
    parser.add_argument("--processes", default="1", help="`1`, `2`, or `1,2` for turns")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    numbers = [int(number) for number in given.processes.split(",")]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tokenizers forks after its first use
    os.environ["UPRANK_CACHE"] = str(given.work / "cache")
    os.environ["OMP_NUM_THREADS"] = "1"  # a fork does not have the threads of its parent's pool
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    given.work.mkdir(parents=True, exist_ok=True)
    words = build(given.work)
    preload()
    rng, log = random.Random(given.seed), given.work / "log.txt"

    def with_output(output: Path) -> list[str]:
        shutil.rmtree(output, ignore_errors=True)
        return [*words, f"output={output}"]

    whole = given.work / "undisturbed"
    for _ in range(2):  # the second time with a warm cache, like all other runs
        begun = time.perf_counter()
        if finish(with_output(whole), log, numbers[0]):
            sys.exit(f"the undisturbed run failed, see {log}")
    seconds = time.perf_counter() - begun
    print(f"undisturbed: {STEPS} steps in {seconds:.1f} s, {given.processes} process(es)")
    bad, killed, kinds = 0, 0, Counter[str]()
    for trial, kind in enumerate(islice(cycle(instants(rng, seconds)), given.kills)):
        turns, output = cycle(numbers), given.work / f"killed-{trial:02d}"
        command, stories = with_output(output), []
        for chance in (1.0, TURNS[trial % len(TURNS)]):
            if rng.random() < chance:
                wait, pause = instants(rng, seconds)[kind if chance == 1 else "any time"]
                story = kill_at(start(command, log, next(turns)), output, wait, pause)
                stories.append(story)
                killed += "ended" not in story
                kinds[kind if chance == 1 else "continued"] += "ended" not in story
        over = (
            "holds a finished run"
            if output.joinpath("manifest.json").is_file()
            and json.loads(output.joinpath("manifest.json").read_text()).get("finished")
            else ""
        )
        code = 0 if over else finish(command, log, next(turns))
        wrong = [f"exit code {code}"] if code else differences(whole, output, exact=len(numbers) == 1)
        bad += bool(wrong)
        print(f"{trial:3d} {kind:10s} {'; '.join(stories)}: {'; '.join(wrong) or 'the same'}", flush=True)
        if not wrong:
            shutil.rmtree(output)
    print(f"{killed} kills ({', '.join(f'{n} {k}' for k, n in kinds.items())}); {bad} runs differ")
    sys.exit(bool(bad))


def preload() -> None:
    """Import the modules of the command once for all forks, without starting a thread."""
    import accelerate  # noqa: F401
    import hydra  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401


if __name__ == "__main__":
    main()
