"""`uprank train` from settings to verdict on a tiny model, and what it leaves behind."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import uprank.configs
from omegaconf import OmegaConf
from safetensors.torch import load_file
from uprank.configs.errors import UserError
from uprank.configs.schema import TrainCommand
from uprank.eval.report import Report
from uprank.model.reranker import Reranker
from uprank.train.checkpoint import damage
from uprank.train.run import train
from uprank.train.run_folder import lock
from uprank.train.track import read_metrics

CONFIGS = Path(uprank.configs.__file__).parent


def settings(model, jsonl, output, **changes) -> TrainCommand:
    """Settings of a run of 6 steps on 24 groups; `train__epochs=1` changes a part of a part."""
    values = {
        "model__path": str(model),
        "model__query_tokens": 20,
        "data__train": str(jsonl[0]),
        "data__dev": str(jsonl[1]),
        "train__queries_per_step": 8,
        "train__group_size": 4,
        "train__eval_every": 2,
        "train__epochs": 2.0,
        "optim__learning_rate": 2e-3,
        "model__device": "cpu",
        "threads": 1,
        "output": str(output),
        **changes,
    }
    made = OmegaConf.structured(TrainCommand)
    for key, value in values.items():
        OmegaConf.update(made, key.replace("__", "."), value)
    made.loss.name = "listwise"
    return OmegaConf.to_object(made)


@pytest.fixture(scope="module")
def run(tiny_xlmr, jsonl, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "first"
    train(settings(tiny_xlmr, jsonl, output))
    return output


def test_the_run_folder_holds_what_it_should(run, tiny_xlmr):
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["steps"] == manifest["stopped_at"] == 6
    assert manifest["base"]["weights"] == Reranker.load(tiny_xlmr).weights_hash()
    best = Reranker.load(run / "best")
    assert manifest["best_weights"] == best.weights_hash() != manifest["base"]["weights"]
    assert OmegaConf.load(run / "config.yaml").train.queries_per_step == 8
    assert "verdict" in (run / "train.log").read_text()
    assert "<html" in (run / "report.html").read_text()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000004", "step-000006"]
    assert not any(damage(path) for path in (run / "checkpoints").iterdir())


def test_metrics_tell_every_step_and_every_evaluation(run):
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 7))
    assert [row["step"] for row in rows if "dev" in row] == [0, 2, 4, 6]
    assert all(row["tokens_per_second"] > 0 and row["grad_norm"] > 0 for row in rows if "loss" in row)


def test_the_best_step_by_the_dev_measure_is_kept(run):
    rows = [row for row in read_metrics(run / "metrics.jsonl") if "dev" in row]
    manifest = json.loads((run / "manifest.json").read_text())
    trained = {row["step"]: row["dev"]["nDCG@10"] for row in rows[1:]}
    assert trained[manifest["best_step"]] == max(trained.values())
    report = Report.load(run / "eval" / "final")
    assert report.system("tuned").results["nDCG@10"].mean == pytest.approx(max(trained.values()))
    assert report.system("base").results["nDCG@10"].mean == pytest.approx(rows[0]["dev"]["nDCG@10"])
    assert report.system("tuned").weights == manifest["best_weights"]


def test_the_best_model_scores_as_the_report_says(run, jsonl):
    """The figures belong to the weights on disk, not to those in memory."""
    from uprank.data.read import read_judged
    from uprank.eval.candidates import find_candidates
    from uprank.eval.evaluate import mean_values
    from uprank.eval.measure import parse_measures
    from uprank.eval.scoring import score_candidates

    collection = read_judged(str(jsonl[1]), [], split="dev")
    candidates = find_candidates(collection)
    scored = score_candidates(Reranker.load(run / "best", query_tokens=20), collection, candidates)
    values = mean_values(collection, scored, parse_measures(["nDCG@10", "MRR@10"]))
    report = Report.load(run / "eval" / "final")
    for measure, value in values.items():
        assert report.system("tuned").results[measure].mean == pytest.approx(value)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(run, tiny_xlmr, jsonl, tmp_path):
    train(settings(tiny_xlmr, jsonl, tmp_path / "again"))
    train(settings(tiny_xlmr, jsonl, tmp_path / "other", seed=1))
    first, again, other = (
        load_file(f / "last" / "model.safetensors") for f in (run, tmp_path / "again", tmp_path / "other")
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def assert_same_learned(first, second):
    """Equal loss curves, and equal scores up to a shift: a shift has no gradient, so Adam lets it drift."""
    losses = [[r["loss"] for r in read_metrics(f / "metrics.jsonl") if "loss" in r] for f in (first, second)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    passages = ("heart blood", "stone", "risk of rank")
    pairs = [(query, passage) for query in ("heart 1", "river") for passage in passages]
    one, two = (Reranker.load(folder / "last").score(pairs) for folder in (first, second))
    assert np.ptp(one) > 0.1
    np.testing.assert_allclose(two - two.mean(), one - one.mean(), atol=5e-3)


def test_the_token_budget_does_not_change_what_is_learned(run, tiny_xlmr, jsonl, tmp_path):
    train(settings(tiny_xlmr, jsonl, tmp_path / "small", train__tokens_per_batch=64))
    assert_same_learned(run, tmp_path / "small")


def test_patience_ends_a_run_that_no_longer_gains(tiny_xlmr, jsonl, tmp_path):
    train(
        settings(
            tiny_xlmr,
            jsonl,
            tmp_path / "p",
            train__patience=1,
            train__eval_every=1,
            optim__learning_rate=1e-12,
        )
    )
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert manifest["stopped_at"] == 2
    assert manifest["best_step"] == 1
    assert "not distinguishable from" in manifest["verdict"]


def test_a_run_cut_off_at_any_checkpoint_resumes_to_the_same_bits(run, tiny_xlmr, jsonl, tmp_path):
    """The run folder as it was after a checkpoint, plus what a kill leaves half done."""
    for keep, spoil in (("step-000004", ""), ("step-000004", "step-000006"), ("", "")):
        output = tmp_path / f"cut-{keep}-{spoil}"
        shutil.copytree(run, output)
        manifest = json.loads((output / "manifest.json").read_text())
        for key in ("stopped_at", "best_step", "best_weights", "verdict", "seconds"):
            manifest.pop(key)
        (output / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
        for folder in (output / "checkpoints").iterdir():
            if folder.name == spoil:  # damaged in the middle
                data = bytearray((folder / "model.safetensors").read_bytes())
                data[len(data) // 2] ^= 1
                (folder / "model.safetensors").write_bytes(data)
            elif folder.name != keep:
                shutil.rmtree(folder)
        (output / "checkpoints" / ".step-000005.part").mkdir()
        with (output / "metrics.jsonl").open("a") as stream:
            stream.write('{"step": 5, "lo')
        train(settings(tiny_xlmr, jsonl, output))
        for part in ("last", "best"):
            whole = load_file(run / part / "model.safetensors")
            resumed = load_file(output / part / "model.safetensors")
            assert all(torch.equal(whole[name], resumed[name]) for name in whole), (keep, spoil, part)
        steps = [row["step"] for row in read_metrics(output / "metrics.jsonl") if "loss" in row]
        assert steps == list(range(1, 7))


def test_wandb_offline_works_without_an_account(tiny_xlmr, jsonl, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(settings(tiny_xlmr, jsonl, tmp_path / "w", tracker__name="wandb", train__max_steps=2))
    assert list((tmp_path / "w" / "wandb").glob("offline-run-*"))


def test_an_encoder_is_compared_with_the_first_stage(tiny_encoder, beir, tmp_path, jsonl):
    train(settings(tiny_encoder, jsonl, tmp_path / "e", data__dev=str(beir), train__max_steps=2))
    report = Report.load(tmp_path / "e" / "eval" / "final")
    manifest = json.loads((tmp_path / "e" / "manifest.json").read_text())
    assert report.baseline == "bm25"
    assert manifest["base"]["new_head"]
    assert "head was random" in manifest["verdict"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__group_size": 1}, "no place is left for a negative"),
        ({"optim__learning_rate": 0.0, "train__eval_every": 0}, "2"),
        ({"data__train": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ({"model__path": "no/such/model/here"}, "no such folder"),
        ({"dev__measures": ["nDGC@10"]}, "did you mean 'nDCG'"),
        ({"dev__candidates": "bm25"}, "no corpus to search"),
        ({"model__precision": "fp8"}, "allowed are fp32, bf16"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(tiny_xlmr, jsonl, tmp_path, changes, message):
    with pytest.raises(UserError) as caught:
        train(settings(tiny_xlmr, jsonl, tmp_path / "bad", **changes))
    assert message in (str(len(caught.value.problems)) if message == "2" else str(caught.value))
    assert not (tmp_path / "bad").exists()


def test_a_dev_query_that_is_trained_on_is_refused(tiny_xlmr, jsonl, tmp_path):
    with pytest.raises(UserError, match="query is also in"):
        train(settings(tiny_xlmr, jsonl, tmp_path / "bad", data__dev=str(jsonl[0])))


def test_dev_rows_without_negatives_choose_nothing_and_are_refused(tiny_xlmr, jsonl, tmp_path):
    (tmp_path / "dev.jsonl").write_text('{"query": "q", "pos": ["p"]}\n')
    with pytest.raises(UserError, match="every dev candidate is relevant"):
        train(settings(tiny_xlmr, jsonl, tmp_path / "bad", data__dev=str(tmp_path / "dev.jsonl")))


def test_two_starts_at_once_do_not_share_a_folder(run, tiny_xlmr, jsonl, tmp_path):
    held = lock(tmp_path / "one")
    with pytest.raises(UserError, match="another process is training"):
        train(settings(tiny_xlmr, jsonl, tmp_path / "one"))
    held.release()
    train(settings(tiny_xlmr, jsonl, tmp_path / "one", train__max_steps=1))


@pytest.mark.parametrize(
    ("gone", "message"),
    [("best", "with the best model so far"), ("eval/step-000002", "with the scores of the best model")],
)
def test_what_the_end_of_a_run_needs_is_asked_for_at_its_start(
    run, tiny_xlmr, jsonl, tmp_path, gone, message
):
    output = tmp_path / "cut"
    shutil.copytree(run, output)
    manifest = json.loads((output / "manifest.json").read_text())
    (output / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    progress = json.loads((output / "checkpoints" / "step-000006" / "progress.json").read_text())
    shutil.rmtree(output / gone.replace("step-000002", f"step-{progress['best_step']:06d}"))
    with pytest.raises(UserError, match=message):
        train(settings(tiny_xlmr, jsonl, output))


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_checkpoint_with_broken_hashes_is_damaged(run, tmp_path, text):
    shutil.copytree(run / "checkpoints" / "step-000006", tmp_path / "step")
    (tmp_path / "step" / "hashes.json").write_text(text)
    assert damage(tmp_path / "step")


def test_a_damaged_manifest_is_named(run, tiny_xlmr, jsonl, tmp_path):
    shutil.copytree(run, tmp_path / "cut")
    (tmp_path / "cut" / "manifest.json").write_text('{"finished": nu')
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        train(settings(tiny_xlmr, jsonl, tmp_path / "cut"))


def test_a_start_cut_off_before_its_manifest_starts_anew(tiny_xlmr, jsonl, tmp_path):
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "config.yaml").write_text("half")
    train(settings(tiny_xlmr, jsonl, tmp_path / "cut", train__max_steps=1))
    assert json.loads((tmp_path / "cut" / "manifest.json").read_text())["finished"]


def test_the_budgets_go_along_with_the_model(run):
    assert Reranker.load(run / "best").budgets == (20, 128)


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(tiny_xlmr, jsonl, tmp_path, rate):
    with pytest.raises(UserError) as caught:
        train(
            settings(
                tiny_xlmr,
                jsonl,
                tmp_path / "n",
                optim__learning_rate=rate,
                train__epochs=rate,
                loss__temperature=rate,
            )
        )
    assert len(caught.value.problems) == 3


def test_what_is_in_the_output_folder_is_never_overwritten(run, tiny_xlmr, jsonl, tmp_path):
    with pytest.raises(UserError, match="holds a finished run"):
        train(settings(tiny_xlmr, jsonl, run))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not an Uprank run"):
        train(settings(tiny_xlmr, jsonl, tmp_path))
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    manifest = json.loads((run / "manifest.json").read_text())
    (unfinished / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    with pytest.raises(UserError, match=r"optim\.learning_rate=0\.1 differs"):
        train(settings(tiny_xlmr, jsonl, unfinished, optim__learning_rate=0.1))
    changed = tmp_path / "train.jsonl"
    changed.write_text("".join(jsonl[0].read_text().splitlines(keepends=True)[:-1]))
    config = (unfinished / "config.yaml").read_text().replace(str(jsonl[0]), str(changed))
    (unfinished / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=r"data\.train has changed"):
        train(settings(tiny_xlmr, (changed, jsonl[1]), unfinished))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


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
def test_two_processes_learn_what_one_learns(run, tiny_xlmr, jsonl, tmp_path, launcher):
    start = {
        "accelerate": [
            "accelerate.commands.launch",
            "--config_file",
            str(CONFIGS / "accelerate" / "cpu.yaml"),
        ],
        "torchrun": ["torch.distributed.run", "--nproc_per_node", "2"],
    }[launcher]
    start += ["--main_process_port" if launcher == "accelerate" else "--master_port", free_port()]
    # A small budget makes the processes go through different numbers of batches in a step.
    budget = f"train.tokens_per_batch={60 if launcher == 'torchrun' else 4096}"
    done = subprocess.run(
        [sys.executable, "-m", *start, "-m", *command(tiny_xlmr, jsonl, tmp_path / "two", budget)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_learned(run, tmp_path / "two")
    assert "2 process(es)" in (tmp_path / "two" / "manifest.json").read_text()


@pytest.mark.slow
def test_killed_while_it_runs_and_started_again_it_ends_with_the_same_bits(run, tiny_xlmr, jsonl, tmp_path):
    output = tmp_path / "killed"
    start = [sys.executable, "-m", *command(tiny_xlmr, jsonl, output)]
    process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((output / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(start, capture_output=True, timeout=200).returncode == 0
    whole, resumed = (load_file(folder / "last" / "model.safetensors") for folder in (run, output))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
