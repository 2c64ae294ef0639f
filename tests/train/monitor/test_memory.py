"""Too little memory: recognised as it really comes, and answered with a setting that fits."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from uprank.configs.errors import UserError
from uprank.train.monitor import memory
from uprank.train.monitor.memory import (
    available_memory,
    explaining,
    is_out_of_memory,
    peak_memory,
    reset_peak,
)
from uprank.train.run import train
from uprank.train.start.preflight import read_inputs
from uprank.train.start.setup import make_accelerator, make_run
from uprank.train.step import prepare_step

CPU = torch.device("cpu")


@pytest.mark.parametrize("ask", [torch.empty, np.empty, bytearray])
def test_what_allocators_really_say_is_recognised(ask):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        ask(2**58)
    assert is_out_of_memory(caught.value)


def test_other_errors_pass_as_they_are():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"), explaining(None, "step 1"):
        raise RuntimeError("shapes")


@pytest.fixture
def made(settings, tiny_xlmr, jsonl, tmp_path):
    """`made(**changes)`: a run that has not begun."""

    def make(**changes):
        asked = settings(tiny_xlmr, jsonl, tmp_path / "run", **changes)
        return make_run(asked, make_accelerator(asked), read_inputs(asked))

    return make


def told(run, batches=(), what="step 1"):
    with pytest.raises(UserError) as caught, explaining(run, what, batches):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return caught.value


def test_the_message_names_the_largest_batch_and_half_of_it(made):
    run, other = made(train__tokens_per_batch=400), made()
    batches = prepare_step(run, 0).batches
    largest = max(batches, key=lambda batch: batch.packed.tokens)
    tokens, ends = largest.packed.tokens, [largest.packed.offsets[place] for place in largest.offsets]
    error = told(run, batches)
    assert len(batches) > 1
    assert f"out of memory in step 1: its largest batch has {tokens} tokens" in error.problems[0]
    assert f"{len(largest.packed.keys)} pairs of {len(ends) - 1} groups" in error.problems[0]
    assert f"its longest group {max(np.diff(ends))}" in error.problems[0]
    assert f"train.tokens_per_batch={tokens // 2} and, if need be, train.grad" in error.advice
    assert "There is no checkpoint yet" in error.advice
    (run.output / "checkpoints" / "step-000004").mkdir(parents=True)
    assert "step-000004 is kept" in told(run, batches).advice
    assert f"tokens_per_batch={2048 // 2}" in told(other, what="an evaluation").advice


def test_a_group_in_parts_is_held_a_part_at_a_time(made):
    run = made(train__tokens_per_batch=60)
    batches = prepare_step(run, 0).batches
    longest = max(max(batch.packed.lengths) for batch in batches)
    assert max(batch.packed.tokens for batch in batches) > 60 > longest
    assert f"train.tokens_per_batch={max(30, longest)} " in told(run, batches).advice


def test_where_single_pairs_are_held_nothing_is_halved(made):
    run = made(train__tokens_per_batch=1, train__gradient_checkpointing=True)
    advice = told(run, prepare_step(run, 0).batches).advice
    assert "tokens_per_batch" not in advice
    assert "same command" not in advice
    assert "model.freeze=embeddings" in advice
    assert "model.max_tokens below 128" in advice


def test_every_process_but_the_first_speaks_for_itself(made, capsys):
    run = made()
    told(run)
    assert capsys.readouterr().err.count("process 1: out of memory") == 0
    run.accelerator = type("Second", (), {"process_index": 1, "device": CPU})()
    told(run)
    assert "uprank train: process 1: out of memory in step 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("uprank.model.reranker.Reranker.from_settings", "out of memory while loading the model"),
        ("uprank.train.verdict.finish", "out of memory while closing the run"),
    ],
)
def test_where_no_step_is_to_blame(settings, tiny_xlmr, jsonl, tmp_path, monkeypatch, place, words):
    def too_large(*given, **named):
        raise MemoryError

    monkeypatch.setattr(place, too_large)
    asked = settings(tiny_xlmr, jsonl, tmp_path / "run", train__max_steps=1)
    with pytest.raises(UserError, match=words):
        train(asked)
    monkeypatch.undo()
    train(asked)
    assert "verdict" in (tmp_path / "run" / "manifest.json").read_text(encoding="utf-8")


def test_the_peak_is_seen_after_it_is_over(tmp_path, monkeypatch):
    reset_peak(CPU)
    before = peak_memory(CPU)
    block = np.ones(100_000_000, dtype=np.uint8)
    del block
    assert peak_memory(CPU) - before > 70e6
    free = available_memory(CPU)
    assert free > 0
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    assert available_memory(CPU) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(CPU) > 2000


# The third step may have 48 MB more than the process has then, whatever that is on this machine.
LITTLE = """
import re, resource
from uprank.train import loop
from uprank.train.__main__ import main

def train_step(*given, real=loop.train_step, taken=[], **more):
    taken.append(1)
    if len(taken) == 3:
        used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (used + 48_000_000, -1))
    return real(*given, **more)

loop.train_step = train_step
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_a_step_that_really_runs_out_ends_in_a_message_and_goes_on_with_the_setting(
    settings, tiny_xlmr, jsonl, tmp_path
):
    """24 groups in one batch of a model wide enough that they need 200 MB."""
    config = AutoConfig.from_pretrained(
        tiny_xlmr, hidden_size=256, intermediate_size=1024, initializer_range=0.02
    )
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(tiny_xlmr).save_pretrained(tmp_path / "wide")
    changes = {"train.queries_per_step": 24, "train.group_size": 8, "train.max_steps": 4}
    changes |= {"train.tokens_per_batch": 8192, "train.eval_every": 2, "optim.learning_rate": 1e-4}
    changes |= {"data.train": jsonl[0], "data.dev": jsonl[1], "model.path": tmp_path / "wide"}
    changes |= {"model.device": "cpu", "model.query_tokens": 20, "threads": 1, "output": tmp_path / "run"}
    words = [f"{key}={value}" for key, value in changes.items()]
    returning = {
        "MALLOC_MMAP_THRESHOLD_": "65536"
    }  # glibc gives back what is freed, so that none is left over
    done = subprocess.run(
        [sys.executable, "-c", LITTLE, *words],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | returning,
    )
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert "out of memory in step 3" in done.stderr, done.stderr[-3000:]
    said = done.stderr[done.stderr.index("uprank train: out of memory in step 3") :]
    assert "step-000002 is kept; the same command with train.tokens_per_batch=" in said
    half = int(said.split("train.tokens_per_batch=")[1].split()[0])
    assert 500 < half < 4096
    kept = {key: value for key, value in changes.items() if key not in ("output", "model.path")}
    same = {key.replace(".", "__"): value for key, value in kept.items()}
    same |= {"data__train": str(jsonl[0]), "data__dev": str(jsonl[1]), "train__tokens_per_batch": half}
    train(settings(tmp_path / "wide", jsonl, tmp_path / "run", **same))
    assert (tmp_path / "run" / "last" / "config.json").is_file()
