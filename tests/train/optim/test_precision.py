"""Training in fp16: the scale of the loss, the steps that are skipped, and nothing else that changes."""

import json
import math
import random
import shutil
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from uprank.configs.errors import UserError
from uprank.configs.schema_train import OptimSettings, TrainCommand
from uprank.data.groups import Group
from uprank.data.sampling.draws import draw_step
from uprank.model.reranker import Reranker
from uprank.train.backward import make_replicas
from uprank.train.monitor.alarms import Health
from uprank.train.optim.loss_scale import GROWS_AFTER, MOST_SKIPPED, LossScale
from uprank.train.optim.optimizer import make_optimizer, optimizer_state, set_rate
from uprank.train.run import train
from uprank.train.run_folder.checkpoints import Progress
from uprank.train.run_folder.metrics import read_metrics
from uprank.train.state import Run
from uprank.train.step import Step, make_batches, train_step


@pytest.fixture(scope="module")
def groups():
    generator = random.Random(8)
    words = ["rank", "query", "passage", "river", "stone", "light", "heart", "blood", "drug"]

    def text(most):
        return " ".join(generator.choices(words, k=generator.randrange(1, most)))

    return [
        Group(text(6), (f"{text(20)} p",), tuple(f"{text(40)} {i}" for i in range(1 + k % 6)), f"row:{k}")
        for k in range(8)
    ]


FIRST = 19  # the scale begins at 2 to this: some steps overflow, and some do not


def make_run(folder, *, precision="fp16", factor=65_536.0, budget=None):
    settings = TrainCommand(optim=OptimSettings(learning_rate=2e-3))
    settings.train.tokens_per_batch = budget
    reranker = Reranker.load(folder, query_tokens=30, precision=precision)
    accelerator = SimpleNamespace(
        process_index=0, num_processes=1, device=torch.device("cpu"),
        no_sync=lambda _: nullcontext(), backward=lambda loss: loss.backward(),
    )  # fmt: skip
    run = Run(settings, None, accelerator, reranker, reranker.scorer,
              make_optimizer(reranker.model, settings.optim, new_head=False), None, None, 1)  # fmt: skip
    run.scale = LossScale(factor) if precision == "fp16" else None
    set_rate(run.optimizer, 1.0)
    return run


def make_step(run, groups):
    draws = draw_step(groups, start=0, count=8, group_size=4, positives=1, seed=0)
    return Step(draws, make_batches(run, draws))


def state(run):
    weights = {name: value.clone() for name, value in run.reranker.model.state_dict().items()}
    return weights | {k: v.clone() for k, v in optimizer_state(run.reranker.model, run.optimizer).items()}


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("way", ["packed", "streams", "parts", "checkpointing", "padded", "padded parts"])
def test_fp16_learns_nearly_what_fp32_learns(way, request, groups, monkeypatch):
    monkeypatch.setattr("uprank.train.backward.count_streams", lambda _: 3 if way == "streams" else 1)
    folder = request.getfixturevalue("tiny_electra" if "padded" in way else "tiny_xlmr")
    told = []
    for precision in ("fp32", "fp16"):
        run = make_run(folder, precision=precision, budget=100 if way in ("parts", "padded parts") else 300)
        if way == "checkpointing":
            run.scorer.checkpoint_layers()
        run.replicas = make_replicas(run.scorer, run.accelerator)
        step, losses = make_step(run, groups), []
        while len(losses) < 4:
            outcome = train_step(run, step)
            losses += [] if outcome.skipped else [outcome.loss]
            assert outcome.skipped or outcome.grad_norm < 1000  # the scale is off it again
        told.append(losses)
    assert told[1] == pytest.approx(told[0], abs=0.1)  # stale copies of the weights were 0.4 away
    assert told[1] != told[0]
    assert told[0][-1] < told[0][0] - 0.5


@pytest.mark.parametrize("family", ["tiny_xlmr", "tiny_electra"])
def test_fp16_scores_are_nearly_those_of_fp32(family, request, pairs):
    folder = request.getfixturevalue(family)
    load = partial(Reranker.load, folder, query_tokens=30)
    one, two = (load(precision=kind).score(pairs) for kind in ("fp32", "fp16"))
    np.testing.assert_allclose(two, one, atol=0.15)
    assert np.ptp(one) > 2
    assert (one != two).any()
    assert load(precision="fp16").scorer.prepare() is None  # products that not every processor has


def test_a_step_beyond_fp16_is_skipped_and_leaves_no_trace(tiny_xlmr, groups):
    run = make_run(tiny_xlmr, factor=65_536.0)
    step = make_step(run, groups)
    while train_step(run, step).skipped:
        pass
    good, before, counted = run.scale.factor, state(run), run.scale.skipped
    run.scale.factor = 2.0**28
    skipped = train_step(run, step)
    assert skipped.skipped
    assert math.isfinite(skipped.loss)
    assert not math.isfinite(skipped.grad_norm)
    assert_same_bits(state(run), before)
    assert run.scale == LossScale(2.0**27, 0, counted + 1, 1)
    while (outcome := train_step(run, step)).skipped:
        assert_same_bits(state(run), before)
    assert run.scale.factor >= good
    assert run.scale.in_a_row == 0
    assert run.scale.skipped > counted + 5
    found = state(run)
    again = make_run(tiny_xlmr, factor=run.scale.factor)  # a run that never overflowed
    same = make_step(again, groups)
    first = train_step(again, same)
    if not first.skipped:
        assert train_step(again, same).grad_norm == outcome.grad_norm
        assert_same_bits(found, state(again))


