"""SIGTERM and SIGINT: the step is finished and saved, and the run that goes on ends with the same bits."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from uprank.train import loop
from uprank.train.run import train
from uprank.train.stop import Stopped
from uprank.train.track import read_metrics


def signalled(monkeypatch, number, at):
    """Let this process get a signal while it takes a step."""
    real, taken = loop.train_step, []

    def step(*args, **given):
        taken.append(1)
        if len(taken) == at:
            os.kill(os.getpid(), number)
        return real(*args, **given)

    monkeypatch.setattr(loop, "train_step", step)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [1, 3, 4])  # evaluations are after steps 2, 4 and 6
def test_a_stopped_run_that_goes_on_is_one_that_never_stopped(
    settings, run, tiny_xlmr, jsonl, tmp_path, monkeypatch, number, at
):
    output = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        signalled(patch, number, at)
        with pytest.raises(Stopped) as stopped:
            train(settings(tiny_xlmr, jsonl, output))
    steps = [row["step"] for row in read_metrics(output / "metrics.jsonl") if "loss" in row]
    assert stopped.value.step == max(steps)
    assert stopped.value.step == at
    assert stopped.value.signal == number
    assert stopped.value.command == json.loads((output / "manifest.json").read_text())["command"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # as it was
    train(settings(tiny_xlmr, jsonl, output))
    for part in ("last", "best"):
        whole, found = (load_file(folder / part / "model.safetensors") for folder in (run, output))
        assert all(torch.equal(whole[name], found[name]) for name in whole), part
    told = [
        [
            {key: value for key, value in row.items() if "second" not in key and key != "data_share"}
            for row in read_metrics(folder / "metrics.jsonl")
        ]
        for folder in (run, output)
    ]
    assert told[0] == told[1]


def test_the_last_step_is_no_reason_to_stop(settings, run, tiny_xlmr, jsonl, tmp_path, monkeypatch):
    signalled(monkeypatch, signal.SIGTERM, 6)
    train(settings(tiny_xlmr, jsonl, tmp_path / "last"))
    assert json.loads((tmp_path / "last" / "manifest.json").read_text())["finished"]


def test_a_second_signal_ends_the_process_unless_it_is_a_copy():
    script = (
        "import os, signal, time\n"
        "from uprank.train.stop import StopRequest\n"
        "with StopRequest() as request:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print(request.signal, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"  # a launcher's copy
        "    print('here', flush=True)\n"
        "    time.sleep(2.5)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, f"{signal.SIGINT:d}\nhere\n")
    assert "SIGINT: the run stops after this step" in ended.stderr


def test_the_command_exits_with_the_code_of_the_signal_and_says_how_to_go_on(monkeypatch, capsys):
    from uprank.train import __main__ as command

    def stopped(_):
        error = Stopped(signal.SIGTERM, 12)
        error.command = "uprank train output=there"
        raise error

    monkeypatch.setattr("uprank.train.run.train", stopped)
    with pytest.raises(SystemExit) as left:
        command._train(None)
    assert left.value.code == 143
    assert "stopped by SIGTERM after step 12" in (told := capsys.readouterr().err)
    assert "uprank train output=there" in told
