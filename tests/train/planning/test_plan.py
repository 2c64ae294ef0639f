"""`plan=true`: figures that equal a count of one's own, and a run that takes what was foretold."""

import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from uprank.data.read import read_groups
from uprank.data.sampling.draws import Draw, draw_step
from uprank.model.reranker import Reranker
from uprank.train import run as run_file
from uprank.train.monitor.memory import peak_memory, reset_peak, used_memory
from uprank.train.planning import text as plan_text
from uprank.train.planning.plan import Bytes, disk_bytes, padded_tokens, size_step
from uprank.train.run import train
from uprank.train.run_folder.metrics import read_metrics

CPU = torch.device("cpu")


@pytest.fixture
def planned(settings, monkeypatch, capsys):
    """`planned(model, jsonl, output, **changes)`: the plan, its run, and what was printed."""

    def make(*given, **changes):
        found = []
        monkeypatch.setattr(run_file, "print_plan", lambda *given: (found.append(given), show(*given)))
        train(settings(*given, plan=True, **changes))
        return *found[0][:2], capsys.readouterr().out

    show = plan_text.print_plan
    return make


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_it_counts_what_is_learned_from_and_leaves_a_finished_run_alone(planned, run, tiny_xlmr, jsonl):
    """The counts are those of the model's own tokenizer on what each step draws."""
    before = contents(run)
    plan, of, out = planned(tiny_xlmr, jsonl, run, model__max_tokens=24, model__query_tokens=4)
    assert contents(run) == before
    tokenizer = AutoTokenizer.from_pretrained(tiny_xlmr)
    groups, pairs, cut = read_groups(str(jsonl[0]), []), 0, 0
    for number, size in enumerate(plan.sizes):
        draws = draw_step(groups, start=8 * number, count=8, group_size=4, positives=1, seed=0)
        full = [
            [len(tokenizer(draw.query, text)["input_ids"]) for text in (*draw.positives, *draw.negatives)]
            for draw in draws
        ]
        kept = [[min(24, length) for length in group] for group in full]
        assert (size.number, size.groups, size.pairs) == (number, 8, sum(map(len, full)))
        assert size.tokens == sum(map(sum, kept))
        assert size.longest_group == max(map(sum, kept))
        assert size.padded == sum(map(len, kept)) * max(map(max, kept))  # the budget holds the whole step
        cut += sum(length > 24 for group in full for length in group)
        pairs += size.pairs
    assert 0 < cut < pairs
    assert plan.truncated[0] == cut / pairs
    assert (plan.steps, plan.epochs, plan.groups, plan.evaluations) == (6, 2.0, 24, 4)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_xlmr)
    weights = sum(weight.numel() for weight in model.parameters())
    assert plan.parameters == (weights, weights)
    assert plan.bytes.gradients == plan.bytes.weights == 4 * weights
    assert plan.bytes.states == 8 * weights + 4 * len(
        list(model.parameters())
    )  # two moments and a step count
    assert "24 groups, 2 epochs, 6 steps of 8 queries" in out
    assert f"{cut / pairs:.1%} of the pairs" in out
    assert "It fits." in out
    assert of.reranker.weights_hash() == Reranker.load(tiny_xlmr).weights_hash()  # as they will be trained


