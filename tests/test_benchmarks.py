"""Pure parts of the benchmarks: a wrong count would make every figure wrong."""

import doctest
import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    if not BENCHMARKS.is_dir():  # the tests against an installed wheel
        pytest.skip("only the checkout has the benchmarks")
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize("name", ["common", "growth_plot", "processes"])
def test_examples_in_the_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_useful_flops_are_those_that_pytorch_counts(monkeypatch):
    """Count all layers like PyTorch, and in the last one the keys, the values and one token's row."""
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
    # With one token the last layer omits nothing.
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


def test_trainers_get_the_same_rows_with_one_positive_and_all_negatives():
    sample_rows = importlib.import_module("trainers").sample_rows
    rows = [
        {"query": f"q{n}", "pos": [f"p{n}a", f"p{n}b"], "neg": [f"n{n}-{k}" for k in range(3 + n % 6)]}
        for n in range(40)
    ]
    picked = sample_rows(rows, 12, 5)
    assert picked == sample_rows(rows, 12, 5)
    assert len({row["query"] for row in picked}) == 12
    for row in picked:
        source = rows[int(row["query"][1:])]
        assert len(row["pos"]) == 1
        assert set(row["pos"]) < set(source["pos"])
        assert len(set(row["neg"])) == len(row["neg"]) == 5
        assert set(row["neg"]) <= set(source["neg"])
    with pytest.raises(SystemExit, match="the file has 26"):
        sample_rows(rows, 27, 5)


def test_trainers_are_compared_by_query_after_the_mean_over_seeds():
    tables = importlib.import_module("trainers_tables")
    rows = {"x": (1.0, 0.5, 0.25, 0.25), "y": (0.0, 0.5, 0.5, 0.0), "z": (0.1, 0.3, 0.6, 0.8)}
    names = ("a_0", "a_1", "b_0", "b_1")
    values = {query: {"nDCG@10": dict(zip(names, row, strict=True))} for query, row in rows.items()}
    assert tables.over_seeds(values, "nDCG@10", "a", [0, 1]) == pytest.approx([0.75, 0.25, 0.2])
    assert tables.over_seeds(values, "nDCG@10", "a", [1]) == pytest.approx([0.5, 0.5, 0.3])
    found = tables.difference(values, "nDCG@10", "a", "b", [0, 1])
    assert found["difference"] == pytest.approx((0.5 + 0.0 - 0.5) / 3)
    assert (found["wins"], found["ties"], found["losses"]) == (1, 1, 1)
    assert (found["system"], found["baseline"]) == ("a", "b")


@pytest.mark.slow
def test_all_trainers_see_the_same_first_step(tmp_path, tiny_xlmr, beir, jsonl):
    """Without dropout and with all rows in one step, all trainers have the same loss and gradient norm."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("FlagEmbedding")
    trainers, runs = (importlib.import_module(name) for name in ("trainers", "trainers_runs"))
    start = shutil.copytree(tiny_xlmr, tmp_path / "start")
    config = json.loads((start / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (start / "config.json").write_text(json.dumps(config))
    lines = jsonl[0].read_text(encoding="utf-8").splitlines()
    rows = trainers.sample_rows([json.loads(line) for line in lines], 12, 3)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    plan = runs.Plan(
        start=str(start),
        rows=str(file),
        dev=str(beir),
        rate=1e-4,
        seed=3,
        queries_per_step=12,
        at_once=4,
        passages=4,
        query_tokens=20,
        max_tokens=100,
        precision="fp32",
        threads=1,
    )
    outcomes = {}
    for tool in runs.TOOLS:
        model, seconds = runs.run(tool, plan, tmp_path / tool)
        assert (model / "model.safetensors").is_file()
        assert seconds >= 0  # uprank rounds to tenths
        if tool == "uprank":
            log = (tmp_path / tool / "metrics.jsonl").read_text().splitlines()
            log = [json.loads(line) for line in log]
        else:
            log = json.loads((tmp_path / tool / "log.json").read_text())
        outcomes[tool] = next((row["loss"], row["grad_norm"]) for row in log if "grad_norm" in row)
    assert outcomes["sentence_transformers"] == pytest.approx(outcomes["uprank"], rel=1e-3)
    assert outcomes["flag_embedding"] == pytest.approx(outcomes["uprank"], rel=1e-3)


@pytest.mark.parametrize("seed", [0, 3])
def test_uprank_reads_its_rows_in_the_order_of_the_others(seed):
    from uprank.data.groups import Group
    from uprank.data.sampling.draws import draw_step

    runs = importlib.import_module("trainers_runs")
    rows = [f"row {number}\n" for number in range(12)]
    order = [5, 0, 11, 3, 7, 1, 9, 2, 10, 4, 8, 6]
    groups = [
        Group(row, ("p",), ("n",), str(place))
        for place, row in enumerate(runs.uprank_rows(rows, order, seed))
    ]
    drawn = draw_step(groups, start=0, count=12, group_size=2, positives=1, seed=seed)
    assert [draw.query for draw in drawn] == [rows[place] for place in order]
