"""Every committed experiment composes, passes validation and starts."""

import json
import sys
from pathlib import Path

import pytest
import uprank.configs
from hydra.core.global_hydra import GlobalHydra
from uprank.configs.validate_train import check_train
from uprank.train.__main__ import main

FOLDER = Path(uprank.configs.__file__).parent / "experiment"
EXPERIMENTS = sorted(file.stem for file in FOLDER.glob("*.yaml"))
OWN = {"data.train=t", "data.dev=d", "output=o"}


def test_there_are_experiments():
    assert {"bge-reranker-base", "quickstart", "scifact-minilm"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_to_settings_that_a_run_can_mean(compose, name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    path = ["model.path=m"] if "override /model" not in text else []
    code, jobs, _, err = compose("train", f"experiment={name}", *path, *OWN)
    assert (code, err) == (0, "")
    check_train(jobs[0])
    assert f"experiment={name}" in text  # its header shows its command
    # It changes the defaults.
    _, plain, _, _ = compose("train", "model.path=m", *OWN)
    assert (jobs[0].train, jobs[0].optim) != (plain[0].train, plain[0].optim)


def test_the_authors_own_settings(compose):
    """Compare with FlagEmbedding, examples/finetune/reranker/README.md, standard model."""
    _, jobs, _, _ = compose("train", "experiment=bge-reranker-base", *OWN)
    settings = jobs[0]
    assert (settings.model.path, settings.model.max_tokens) == ("BAAI/bge-reranker-base", 512)
    assert (settings.train.epochs, settings.train.group_size, settings.train.max_steps) == (2, 8, None)
    optim = settings.optim
    assert (optim.learning_rate, optim.warmup_ratio, optim.weight_decay) == (6e-5, 0.1, 0.01)
    assert (optim.max_grad_norm, optim.betas, optim.eps) == (1.0, [0.9, 0.999], 1e-8)
    assert settings.loss.name == "listwise"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_starts(monkeypatch, tmp_path, tiny_encoder, jsonl, name):
    """Run one step of the real command on a tiny model, 24 groups and 12 dev queries."""
    GlobalHydra.instance().clear()
    monkeypatch.chdir(tmp_path)
    words = [f"experiment={name}", f"model.path={tiny_encoder}", f"data.train={jsonl[0]}"]
    words += [f"data.dev={jsonl[1]}", "train.max_steps=1", "output=run", "model.device=cpu", "threads=1"]
    monkeypatch.setattr(sys, "argv", ["uprank train", *words])
    main()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["finished"]
    assert (manifest["best_step"], manifest["stopped_at"]) == (1, 1)
