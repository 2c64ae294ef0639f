"""Mixtures of weights against their formula, and the choice among them."""

import hashlib
import json
import shutil
import xml.etree.ElementTree as tree
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import MergeSettings
from uprank.eval.results import Estimate, Report
from uprank.model.reranker import Reranker
from uprank.publish.card.text import mixture_rows
from uprank.publish.command import publish, publish_summary
from uprank.publish.evidence.licence import Base
from uprank.publish.merging.interpolate import BaseWeights, last_checkpoints, mix_weights, read_base
from uprank.publish.merging.merge import as_measured, read_guards
from uprank.publish.merging.mixtures import Merged, Point, Tried, choose_mixture

pytestmark = pytest.mark.usefixtures("only_transformers")


def load(folder) -> Reranker:
    return Reranker.load(folder, device="cpu", query_tokens=24, max_tokens=96)


def add_checkpoint(run, step, state):
    folder = run / "checkpoints" / f"step-{step:06d}"
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors")
    save_file({"x": torch.zeros(1)}, folder / "optimizer.safetensors")
    (folder / "progress.json").write_text("{}")
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / "hashes.json").write_text(json.dumps(hashes))
    return folder


@pytest.mark.parametrize("block", [7, 2**22])
def test_a_mixture_is_its_formula(measured, block, monkeypatch):
    from uprank.publish.merging import interpolate

    monkeypatch.setattr(interpolate, "BLOCK", block)
    best = measured.run / "best"
    tuned, base = (load_file(folder / "model.safetensors") for folder in (best, measured.base))
    for folder, state in ((best, tuned), (measured.base, base)):
        state["classifier.dense.weight"][0, :2] = -0.0  # as good as 0, but another hash
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    reranker = load(best)
    before = reranker.score([("what", "a reranker")])
    mix_weights(reranker, [best], BaseWeights(base), 0.3)
    for name, tensor in reranker.model.state_dict().items():
        expected = 0.3 * tuned[name].numpy().astype(np.float64) + 0.7 * base[name].numpy().astype(np.float64)
        np.testing.assert_array_equal(tensor.numpy(), expected.astype(np.float32))
    assert reranker.score([("what", "a reranker")]) != before
    for share, folder in ((1.0, best), (0.0, measured.base)):
        mix_weights(reranker, [best], BaseWeights(base), share)
        assert reranker.weights_hash() == load(folder).weights_hash()


def test_an_average_is_the_mean_and_a_missing_or_damaged_checkpoint_is_named(measured):
    state = load_file(measured.run / "best" / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    states = [{n: t + torch.randn(t.shape, generator=generator) for n, t in state.items()} for _ in range(3)]
    folders = [
        add_checkpoint(measured.run, step, one) for step, one in zip((10, 20, 100), states, strict=True)
    ]
    assert last_checkpoints(measured.run, 2) == folders[1:]
    reranker = load(measured.run / "best")
    mix_weights(reranker, folders, None, 1.0)
    for name, tensor in reranker.model.state_dict().items():
        expected = np.mean([one[name].numpy().astype(np.float64) for one in states], axis=0)
        np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-6)
    with pytest.raises(UserError, match="kept 3 checkpoints"):
        last_checkpoints(measured.run, 4)
    (folders[2] / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="step-000100: damaged"):
        last_checkpoints(measured.run, 2)
    foreign = add_checkpoint(measured.run, 200, {"x": torch.zeros(1)})
    with pytest.raises(UserError, match="no tensor"):
        mix_weights(reranker, [foreign], None, 1.0)


def test_a_random_head_is_not_mixed_in(measured, tiny_encoder):
    encoder = load(tiny_encoder)
    assert encoder.new_head
    base = read_base(Base(str(tiny_encoder), encoder.weights_hash(), new_head=True, kind="folder"), seed=0)
    assert base.new == {
        f"classifier.{layer}.{part}" for layer in ("dense", "out_proj") for part in ("weight", "bias")
    }
    with pytest.raises(UserError, match="not the base that the run started from"):
        read_base(Base(str(tiny_encoder), "sha256:x", new_head=True, kind="folder"), seed=0)


def test_norms_of_an_old_base_are_mixed_in(tiny_encoder, tmp_path):
    """The first BERTs call weight and bias gamma and beta; transformers reads both."""
    old = shutil.copytree(tiny_encoder, tmp_path / "old")
    state = load_file(old / "model.safetensors")
    names = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    for new, former in names.items():
        state = {name.replace(new, former): tensor for name, tensor in state.items()}
    assert any(name.endswith("gamma") for name in state)
    save_file(state, old / "model.safetensors", {"format": "pt"})
    base = read_base(Base(str(old), load(tiny_encoder).weights_hash(), new_head=True, kind="folder"), seed=0)
    assert {name.split(".")[0] for name in base.new} == {"classifier"}
    assert len(base.new) == 4


