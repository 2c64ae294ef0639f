"""Training under FSDP: two processes over gloo learn what one learns, and either goes on from the other."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import uprank.configs
from safetensors.torch import load_file
from uprank.train.run import train
from uprank.train.run_folder.metrics import read_metrics

LAUNCH = Path(uprank.configs.__file__).parent / "accelerate" / "fsdp.yaml"
# Tokens a batch: with 60 of them every group is computed in parts and processes have different numbers of
# batches. eps: where a gradient is nothing but rounding, Adam would make a whole step of it.
SAME = {"train__tokens_per_batch": 60, "train__ema": 0.9, "optim__eps": 1e-3}


def under_fsdp(settings, *more, code=0):
    words = [
        f"model.path={settings.model.path}", "model.query_tokens=20", "model.device=cpu",
        f"data.train={settings.data.train}", f"data.dev={settings.data.dev}", "train.queries_per_step=8",
        "train.group_size=4", "train.eval_every=2", "optim.learning_rate=2e-3", "threads=1",
        "train.tokens_per_batch=60", "train.ema=0.9", "optim.eps=1e-3", f"output={settings.output}", *more,
    ]  # fmt: skip
    start = ["accelerate.commands.launch", "--config_file", str(LAUNCH), "--num_processes", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *start, "--main_process_port", "0", "-m", "uprank.train", *words],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert (done.returncode != 0) == code, done.stderr[-5000:]
    return done.stderr


def cut(run, output):
    """A copy of a finished run as it was after its fourth step."""
    shutil.copytree(run, output)
    shutil.rmtree(output / "last")
    for path in (*output.glob("checkpoints/step-000006"), *output.glob("eval/step-000006")):
        shutil.rmtree(path)
    manifest = json.loads((output / "manifest.json").read_text())
    (output / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))


def assert_same(one, two):
    for name in ("last", "best"):
        first, second = (load_file(folder / name / "model.safetensors") for folder in (one, two))
        assert first.keys() == second.keys()
        for key, value in first.items():
            torch.testing.assert_close(second[key], value, atol=1e-5, rtol=0, msg=f"{name} {key}")
    rows = [read_metrics(folder / "metrics.jsonl") for folder in (one, two)]
    for key in ("loss", "grad_norm"):
        values = [[row[key] for row in told if key in row] for told in rows]
        assert values[1] == pytest.approx(values[0], rel=1e-4)
        assert len(values[0]) == 6


@pytest.fixture(scope="module")
def runs(settings, tiny_xlmr, jsonl, tmp_path_factory):
    """Folders of a run by one process and of the same by two under FSDP."""
    folder = tmp_path_factory.mktemp("fsdp")
    train(settings(tiny_xlmr, jsonl, folder / "one", **SAME))
    said = under_fsdp(settings(tiny_xlmr, jsonl, folder / "two", **SAME))
    assert "FSDP: each of 2 processes keeps its part of the weights" in said
    return folder / "one", folder / "two"


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(runs):
    assert_same(*runs)
    one, two = (
        load_file(folder / "checkpoints" / "step-000006" / "optimizer.safetensors") for folder in runs
    )
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-3, msg=key)


@pytest.mark.slow
def test_a_run_under_fsdp_goes_on_without_it_and_the_other_way_round(
    runs, settings, tiny_xlmr, jsonl, tmp_path
):
    for run, name in zip(runs, ("plain", "parts"), strict=True):
        cut(run, tmp_path / name)
    under_fsdp(settings(tiny_xlmr, jsonl, tmp_path / "plain"))
    train(settings(tiny_xlmr, jsonl, tmp_path / "parts", **SAME))
    assert_same(runs[0], tmp_path / "plain")
    assert_same(runs[0], tmp_path / "parts")