def test_the_run_takes_the_time_that_was_foretold(planned, run, tiny_xlmr, jsonl, tmp_path):
    plan, _, _ = planned(tiny_xlmr, jsonl, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    rows = [row for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    seconds = [8 / row["queries_per_second"] for row in rows]
    assert 0.1 < plan.step_seconds / np.median(seconds) < 10  # seconds a step, not a token, a pair or a run
    assert plan.seconds == pytest.approx(6 * plan.step_seconds + 4 * plan.evaluation_seconds)


def test_the_run_takes_the_memory_and_disk_that_were_foretold(
    planned, settings, tiny_xlmr, jsonl, tmp_path, monkeypatch
):
    """A model of 40 MB, beside which libraries and data do not move."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_xlmr)
    model.resize_token_embeddings(320_000, mean_resizing=False)
    model.save_pretrained(tmp_path / "large")
    AutoTokenizer.from_pretrained(tiny_xlmr).save_pretrained(tmp_path / "large")
    changes = {"train__max_steps": 2, "train__keep_checkpoints": 1, "train__ema": 0.9}
    plan, _, _ = planned(tmp_path / "large", jsonl, tmp_path / "new", **changes)
    del model
    before = used_memory(CPU)
    reset_peak(CPU)
    train(settings(tmp_path / "large", jsonl, tmp_path / "new", **changes))
    foretold = plan.bytes.peak - plan.bytes.before
    assert plan.bytes.average == plan.bytes.gradients
    assert foretold > 4 * 40e6
    assert 0.6 < (peak_memory(CPU) - before) / foretold < 1.4
    written = sum(path.stat().st_size for path in (tmp_path / "new").rglob("*.safetensors"))
    assert written <= plan.disk < 2 * written


def test_a_stream_is_planned_from_its_first_steps(planned, tiny_xlmr, jsonl, tmp_path):
    plan, _, out = planned(
        tiny_xlmr,
        jsonl,
        tmp_path / "new",
        data__streaming=True,
        train__max_steps=100,
        model__freeze="embeddings",
    )
    assert [size.number for size in plan.sizes] == list(range(16))
    assert (plan.groups, plan.epochs) == (None, None)
    assert 0 < plan.bytes.gradients < plan.bytes.weights * 0.7
    assert "a stream of groups, 100 steps" in out


def test_what_does_not_fit_is_said_with_what_to_set(planned, tiny_xlmr, jsonl, tmp_path):
    plan, of, _ = planned(tiny_xlmr, jsonl, tmp_path / "new", train__tokens_per_batch=512)
    (memory,) = plan_text.plan_problems(replace(plan, available=plan.bytes.peak - 1), of)
    for setting in (
        "train.tokens_per_batch=256",
        "train.gradient_checkpointing=true",
        "model.freeze=embeddings",
    ):
        assert setting in memory
    (memory,) = plan_text.plan_problems(replace(plan, available=plan.bytes.peak, processes=2), of)
    assert "fewer processes" in memory
    (disk,) = plan_text.plan_problems(replace(plan, free=plan.disk - 1), of)
    assert "train.keep_checkpoints=1" in disk
    assert len(plan_text.plan_problems(replace(plan, free=0, available=0), of)) == 2


def test_padding_is_that_of_batches_which_hold_it():
    generator = random.Random(5)
    for _ in range(50):
        groups = [[generator.randrange(1, 40) for _ in range(generator.randrange(1, 6))] for _ in range(9)]
        budget, batches = generator.randrange(20, 400), [[]]
        for group in groups:
            both = [*batches[-1], *group]
            if batches[-1] and len(both) * max(both) > budget:
                batches.append([])
            batches[-1] += group
        expected = sum(len(batch) * max(batch) for batch in batches)
        assert padded_tokens([np.array(group) for group in groups], budget) == expected


def test_cut_queries_are_those_that_lose_tokens(tiny_xlmr):
    """What is left of a query stands before the first end of a sequence."""
    reranker = Reranker.load(tiny_xlmr, query_tokens=6, max_tokens=24)
    words = ["rank", "query", "passage", "river", "stone", "light", "heart", "blood", "drug"]
    draws = [
        Draw(0, number, " ".join(words[:query] * 2), (" ".join(words[:passage] * 4),), (words[0],))
        for number, (query, passage) in enumerate([(1, 1), (3, 6), (5, 1), (4, 2), (6, 3), (9, 9), (9, 1)])
    ]
    end, cut = reranker.tokenizer.eos_token_id, 0
    for draw in draws:
        whole = len(reranker.tokenizer(draw.query, add_special_tokens=False)["input_ids"])
        encoded = (reranker.pairs.encode(draw.query, text) for text in (*draw.positives, *draw.negatives))
        cut += any(pair.ids.tolist().index(end) - 1 < whole for pair in encoded)
    assert 0 < cut < len(draws)
    assert size_step(0, draws, reranker.pairs, 100).cut_queries == cut


def test_sums_of_bytes():
    assert Bytes(1, 2, 4, 8, 16, 32).peak == 63
    assert disk_bytes(10, 20, 5, keep=2) == 2 * 10 + 3 * 35


@pytest.mark.slow
def test_two_processes_plan_together_and_one_prints(tiny_xlmr, jsonl, tmp_path):
    words = [f"model.path={tiny_xlmr}", f"data.train={jsonl[0]}", f"data.dev={jsonl[1]}", "plan=true"]
    words += ["model.device=cpu", "threads=1", "train.queries_per_step=8", f"output={tmp_path / 'new'}"]
    start = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "uprank.train"]
    done = subprocess.run(
        [sys.executable, "-m", *start, *words], capture_output=True, text=True, timeout=600, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("It fits.") == done.stdout.count("in each of 2 processes") == 1
    assert list(tmp_path.iterdir()) == []
