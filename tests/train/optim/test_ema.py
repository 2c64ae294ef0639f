"""The average of the weights: its value, who sees it, and that a resumed run has it to the bit."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from uprank.configs.schema_train import TrainCommand, TrainSettings
from uprank.model.reranker import Reranker
from uprank.train.optim.ema import KEY, decay_at, update_average
from uprank.train.run import train
from uprank.train.state import Run


def test_the_average_is_the_weighted_sum_of_all_steps():
    """Float64, written as a sum: step i has 1 - d_i, times the d of every step after it."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    seen = []
    for step in range(1, 41):
        weight.grad = torch.randn(5, 3)
        optimizer.step()
        update_average(optimizer, 0.7, step)
        seen.append(weight.detach().double().numpy().copy())
    decays = [min(0.7, (1 + t) / (10 + t)) if t else 0.0 for t in range(40)]
    shares = [(1 - decays[i]) * np.prod(decays[i + 1 :]) for i in range(40)]
    assert sum(shares) == pytest.approx(1.0)
    expected = sum(share * values for share, values in zip(shares, seen, strict=True))
    np.testing.assert_allclose(optimizer.state[weight][KEY].numpy(), expected, atol=1e-6)
    assert not np.allclose(seen[-1], expected, atol=1e-2)


def test_without_the_setting_nothing_is_kept():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.grad = torch.ones(2)
    optimizer.step()
    update_average(optimizer, None, 1)
    assert KEY not in optimizer.state[weight]
    assert decay_at(10**6, 0.999) == 0.999


def test_weights_and_average_change_places_and_back_to_the_bit(monkeypatch):
    monkeypatch.setattr("uprank.train.optim.ema.PIECE", 4)
    weight, frozen = (
        torch.nn.Parameter(torch.tensor([[0.1, -0.0, 3e-39]] * 5)),
        torch.nn.Parameter(torch.ones(2)),
    )
    optimizer = torch.optim.SGD([weight, frozen], lr=0.0, momentum=0.9)
    average = torch.arange(15.0).view(5, 3)
    optimizer.state[weight][KEY] = average.clone()
    before, told = weight.detach().clone(), []
    run = Run(
        TrainCommand(train=TrainSettings(ema=0.9)),
        output=None,
        accelerator=None,
        reranker=SimpleNamespace(scorer=SimpleNamespace(weights_changed=lambda: told.append(1))),
        scorer=None,
        optimizer=optimizer,
        mix=None,
        dev=None,
        steps=1,
    )
    with run.averaged():
        assert torch.equal(weight, average)
        assert len(told) == 1
    assert len(told) == 2
    with pytest.raises(KeyboardInterrupt), run.averaged():
        raise KeyboardInterrupt
    assert torch.equal(weight.view(torch.int32), before.view(torch.int32))
    assert torch.equal(optimizer.state[weight][KEY], average)
    assert torch.equal(frozen, torch.ones(2))
    run.settings.train.ema = None
    with run.averaged():
        assert torch.equal(weight, before)


@pytest.fixture(scope="module")
def with_average(settings, tiny_xlmr, jsonl, tmp_path_factory):
    output = tmp_path_factory.mktemp("ema") / "run"
    train(settings(tiny_xlmr, jsonl, output, train__ema=0.8, train__keep_checkpoints=3))
    return output


def of(checkpoint, *, average):
    """The weights of a checkpoint, or their averages."""
    if not average:
        return load_file(checkpoint / "model.safetensors")
    states = load_file(checkpoint / "optimizer.safetensors")
    return {
        name.removesuffix("/average"): value for name, value in states.items() if name.endswith("/average")
    }


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_saved_and_evaluated_is_the_average_and_training_does_not_notice(run, with_average, jsonl):
    newest = with_average / "checkpoints" / "step-000006"
    assert same(of(run / "checkpoints" / "step-000006", average=False), of(newest, average=False))
    assert not same(of(newest, average=False), of(newest, average=True))
    assert same(of(newest, average=True), load_file(with_average / "last" / "model.safetensors"))
    best = json.loads((with_average / "manifest.json").read_text())["best_step"]
    chosen = with_average / "checkpoints" / f"step-{best:06d}"
    assert same(of(chosen, average=True), load_file(with_average / "best" / "model.safetensors"))
    assert not same(of(chosen, average=False), load_file(with_average / "best" / "model.safetensors"))
    # The scores that the evaluation kept are those of the folder, so no copy of the raw weights was used.
    rows = [json.loads(line) for line in jsonl[1].read_text().splitlines()]
    pairs = [(row["query"], text) for row in rows for text in (*row["pos"], *row["neg"])]
    scores = Reranker.load(with_average / "last", query_tokens=20).score(pairs)
    kept = np.load(with_average / "eval" / "step-000006" / "scores.npy")
    np.testing.assert_allclose(np.sort(kept), np.sort(scores), atol=1e-5)
    raw = np.load(run / "eval" / "step-000006" / "scores.npy")
    assert np.abs(raw - kept).max() > 1e-3


def test_a_resumed_run_has_the_same_average_to_the_bit(settings, with_average, tiny_xlmr, jsonl, tmp_path):
    output = tmp_path / "cut"
    shutil.copytree(with_average, output)
    manifest = json.loads((output / "manifest.json").read_text())
    (output / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    shutil.rmtree(output / "checkpoints" / "step-000006")
    shutil.rmtree(output / "last")
    train(settings(tiny_xlmr, jsonl, output, train__ema=0.8))
    newest = "checkpoints/step-000006"
    assert same(of(with_average / newest, average=True), of(output / newest, average=True))
    for part in ("last", "best"):
        one, two = (load_file(folder / part / "model.safetensors") for folder in (with_average, output))
        assert same(one, two)