def test_a_head_that_is_kept_is_the_tuned_one(measured):
    base = load_file(measured.base / "model.safetensors")
    tuned = load_file(measured.run / "best" / "model.safetensors")
    reranker = load(measured.run / "best")
    head = frozenset(name for name in base if name.startswith("classifier."))
    mix_weights(reranker, [measured.run / "best"], BaseWeights(base, head), 0.5)
    state = reranker.model.state_dict()
    assert all(state[name].equal(tuned[name]) for name in head)
    mixed = [name for name in base if name not in head and "bias" not in name and "Norm" not in name]
    assert not any(state[name].equal(tuned[name]) for name in mixed)


def tried(share, dev, guard) -> Tried:
    estimates = [Estimate(float(np.mean(values)), 0.0, 1.0) for values in (dev, guard)]
    point = Point(share, (), f"sha256:{share}", estimates[0], tuple(estimates[1:]))
    return Tried(point, (), None, [np.asarray(dev, float), np.asarray(guard, float)])


@pytest.mark.parametrize(
    ("devs", "guards", "expected"),
    [
        ({1.0: 0.9, 0.6: 0.9, 0.4: 0.899, 0.2: 0.5}, {1.0: 0.2, 0.6: 0.3, 0.4: 0.4, 0.2: 0.9}, 0.4),
        ({1.0: 0.9, 0.6: 0.9}, {1.0: 0.3, 0.6: 0.3}, 1.0),  # equal: more of the tuned model
        ({1.0: 0.5, 0.6: 0.9}, {1.0: 0.9, 0.6: 0.1}, 0.6),  # the tuned one is worse on dev
        ({1.0: 0.9, 0.0: 0.9}, {1.0: 0.3, 0.0: 0.9}, 1.0),  # the base itself is never published
        ({0.1: 0.425, 1.0: 0.42}, {0.1: 0.2, 1.0: 0.9}, 1.0),  # 0.7 standard errors below the best
        ({1.0: 0.9, 0.2: 0.891}, {1.0: 0.2, 0.2: 0.9}, 1.0),  # 1.4 of them: the gain is not given away
        ({1.0: 0.5, 0.0: 0.9}, {1.0: 0.5, 0.0: 0.9}, 1.0),  # the base is best: left to the gate
    ],
)
def test_the_rule(devs, guards, expected, measured):
    """Values by query are a mean and noise of 0.05, of 40 queries."""
    noise = np.random.default_rng(0).normal(0, 0.05, 40)
    noise -= noise.mean()
    rows = [
        tried(share, [value + n * (1 + share) for n in noise], [guards[share]] * 40)
        for share, value in devs.items()
    ]
    marked = choose_mixture(rows, Report.load(measured.final))
    (chosen,) = (one.point for one in marked if one.point.chosen)
    assert chosen.share == expected
    assert chosen.allowed
    assert sum(one.point.to_best is None for one in marked) == 1


def test_a_merged_model_is_published_with_a_report_of_its_own(measured, settings):
    guard = measured.folder / "guard.jsonl"  # turns the judgments of dev round: the tuned model is bad at it
    turned = [{"query": row["query"], "pos": row["neg"], "neg": row["pos"]} for row in measured.rows()]
    guard.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in turned), encoding="utf-8")
    merge = MergeSettings(weights=[0.9, 0.97], guard=[str(guard)], guard_queries=20)
    done = publish(replace(settings, merge=merge, force=True))
    record = json.loads((done.folder / "uprank.json").read_text(encoding="utf-8"))
    points = {point["share"]: point for point in record["merge"]["points"]}
    assert set(points) == {0.0, 0.9, 0.97, 1.0}
    (chosen,) = (point for point in points.values() if point["chosen"])
    assert chosen["allowed"]
    assert not points[0.0]["allowed"]
    best = max((p for p in points.values() if p["allowed"]), key=lambda p: p["guards"][0]["mean"])
    assert chosen["guards"][0]["mean"] == best["guards"][0]["mean"]
    assert record["measured_weights"] == chosen["weights"]
    assert record["merge"]["tuned_weights"] == points[1.0]["weights"] == measured.weights["tuned"]
    assert points[0.0]["weights"] == measured.weights["base"]
    assert record["merge"]["guards"] == [{"name": "source", "queries": 20, "candidates": "groups"}]
    report = Report.load(done.folder / "evaluation")
    name = "merged" if chosen["share"] < 1 else "tuned"
    assert report.system(name).weights == chosen["weights"]
    assert report.system(name).results["nDCG@10"].mean == pytest.approx(chosen["dev"]["mean"], abs=1e-12)
    old = Report.load(measured.final)
    assert report.system("base").results == old.system("base").results
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "### Merging" in card
    dev = chosen["dev"]
    assert f"**{dev['mean']:.3f} [{dev['low']:.3f}, {dev['high']:.3f}]**" in card
    picture = (done.folder / "evaluation/merging.svg").read_text(encoding="utf-8")
    assert f"{points[0.9]['guards'][0]['mean']:.3f} [" in picture
    assert tree.fromstring(picture).tag.endswith("svg")
    assert sum("of the tuned weights" in line for line in publish_summary(done)) == 4


