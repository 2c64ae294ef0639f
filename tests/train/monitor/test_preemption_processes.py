"""Pre-emption of several processes: one signal stops all of them, after a checkpoint, with the right code."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from uprank.train.run_folder.checkpoints import damage

STEPS = 40


def words(model, jsonl, output, steps=STEPS):
    given = [f"model.path={model}", f"data.train={jsonl[0]}", f"data.dev={jsonl[1]}", f"output={output}"]
    amount = [f"train.max_steps={steps}", "train.eval_every=1000", "train.queries_per_step=8"]
    return [*given, *amount, "train.group_size=4", "model.query_tokens=20", "model.device=cpu", "threads=1"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def start(command, rank, port):
    """One of two processes, as torchrun starts it."""
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | group | own, **pipes)


def wait_for_step(output, process, at=3):
    """Until so many steps are in metrics.jsonl."""
    file = output / "metrics.jsonl"
    while not file.is_file() or file.read_text().count('"loss"') < at:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def checkpoint(output):
    """Step of the one checkpoint, which is whole."""
    (found,) = (output / "checkpoints").iterdir()
    assert damage(found) == ""
    progress = json.loads((found / "progress.json").read_text())
    assert progress["step"] == int(found.name.removeprefix("step-"))
    assert 3 <= progress["step"] < STEPS
    return progress["step"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "ranks"), [(signal.SIGTERM, [1]), (signal.SIGINT, [0, 1])])
def test_a_signal_to_some_stops_all_after_a_checkpoint(tiny_xlmr, jsonl, tmp_path, number, ranks):
    command = [sys.executable, "-m", "uprank.train", *words(tiny_xlmr, jsonl, tmp_path / "run")]
    workers = [start(command, rank, port) for port in [free_port()] for rank in (0, 1)]
    try:
        wait_for_step(tmp_path / "run", workers[0])
        for rank in ranks:
            workers[rank].send_signal(number)
        said = [worker.communicate(timeout=120)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    # Who did not get the signal cannot know which one it was.
    codes = [128 + (number if rank in ranks else signal.SIGTERM) for rank in (0, 1)]
    assert [worker.returncode for worker in workers] == codes, said
    assert "Traceback" not in "".join(said)
    step = checkpoint(tmp_path / "run")
    assert f"after step {step}; the same command continues it" in said[0]
    again = [line for line in said[0].splitlines() if "-m uprank.train" in line]
    assert [line.split(" -m ")[0].strip() for line in again] == ["torchrun --nproc-per-node 2"]


@pytest.mark.slow
def test_torchrun_that_is_stopped_stops_the_run_and_its_command_continues_it(tiny_xlmr, jsonl, tmp_path):
    output, scripts = tmp_path / "run", Path(sys.executable).parent
    launcher = [str(scripts / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m", "uprank.train"]
    with subprocess.Popen(
        [*launcher, *words(tiny_xlmr, jsonl, output)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for_step(output, process)
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=120)[1]
        finally:
            process.kill()
    assert process.returncode != 0
    step = checkpoint(output)
    assert f"stopped by SIGTERM after step {step}" in said
    (again,) = [line.strip() for line in said.splitlines() if line.strip().startswith("torchrun ")]
    path = {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", again], env=os.environ | path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"after step {step} of {STEPS}" in done.stderr
    assert json.loads((output / "manifest.json").read_text())["stopped_at"] == STEPS
