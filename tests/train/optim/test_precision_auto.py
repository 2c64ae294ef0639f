"""`model.precision=auto` takes bf16 where the hardware has it."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from uprank.model.reranker import Reranker, choose_precision
from uprank.train.run import train


@pytest.mark.parametrize(
    ("units", "chosen"),
    [({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "fp32")],
)
def test_a_cpu_computes_in_bf16_only_if_it_has_the_units(monkeypatch, tiny_xlmr, units, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == chosen
    assert choose_precision("fp16", cpu) == "fp16"
    reranker = Reranker.load(tiny_xlmr, precision="auto", query_tokens=20, device="cpu")
    asked = Reranker.load(tiny_xlmr, precision=chosen, query_tokens=20, device="cpu")
    assert reranker.precision == chosen
    pairs = [("a query", "a passage"), ("a query", "another passage")]
    assert reranker.score(pairs).tolist() == asked.score(pairs).tolist()


@pytest.mark.parametrize("able", [True, False])
def test_a_gpu_that_emulates_bf16_computes_in_fp32(monkeypatch, able):
    def supported(including_emulation=True):
        return able or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_precision("auto", torch.device("cuda")) == ("bf16" if able else "fp32")


def test_a_run_keeps_the_precision_that_was_chosen(settings, tiny_xlmr, jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    train(settings(tiny_xlmr, jsonl, tmp_path / "run", model__precision="auto", train__max_steps=1))
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").model.precision == "bf16"
    report = json.loads((tmp_path / "run" / "eval" / "final" / "report.json").read_text())
    assert {system["precision"] for system in report["systems"] if system["kind"] == "model"} == {"bf16"}