def test_an_average_is_tried_beside_the_best(measured, settings):
    state = load_file(measured.run / "best" / "model.safetensors")
    for step, factor in ((10, 0.999), (20, 1.001)):
        add_checkpoint(measured.run, step, {name: tensor * factor for name, tensor in state.items()})
    done = publish(replace(settings, merge=MergeSettings(average=2), force=True))
    points = done.merged.points
    steps = ("step-000010", "step-000020")
    assert [(point.share, point.checkpoints) for point in points] == [(1.0, ()), (1.0, steps)]
    assert len({point.weights for point in points}) == 2
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "mean of 2 checkpoints" in card
    assert done.merged.changed == ("| best step | 50 |" in card) == ("the one published" not in card)


@pytest.mark.parametrize(
    ("merge", "words"),
    [
        (MergeSettings(weights=[1.5]), "merge.weights=[1.5]: allowed is `auto`"),
        (MergeSettings(weights="all"), "merge.weights=all"),
        (MergeSettings(weights=[]), "merge.weights=[]"),
        (MergeSettings(average=1), "merge.average=1: allowed are whole numbers from 2"),
        (MergeSettings(guard=["x"]), "merge.guard needs merge.weights"),
        (MergeSettings(weights="auto", guard=["nowhere"]), "merge.guard: nowhere: no such file"),
        (MergeSettings(weights="auto", guard_queries=0), "merge.guard_queries=0"),
        (MergeSettings(average=5), "kept 0 checkpoints"),
    ],
)
def test_what_cannot_be_merged(merge, words, measured, settings):
    with pytest.raises(UserError) as raised:
        publish(replace(settings, merge=merge))
    assert words in str(raised.value)


def test_the_best_mixture_is_not_called_best_beside_a_better_base():
    mixtures = choose_mixture(
        [tried(share, [value] * 9, [0.5] * 9) for share, value in ((0.0, 0.9), (0.5, 0.6), (1.0, 0.5))],
        SimpleNamespace(measures=["nDCG@10"], seed=0),
    )
    guards = [{"name": "law", "queries": 9, "candidates": "bm25"}]
    merged = Merged("nDCG@10", "", [one.point for one in mixtures], guards, "sha256:1.0", False)
    rows = mixture_rows(merged)
    assert [row[0] for row in rows if "best mixture on dev" in row[3]] == ["**0.5 tuned + 0.5 base**"]


def test_guards_of_one_name_are_told_apart(measured, settings):
    files = [measured.folder / "law" / name for name in ("dev.jsonl", "test.jsonl")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        shutil.copyfile(measured.folder / "data/mine/dev.jsonl", file)
    guards = read_guards(MergeSettings(guard=[str(file) for file in files]), Report.load(measured.final))
    assert [guard.name for guard in guards] == ["law/dev", "law/test"]


def test_further_reports_cannot_be_about_a_mixture(measured, settings):
    given = replace(settings, merge=MergeSettings(weights="auto"), reports=[str(measured.final)])
    with pytest.raises(UserError, match=r"merge cannot go with reports.* Publish without reports="):
        publish(given)


def test_checkpoints_of_adapters_have_no_average(measured, settings):
    config = measured.run / "config.yaml"
    config.write_text(config.read_text("utf-8").replace("model: {", "model: {lora: {rank: 4}, "), "utf-8")
    with pytest.raises(UserError, match=r"merge.average=2: the run has model.lora.rank=4"):
        publish(replace(settings, merge=MergeSettings(average=2)))


def test_merging_needs_a_run(measured, settings):
    given = replace(settings, run=None, report=str(measured.final), merge=MergeSettings(weights="auto"))
    given.model.path = str(measured.run / "best")
    with pytest.raises(UserError, match="merge needs run=FOLDER"):
        publish(given)


def test_mixtures_are_scored_in_the_precision_of_the_report(measured):
    report = Report.load(measured.final)
    systems = [replace(one, precision="bf16") if one.kind == "model" else one for one in report.systems]
    own, pairs = load(measured.run / "best"), [("ab cd", "ab ef gh"), ("a", "b c d")]
    found = as_measured(own, replace(report, systems=systems))
    budgets = {"query_tokens": 24, "max_tokens": 96}
    direct = Reranker.load(measured.run / "best", device="cpu", precision="bf16", **budgets)
    assert (found.precision, own.precision) == ("bf16", "fp32")
    assert (found.score(pairs) == direct.score(pairs)).all()
    assert found.weights_hash() == own.weights_hash()
    assert as_measured(own, report).precision == "fp32"
