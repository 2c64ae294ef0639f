"""Calibration folded into the published head, other types of weights, the chain back to what was measured."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import markdown_it
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import CardSettings
from uprank.model.reranker import Reranker
from uprank.publish.card.text import plain
from uprank.publish.command import publish, publish_summary
from uprank.publish.parity.probes import DIFFICULT
from uprank.publish.verify.folder import verify_folder
from uprank.publish.weights import calibrate
from uprank.publish.weights import lineage as chain
from uprank.publish.weights.calibrate import Calibrated
from uprank.publish.weights.lineage import HEAD, chain_problems, compare_scores, remade_problems

pytestmark = pytest.mark.usefixtures("only_transformers")


def load(folder) -> Reranker:
    return Reranker.load(folder, device="cpu", query_tokens=24, max_tokens=96)


def record_of(folder: Path) -> dict:
    return json.loads((folder / "uprank.json").read_text(encoding="utf-8"))


def test_published_scores_are_scaled_and_shifted_and_the_order_stays(measured, settings):
    done = publish(settings)
    record = record_of(done.folder)
    found = record["calibration"]
    assert found["form"] == "scale and shift"
    assert found["scale"] > 0
    assert found["scale"] != 1
    before = load(measured.run / "best").score(DIFFICULT).astype(np.float64)
    after = load(done.folder).score(DIFFICULT).astype(np.float64)
    expected = found["scale"] * before + found["shift"]
    np.testing.assert_allclose(after, expected, atol=1e-5 * np.abs(after).max())
    assert np.argsort(after).tolist() == np.argsort(before).tolist()
    assert record["measured_weights"] == measured.weights["tuned"] == found["weights_before"]
    assert record["weights"] == load(done.folder).weights_hash() == found["weights_after"]
    assert record["weights"] != record["measured_weights"]
    assert any("Calibrated by scale and shift" in line for line in publish_summary(done))


def test_every_number_of_the_scores_section_is_in_the_record(measured, settings):
    folder = publish(settings).folder
    text = (folder / "README.md").read_text(encoding="utf-8").split("## Scores")[1].split("## Training")[0]
    text = re.sub(r"`[^`]*`|^> .*$", "", text, flags=re.MULTILINE)
    known = set()
    for value in _numbers(record_of(folder)):
        known |= {format(value, form) for form in (".3f", ".4f", "+.4f", ".1f", ".1e")}
        known.add(f"{100 * value:.1f}")
    found = record_of(folder)["calibration"]
    known.add(f"{100 * found['relevant'] / found['pairs']:.1f}")
    decimals = set(re.findall(r"[+-]?\d+\.\d+(?:e-\d+)?", text))
    assert len(decimals) > 30
    assert decimals <= known
    assert f"{found['error_held_out']:.3f}" in text


def test_switched_off(measured, settings):
    folder = publish(replace(settings, calibrate=False)).folder
    record = record_of(folder)
    assert record["weights"] == record["measured_weights"]
    assert not (folder / HEAD).exists()
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Not calibrated: switched off" in text
    assert "It is not a probability and was not calibrated" in text
    assert chain_problems(folder, record, load(folder)) == []


def test_too_few_judgments_leave_the_model_alone_and_say_so(measured, settings, monkeypatch):
    monkeypatch.setattr(calibrate, "LEAST_FOR_SCALE", 1000)
    done = publish(settings)
    record = record_of(done.folder)
    assert record["weights"] == record["measured_weights"]
    assert "too few dev judgments" in record["calibration"]["reason"]
    assert "too few dev judgments" in (done.folder / "README.md").read_text(encoding="utf-8")
    assert any("Not calibrated: too few" in line for line in publish_summary(done))


@pytest.mark.parametrize("spoiled", ["data", "run", "score"])
def test_scores_that_are_not_those_of_the_report_are_not_fitted_on(spoiled, measured, settings):
    path = measured.final / "runs" / "tuned.run"
    if spoiled == "data":
        data = measured.folder / "data" / "mine" / "dev.jsonl"
        data.write_text(
            "".join(data.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8"
        )
    elif spoiled == "run":
        path.unlink()
    else:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            line[4] = str(-float(line[4]))
        path.write_text("".join(" ".join(line) + "\n" for line in lines), encoding="utf-8")
    if spoiled == "score":  # there, and refuting what the report states: nothing is published, even by force
        with pytest.raises(UserError, match="gives other values of nDCG@10"):
            publish(replace(settings, force=True))
        path.write_text("no run\n", encoding="utf-8")
        with pytest.raises(UserError, match=r"tuned\.run:1: "):
            publish(replace(settings, force=True))
        return
    done = publish(settings)
    assert record_of(done.folder)["measured_weights"] == record_of(done.folder)["weights"]
    words = {"data": "it has changed", "run": "tuned.run: missing"}
    assert words[spoiled] in done.prepared.unread
    assert str(measured.folder) not in (done.folder / "README.md").read_text(encoding="utf-8")
    assert str(measured.folder) not in (done.folder / "uprank.json").read_text(encoding="utf-8").replace(
        str(measured.base), ""
    ).replace(str(measured.folder / "data"), "")


def test_the_chain_back_to_the_measured_weights(measured, settings):
    folder = publish(settings).folder
    record = record_of(folder)
    assert chain_problems(folder, record, load(folder)) == []
    calibration = record["calibration"]
    wrong = {**record, "calibration": {**calibration, "scale": calibration["scale"] * 1.001}}
    assert "scaled and shifted" in chain_problems(folder, wrong, load(folder))[0]
    wrong = {**record, "measured_weights": "sha256:x"}
    assert "reports are about" in chain_problems(folder, wrong, load(folder))[0]
    head = load_file(folder / HEAD)
    save_file({name: tensor * 2 for name, tensor in head.items()}, folder / HEAD)
    assert len(chain_problems(folder, record, load(folder))) >= 2
    (folder / HEAD).write_bytes(b"x")
    assert "cannot be read" in chain_problems(folder, record, load(folder))[0]
    (folder / HEAD).unlink()
    assert "cannot be read" in chain_problems(folder, record, load(folder))[0]


@pytest.mark.parametrize(("kind", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_rounded_weights(kind, dtype, measured, settings, monkeypatch):
    # How far the scores of so small a random model move depends on the machine: no bound of the real ones.
    monkeypatch.setitem(chain.TOLERANCES, kind, 1e-9)
    with pytest.raises(UserError, match=r"rounding changes scores by"):
        publish(replace(settings, weights=kind))
    assert not Path(settings.output).exists()
    monkeypatch.setitem(chain.TOLERANCES, kind, 10.0)
    done = publish(replace(settings, weights=kind))
    record = record_of(done.folder)
    state = load_file(done.folder / "model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {dtype}
    model = AutoModelForSequenceClassification.from_pretrained(done.folder)
    assert model.dtype == dtype
    assert record["dtype"] == kind
    assert record["weights"] == load(done.folder).weights_hash()
    assert 0 < record["rounding"]["largest_difference"] <= record["rounding"]["allowed"]
    assert record["weights"] != record["calibration"]["weights_after"]
    assert chain_problems(done.folder, record, load(done.folder)) == []
    # whoever has the measured weights can follow every step
    assert remade_problems(record, load(measured.run / "best")) == []
    wrong = {**record, "dtype": "bf16" if kind == "fp16" else "fp16"}
    assert "calibrated and rounded they are" in remade_problems(wrong, load(measured.run / "best"))[0]
    calibration = {**record["calibration"], "shift": record["calibration"]["shift"] + 0.5}
    assert remade_problems({**record, "calibration": calibration}, load(measured.run / "best"))
    assert "the reports are about" in remade_problems(record, load(measured.base))[0]
    lines = {line.what: line for line in verify_folder(done.folder, measured.run / "best")}
    assert lines["measured weights"].held
    lines = {line.what: line for line in verify_folder(done.folder, measured.folder / "nowhere")}
    assert lines["measured weights"].held is False
    assert f"The weights are {kind}" in (done.folder / "README.md").read_text(encoding="utf-8")


def test_weights_that_the_type_cannot_hold(measured, settings):
    reranker = load(measured.run / "best")
    with torch.no_grad():
        reranker.model.classifier.out_proj.weight[0, 0] = 1e6
    with pytest.raises(UserError, match="fp16 cannot hold"):
        chain.round_weights(reranker, "fp16")


def test_a_fold_that_does_something_else_is_refused(measured, settings, monkeypatch):
    honest = chain.affine
    monkeypatch.setattr(chain, "affine", lambda head, scale, shift: honest(head, scale * 1.01, shift))
    with pytest.raises(UserError, match="folding the calibration into the head changes scores"):
        publish(settings)
    assert not Path(settings.output).exists()


def test_compared_scores():
    change = compare_scores([0.0, 1.0, 1.05], [0.0, 1.035, 1.02], "bf16", what="x")
    assert (change.swapped, change.couples, change.pairs) == (1, 3, 3)
    for wrong in (1.2, float("nan")):
        with pytest.raises(UserError, match="x changes scores") as raised:
            compare_scores([0.0, 1.0], [0.0, wrong], "bf16", what="x")
        assert raised.value.advice == "Publish with weights=fp32."


def test_samples_show_the_texts_as_they_are_and_can_be_left_out(measured, settings):
    shown = publish(settings)
    text = (shown.folder / "README.md").read_text(encoding="utf-8")
    rows = measured.rows()
    page = markdown_it.MarkdownIt().render(text)
    assert html.escape(rows[0]["query"], quote=False) in page
    assert len(record_of(shown.folder)["samples"]) == 3
    hidden = replace(settings, output=settings.output + "-2", card=CardSettings(samples=False))
    files = [path for path in publish(hidden).folder.rglob("*") if path.suffix in (".md", ".html", ".json")]
    told = "".join(path.read_text(encoding="utf-8") for path in files if path.name != "tokenizer.json")
    assert "nDCG@10" in told
    assert not any(row["query"] in told for row in rows)


@pytest.mark.parametrize(
    "text",
    ["a *b* _c_ <d> &amp; `e` [f](g) #h", "- list", "1) one", "| a | b |"]
    + ["~~x~~ ![i](j) \\n", "$x_1$ <!-- c"],
)
def test_texts_of_the_data_are_shown_as_they_are(text):
    reader = markdown_it.MarkdownIt().enable(["table", "strikethrough"])
    page = reader.render(f"> - 1.0, relevant: {plain(text)}")
    assert page.count("<") == 6  # blockquote, ul, li and nothing of the text
    assert html.unescape(re.sub(r"<[^>]*>", "", page)).strip() == f"1.0, relevant: {text}"


def test_a_head_without_a_bias_is_left_alone(measured, settings, monkeypatch):
    def no_layer(model):
        raise UserError("XModel does not end in one linear layer with a bias")

    monkeypatch.setattr(chain, "last_layer", no_layer)
    record = record_of(publish(settings).folder)
    assert record["weights"] == record["measured_weights"]
    assert "does not end in one linear layer" in record["calibration"]["reason"]
    fields = {k: v for k, v in record["calibration"].items() if k in Calibrated.__dataclass_fields__}
    assert Calibrated(**fields).scale == 1


def _numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
