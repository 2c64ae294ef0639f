"""SIGTERM and SIGINT: the step is finished and saved, and the run that goes on ends with the same bits."""

import json
import os
import signal
import subprocess
import sys

import pytest
from uprank.eval.scoring import Watch, score_candidates
from uprank.train import loop
from uprank.train.monitor.preemption import Stopped, again
from uprank.train.run import train
from uprank.train.run_folder.metrics import read_metrics


def signalled(monkeypatch, number, at):
    """Let this process get a signal while it takes a step."""
    real, taken = loop.train_step, []

    def step(*args, **given):
        taken.append(1)
        if len(taken) == at:
            os.kill(os.getpid(), number)
        return real(*args, **given)

    monkeypatch.setattr(loop, "train_step", step)


def signalled_while_scoring(monkeypatch, number, evaluation):
    """Let this process get a signal in the middle of an evaluation; the first one is that of the base."""
    seen = []

    def scoring(reranker, *args, watch, **given):
        seen.append(1)
        blocks = []

        def asked():
            blocks.append(1)
            if len(seen) == evaluation and len(blocks) == 2:
                os.kill(os.getpid(), number)
            return watch.stop()

        return score_candidates(reranker, *args, **given, watch=Watch(stop=asked, block_tokens=200))

    monkeypatch.setattr("uprank.train.dev.score_candidates", scoring)


def bits(folder):
    return (folder / "model.safetensors").read_bytes()


def rows(output):
    """metrics.jsonl without what clocks say."""
    return [
        {key: value for key, value in row.items() if "second" not in key and key != "data_share"}
        for row in read_metrics(output / "metrics.jsonl")
    ]


# Evaluations are after steps 2, 4 and 6; the last one is left to the run that goes on.
@pytest.mark.parametrize(("number", "at"), [(signal.SIGTERM, 1), (signal.SIGINT, 4), (signal.SIGTERM, 6)])
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
    assert not (output / "eval" / f"step-{at:06d}").exists()
    train(settings(tiny_xlmr, jsonl, output))
    assert bits(output / "last") == bits(run / "last")
    assert bits(output / "best") == bits(run / "best")
    assert rows(output) == rows(run)


@pytest.mark.parametrize(("evaluation", "step"), [(1, 0), (3, 4)])
def test_an_evaluation_is_left_and_done_when_the_run_goes_on(
    settings, run, tiny_xlmr, jsonl, tmp_path, monkeypatch, evaluation, step
):
    output = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        signalled_while_scoring(patch, signal.SIGTERM, evaluation)
        with pytest.raises(Stopped) as stopped:
            train(settings(tiny_xlmr, jsonl, output))
    assert (stopped.value.step, stopped.value.signal) == (step, signal.SIGTERM)
    assert not (output / "eval" / ("base" if step == 0 else f"step-{step:06d}")).exists()
    if step:
        saved = json.loads((output / "checkpoints" / f"step-{step:06d}" / "progress.json").read_text())
        assert saved["evaluated"] == step - 2
    train(settings(tiny_xlmr, jsonl, output))
    assert bits(output / "last") == bits(run / "last")
    assert bits(output / "best") == bits(run / "best")
    assert rows(output) == rows(run)


def test_killed_in_an_evaluation_that_is_made_up_for_it_is_told_once(
    settings, run, tiny_xlmr, jsonl, tmp_path, monkeypatch
):
    """Stopped before an evaluation, and the run that goes on is killed between it and its checkpoint."""
    output = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        signalled(patch, signal.SIGTERM, 4)
        with pytest.raises(Stopped):
            train(settings(tiny_xlmr, jsonl, output))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", lambda *args, **given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(settings(tiny_xlmr, jsonl, output))
    assert rows(output)[-1]["step"] == 4
    assert "dev" in rows(output)[-1]
    train(settings(tiny_xlmr, jsonl, output))
    assert rows(output) == rows(run)


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({}, "uprank train"),
        ({"WORLD_SIZE": "1", "RANK": "0"}, "uprank train"),  # as a batch system leaves it
        ({"WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "x"}, "torchrun --nproc-per-node 1 -m uprank.train"),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, "torchrun --nproc-per-node 2 -m uprank.train"),
        (
            {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "n1"},
            "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint n1:29500 "
            "-m uprank.train",
        ),
    ],
)
def test_what_continues_a_run_starts_with_what_started_it(environment, launcher):
    assert again(["output=a b"], environment).startswith(f"{launcher} 'output=a b'")


def test_a_second_signal_ends_the_process_unless_it_is_a_copy():
    script = (
        "import os, signal, time\n"
        "from uprank.train.monitor.preemption import StopRequest\n"
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
