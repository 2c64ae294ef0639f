"""The pure parts of the benchmarks: a wrong count there would make every figure wrong."""

import doctest
import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    if not BENCHMARKS.is_dir():  # the tests against an installed wheel
        pytest.skip("the benchmarks are in the checkout alone")
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize("name", ["common", "growth_plot", "processes"])
def test_examples_in_the_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_useful_flops_are_those_that_pytorch_counts(monkeypatch):
    """Whole layers as PyTorch counts them; of the last one the keys, the values and one token's row."""
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    useful_flops = importlib.import_module("roofline").useful_flops
    shape = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 80, "num_attention_heads": 4}

    def config(layers):
        return XLMRobertaConfig(**shape, num_hidden_layers=layers, num_labels=1, attn_implementation="eager")

    def counted(layers, tokens):
        model = XLMRobertaForSequenceClassification(config(layers)).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(input_ids=torch.full((1, tokens), 7), attention_mask=torch.ones(1, tokens))
        return counter.get_total_flops()

    for tokens in (1, 9):
        layer = counted(3, tokens) - counted(2, tokens)
        assert useful_flops(config(3), [tokens]) - useful_flops(config(2), [tokens]) == layer
    # With one token, the last layer has nothing to leave out.
    assert useful_flops(config(2), [1]) == counted(2, 1)
    assert useful_flops(config(2), [9, 1]) == useful_flops(config(2), [9]) + useful_flops(config(2), [1])
    saved = 8 * (4 * 32 * 32 + 4 * 32 * 80 + 4 * 9 * 32)  # 8 rows of query, output, feed-forward, attention
    assert useful_flops(config(2), [9]) == counted(2, 9) - saved


def test_rounds_alternate_and_the_warm_up_is_first():
    common = importlib.import_module("common")
    order = []
    methods = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = common.alternate(methods, 2, before=lambda name: order.append(name.upper()))
    assert "".join(order) == "AaBbCc" * 3
    assert [len(row) for row in seconds.values()] == [3, 3, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_sees_what_was_freed_again():
    common = importlib.import_module("common")
    used = common.peak_of(lambda: torch.ones(25 * 2**20).sum())
    assert 90 < used["beyond"] < 140
