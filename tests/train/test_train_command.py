"""`uprank train` from settings to verdict on a tiny model, and what it leaves behind."""

import json
import re
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from uprank.eval.results import Report
from uprank.model.reranker import Reranker
from uprank.train.run import train
from uprank.train.run_folder.checkpoints import damage
from uprank.train.run_folder.metrics import read_metrics


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
    title = re.search("<h1>(.*)</h1>", (run / "report.html").read_text(encoding="utf-8")).group(1)
    assert re.fullmatch(rf"tiny-xlmr tuned in {run.name}, on the dev queries of .+", title)


def test_the_best_model_scores_as_the_report_says(run, jsonl):
    """The figures belong to the weights on disk, not to those in memory."""
    from uprank.data.read import read_judged
    from uprank.eval.evaluate import mean_values
    from uprank.eval.measures.measure import parse_measures
    from uprank.eval.retrieval.candidates import find_candidates
    from uprank.eval.scoring import score_candidates

    collection = read_judged(str(jsonl[1]), [], split="dev")
    candidates = find_candidates(collection)
    scored = score_candidates(Reranker.load(run / "best", query_tokens=20), collection, candidates)
    values = mean_values(collection, scored, parse_measures(["nDCG@10", "MRR@10"]))
    report = Report.load(run / "eval" / "final")
    for measure, value in values.items():
        assert report.system("tuned").results[measure].mean == pytest.approx(value)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(settings, run, tiny_xlmr, jsonl, tmp_path):
    train(settings(tiny_xlmr, jsonl, tmp_path / "again"))
    train(settings(tiny_xlmr, jsonl, tmp_path / "other", seed=1))
    first, again, other = (
        load_file(f / "last" / "model.safetensors") for f in (run, tmp_path / "again", tmp_path / "other")
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_token_budget_does_not_change_what_is_learned(
    settings, assert_same_learned, run, tiny_xlmr, jsonl, tmp_path
):
    train(settings(tiny_xlmr, jsonl, tmp_path / "small", train__tokens_per_batch=64))
    assert_same_learned(run, tmp_path / "small")


def test_patience_ends_a_run_that_no_longer_gains(settings, tiny_xlmr, jsonl, tmp_path):
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


def test_an_encoder_is_compared_with_the_first_stage(settings, tiny_encoder, beir, tmp_path, jsonl):
    train(settings(tiny_encoder, jsonl, tmp_path / "e", data__dev=str(beir), train__max_steps=2))
    report = Report.load(tmp_path / "e" / "eval" / "final")
    manifest = json.loads((tmp_path / "e" / "manifest.json").read_text())
    assert report.baseline == "bm25"
    assert manifest["base"]["new_head"]
    assert "head was random" in manifest["verdict"]


def test_the_budgets_go_along_with_the_model(run):
    assert Reranker.load(run / "best").budgets == (20, 128)


def test_a_start_that_fails_leaves_no_folder(jsonl, tiny_bert, tmp_path):
    from uprank.configs.errors import UserError
    from uprank.configs.schema_train import TrainCommand
    from uprank.train.run import train

    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    settings = TrainCommand(output=str(tmp_path / "runs" / "first"))
    settings.model.path = str(folder)
    settings.data.train, settings.data.dev = map(str, jsonl)
    with pytest.raises(UserError, match="cannot be loaded"):
        train(settings)
    assert not (tmp_path / "runs" / "first").exists()


def test_without_a_terminal_there_is_a_line_a_minute(jsonl, tiny_bert, tmp_path, monkeypatch):
    from uprank.configs.schema_train import TrainCommand
    from uprank.train import loop
    from uprank.train.run import train

    monkeypatch.setattr(loop, "SILENCE", 0)
    settings = TrainCommand(output=str(tmp_path / "run"), threads=1)
    settings.model.path, settings.model.query_tokens = str(tiny_bert), 20
    settings.data.train, settings.data.dev = map(str, jsonl)
    settings.train.max_steps, settings.train.queries_per_step = 2, 4
    train(settings)
    lines = (tmp_path / "run" / "train.log").read_text().splitlines()
    assert any("step 1 of 2: loss" in line and "minutes left" in line for line in lines)
