"""A run that was killed or damaged resumes to the same bits, or is refused by name."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from uprank.configs.errors import UserError
from uprank.train.dev import Dev
from uprank.train.run import train
from uprank.train.run_folder.metrics import read_metrics


def test_a_run_cut_off_at_any_checkpoint_resumes_to_the_same_bits(settings, run, tiny_xlmr, jsonl, tmp_path):
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


@pytest.mark.parametrize(
    ("gone", "message"),
    [("best", "with the best model so far"), ("eval/step-000002", "with the scores of the best model")],
)
def test_what_the_end_of_a_run_needs_is_asked_for_at_its_start(
    settings, run, tiny_xlmr, jsonl, tmp_path, gone, message
):
    output = tmp_path / "cut"
    shutil.copytree(run, output)
    manifest = json.loads((output / "manifest.json").read_text())
    (output / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    progress = json.loads((output / "checkpoints" / "step-000006" / "progress.json").read_text())
    shutil.rmtree(output / gone.replace("step-000002", f"step-{progress['best_step']:06d}"))
    with pytest.raises(UserError, match=message):
        train(settings(tiny_xlmr, jsonl, output))


@pytest.mark.parametrize("spoiled", [False, True])
def test_a_best_model_newer_than_the_newest_sound_checkpoint_is_made_again(
    settings, tiny_xlmr, jsonl, tmp_path, monkeypatch, spoiled
):
    """Its checkpoint is damaged; the run goes on from the one before and comes to the same best step."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ranked = Dev.evaluate
    rising = {"base": 0.0, "step-000002": 0.2, "step-000004": 0.1, "step-000006": 0.3}

    def evaluate(self, reranker, share, name, **options):
        return dict.fromkeys(ranked(self, reranker, share, name, **options), rising[name])

    monkeypatch.setattr(Dev, "evaluate", evaluate)
    train(settings(tiny_xlmr, jsonl, whole))
    shutil.copytree(whole, cut)
    manifest = json.loads((cut / "manifest.json").read_text())
    (cut / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    shutil.rmtree(cut / "checkpoints" / "step-000006")
    if spoiled:  # the model of step 6 stays, and step 2 turns out to be the best
        rising["step-000006"] = 0.0
        with pytest.raises(UserError, match=r"best: is not as it was written for step 2\n.*cut/last"):
            train(settings(tiny_xlmr, jsonl, cut))
        return
    train(settings(tiny_xlmr, jsonl, cut))
    one, two = (load_file(folder / "best" / "model.safetensors") for folder in (whole, cut))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert json.loads((cut / "best.json").read_text())["step"] == 6


def test_a_damaged_manifest_is_named(settings, run, tiny_xlmr, jsonl, tmp_path):
    shutil.copytree(run, tmp_path / "cut")
    (tmp_path / "cut" / "manifest.json").write_text('{"finished": nu')
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        train(settings(tiny_xlmr, jsonl, tmp_path / "cut"))


def test_a_start_cut_off_before_its_manifest_starts_anew(settings, tiny_xlmr, jsonl, tmp_path):
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "config.yaml").write_text("half")
    train(settings(tiny_xlmr, jsonl, tmp_path / "cut", train__max_steps=1))
    assert json.loads((tmp_path / "cut" / "manifest.json").read_text())["finished"]
