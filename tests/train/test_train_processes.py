"""Training in processes of its own: two learn what one learns, a killed one loses nothing."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import uprank.configs
from safetensors.torch import load_file

CONFIGS = Path(uprank.configs.__file__).parent


def command(model, jsonl, output, *more):
    return [
        "uprank.train",
        f"model.path={model}",
        "model.query_tokens=20",
        "model.device=cpu",
        f"data.train={jsonl[0]}",
        f"data.dev={jsonl[1]}",
        "train.queries_per_step=8",
        "train.group_size=4",
        "train.eval_every=2",
        "optim.learning_rate=2e-3",
        "threads=1",
        f"output={output}",
        *more,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["accelerate", "torchrun"])
def test_two_processes_learn_what_one_learns(assert_same_learned, run, tiny_xlmr, jsonl, tmp_path, launcher):
    start = {
        "accelerate": [
            "accelerate.commands.launch",
            "--config_file",
            str(CONFIGS / "accelerate" / "cpu.yaml"),
            "--main_process_port",
            "0",  # a free one
        ],
        "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }[launcher]
    # A small budget makes the processes go through different numbers of batches in a step.
    budget = f"train.tokens_per_batch={60 if launcher == 'torchrun' else 4096}"
    done = subprocess.run(
        [sys.executable, "-m", *start, "-m", *command(tiny_xlmr, jsonl, tmp_path / "two", budget)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_learned(run, tmp_path / "two")
    assert "2 process(es)" in (tmp_path / "two" / "manifest.json").read_text()


RUNNING_OUT = """
import os, torch
from uprank.train import loop
from uprank.train.__main__ import main

def train_step(*given, real=loop.train_step, taken=[], **more):
    taken.append(1)
    if len(taken) == 2 and os.environ["RANK"] == "1":
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return real(*given, **more)

loop.train_step = train_step
main()
"""


@pytest.mark.slow
def test_memory_that_ends_in_one_process_ends_all_without_a_traceback(tiny_xlmr, jsonl, tmp_path):
    (tmp_path / "run_out.py").write_text(RUNNING_OUT)
    _, *words = command(tiny_xlmr, jsonl, tmp_path / "run")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*start, str(tmp_path / "run_out.py"), *words], capture_output=True, text=True, timeout=600
    )
    assert done.returncode
    assert "uprank train: process 1: out of memory in step 2" in done.stderr
    assert done.stderr.count("Traceback") == 1, done.stderr[-3000:]  # torchrun's own, at the end
    assert "gloo" not in done.stderr
    assert "deprecated" not in done.stderr


STANDING_STILL = """
import sys, time
from uprank.data.store import write_folder as real
from uprank.train.__main__ import main
from uprank.train.run_folder import checkpoints

def write_folder(target, write):
    def half(folder):
        write(folder)
        if target.name == "step-000004":
            print("half written", flush=True)
            time.sleep(3600)

    real(target, half)

checkpoints.write_folder = write_folder
main()
"""


@pytest.mark.slow
def test_killed_while_it_runs_and_started_again_it_ends_with_the_same_bits(run, tiny_xlmr, jsonl, tmp_path):
    """It stands still in its second checkpoint, so that the kill comes neither too early nor too late."""
    module, *words = command(tiny_xlmr, jsonl, tmp_path / "killed")
    code = [sys.executable, "-c", STANDING_STILL, *words]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        process.kill()
    assert (said, process.returncode) == ("half written\n", -signal.SIGKILL)
    left = {path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()}
    assert left == {"step-000002", ".step-000004.part"}
    again = [sys.executable, "-m", module, *words]
    assert subprocess.run(again, capture_output=True, timeout=600).returncode == 0
    whole, resumed = (
        load_file(folder / "last" / "model.safetensors") for folder in (run, tmp_path / "killed")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


LOSING = """
import os, signal
from uprank.train import loop
from uprank.train.__main__ import main

def train_step(*given, real=loop.train_step, taken=[], **more):
    taken.append(1)
    if len(taken) == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.{signal})
    return real(*given, **more)

loop.train_step = train_step
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_lost_process_ends_the_others_with_a_sentence(tiny_xlmr, jsonl, tmp_path, how):
    (tmp_path / "lose.py").write_text(LOSING.format(signal=how))
    _, *words = command(tiny_xlmr, jsonl, tmp_path / "run", "train.timeout=10")
    import os
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = []
    for rank in range(2):  # without a launcher, which would end the other one itself
        where = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": port}
        env = os.environ | where | {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
        start = [sys.executable, str(tmp_path / "lose.py"), *words]
        ranks.append(subprocess.Popen(start, env=env, stderr=subprocess.PIPE, text=True))
    try:
        said = ranks[0].communicate(timeout=120)[1]
    finally:
        ranks[1].kill()
        ranks[1].communicate()
    assert ranks[0].returncode == 1
    assert "Traceback" not in said
    what = "has ended" if how == "SIGKILL" else "does not answer"
    assert f"uprank train (process 0): another process of this run {what}" in said
    assert "the same command continues after the last checkpoint" in said