def test_overflow_at_every_scale_is_an_error_that_names_the_groups(tiny_xlmr, groups):
    run = make_run(tiny_xlmr, factor=4.0)
    step, before = make_step(run, groups), state(run)
    run.reranker.model.classifier.out_proj.weight.register_hook(lambda grad: grad * float("inf"))
    assert train_step(run, step).skipped  # at 4, and at 2
    assert train_step(run, step).skipped
    with pytest.raises(UserError, match=r"3 steps in a row skipped, loss scale now 0\.5") as caught:
        train_step(run, step)
    assert "row:3" in str(caught.value)
    assert_same_bits(state(run), before)
    run.scale = LossScale(2.0**60, in_a_row=MOST_SKIPPED - 2)
    assert train_step(run, step).skipped
    with pytest.raises(UserError, match=f"{MOST_SKIPPED} steps in a row"):
        train_step(run, step)


def test_a_loss_that_is_not_finite_is_refused_and_not_skipped(tiny_xlmr, groups):
    run = make_run(tiny_xlmr)
    with torch.no_grad():
        run.reranker.model.classifier.out_proj.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"loss nan.*Groups without a finite loss: row"):
        train_step(run, make_step(run, groups))
    assert run.scale == LossScale()


def test_the_scale_grows_after_so_many_good_steps_and_halves_at_a_bad_one():
    scale = LossScale(8.0)
    for _ in range(GROWS_AFTER - 1):
        scale.update(finite=True)
    assert scale.factor == 8.0
    scale.update(finite=True)
    assert scale == LossScale(16.0)
    scale.update(finite=True)
    scale.update(finite=False)
    assert scale == LossScale(8.0, good_steps=0, skipped=1, in_a_row=1)
    scale.update(finite=True)
    assert scale == LossScale(8.0, good_steps=1, skipped=1, in_a_row=0)
    assert not LossScale(1.0, in_a_row=MOST_SKIPPED - 1).hopeless
    assert LossScale(0.5).hopeless
    assert LossScale(1.0, in_a_row=MOST_SKIPPED).hopeless


def test_a_skipped_row_raises_no_alarm():
    health = Health()
    without = dict.fromkeys(("loss", "loss_of_equal_scores", "score_spread", "learning_rate"), 1.0)
    row = {**without, "grad_norm": 1.0}
    for number in range(60):
        assert health.update({"step": number, **(without if number % 2 else row)}) == []


def test_a_run_in_fp16_counts_what_it_skips_and_goes_on_with_its_scale(
    settings, tiny_xlmr, jsonl, tmp_path, monkeypatch
):
    """Cut off after step 4, as a kill leaves it, and continued: the same bits, the same scale."""
    monkeypatch.setattr("uprank.train.start.setup.LossScale", lambda: LossScale(2.0**FIRST))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    chosen = settings(tiny_xlmr, jsonl, whole, model__precision="fp16")
    train(chosen)
    rows = [row for row in read_metrics(whole / "metrics.jsonl") if "loss" in row]
    skipped = [row["step"] for row in rows if "grad_norm" not in row]
    assert 0 < len(skipped) < len(rows)
    assert [row["skipped_steps"] for row in rows] == [sum(s <= row["step"] for s in skipped) for row in rows]
    assert rows[-1]["loss_scale"] == 2.0 ** (FIRST - len(skipped))
    assert json.loads((whole / "manifest.json").read_text())["skipped_steps"] == len(skipped)
    log = (whole / "train.log").read_text()
    assert f"step {skipped[0]}: skipped, its gradients were beyond fp16; loss scale now" in log
    assert f"overflowed fp16: {len(skipped)}" in log
    shutil.copytree(whole, cut)
    manifest = json.loads((cut / "manifest.json").read_text())
    (cut / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    shutil.rmtree(cut / "checkpoints" / "step-000006")
    kept = json.loads((cut / "checkpoints" / "step-000004" / "progress.json").read_text())
    assert kept["scale"]["factor"] == rows[3]["loss_scale"]
    chosen.output = str(cut)
    train(chosen)
    one, two = (load_file(folder / "last" / "model.safetensors") for folder in (whole, cut))
    assert_same_bits(one, two)
    assert read_scale(cut) == read_scale(whole) == rows[-1]["loss_scale"]


def read_scale(folder):
    progress = json.loads((folder / "checkpoints" / "step-000006" / "progress.json").read_text())
    return progress["scale"]["factor"]


def test_checkpoints_of_before_have_no_scale():
    assert Progress(step=3, seconds=1.0).scale is None
    assert Progress(scale={"factor": 8.0, "skipped": 2}).scale == LossScale(8.0, skipped=2)
