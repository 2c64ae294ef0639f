"""Training on several data sets and on streams: continued to the bit, and what is left out is told."""

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import uprank.configs
from omegaconf import OmegaConf
from safetensors.torch import load_file
from uprank.configs.errors import UserError
from uprank.configs.schema_train import TrainCommand
from uprank.train.run import train
from uprank.train.run_folder.metrics import read_metrics

CONFIGS = Path(uprank.configs.__file__).parent
WORDS = ["heart", "blood", "stone", "river", "risk", "rank", "light", "drug"]


def row(number, name=""):
    generator = random.Random(number)
    word = WORDS[number % len(WORDS)]
    texts = [" ".join(generator.choices(WORDS, k=6)) + f" {number} {k}" for k in range(5)]
    return {"query": f"{word} {name} {number}", "pos": [f"{word} {texts[0]}"], "neg": texts[1:]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of rows: `a` (17), `b` (7), `dev`, and `bad`: `a` with two bad rows near its end."""
    folder = tmp_path_factory.mktemp("rows")
    lines = {
        "a": [json.dumps(row(n, "a")) for n in range(17)],
        "b": [json.dumps(row(n, "b")) for n in range(100, 107)],
        "dev": [json.dumps(row(n, "dev")) for n in range(200, 206)],
    }
    lines["bad"] = [*lines["a"][:14], "{", *lines["a"][14:], '{"query": "q", "pos": ["p"]}']
    for name, rows in lines.items():
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def settings(model, data, output, **changes):
    values = {
        "model.path": str(model),
        "model.query_tokens": 20,
        "model.device": "cpu",
        "data.train": str(data / "a.jsonl"),
        "data.dev": str(data / "dev.jsonl"),
        "train.queries_per_step": 4,
        "train.group_size": 4,
        "train.eval_every": 2,
        "train.max_steps": 6,
        "optim.learning_rate": 2e-3,
        "threads": 1,
        "output": str(output),
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    made = OmegaConf.structured(TrainCommand)
    for key, value in values.items():
        OmegaConf.update(made, key, value)
    return OmegaConf.to_object(made)


def mixed(data):
    return {"data__train": [str(data / "a.jsonl"), str(data / "b.jsonl")], "data__mix": [0.25, 0.75]}


def streamed(data):
    return {"data__streaming": True, "data__stream_block": 5}


KINDS = {
    "mix": mixed,
    "stream": streamed,
    "mixed streams": lambda data: {**mixed(data), **streamed(data)},
}


@pytest.fixture(scope="module")
def runs(tiny_xlmr, data, tmp_path_factory):
    """A finished run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    for name, kind in KINDS.items():
        train(settings(tiny_xlmr, data, folder / name, **kind(data)))
    return folder


def weights(run, part="last"):
    return load_file(run / part / "model.safetensors")


def assert_same_bits(first, second):
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def manifest_of(run):
    return json.loads((run / "manifest.json").read_text())


def cut(run, output, *, keep):
    """The run as it was after checkpoint `keep`."""
    shutil.copytree(run, output)
    values = manifest_of(output)
    for key in ("stopped_at", "best_step", "best_weights", "verdict", "seconds"):
        values.pop(key)
    (output / "manifest.json").write_text(json.dumps(values | {"finished": None}))
    for folder in (output / "checkpoints").iterdir():
        if folder.name != keep:
            shutil.rmtree(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_continued_ends_with_the_same_bits(kind, runs, tiny_xlmr, data, tmp_path):
    cut(runs / kind, tmp_path / "cut", keep="step-000004")
    train(settings(tiny_xlmr, data, tmp_path / "cut", **KINDS[kind](data)))
    assert_same_bits(runs / kind, tmp_path / "cut")
    steps = [line["step"] for line in read_metrics(tmp_path / "cut" / "metrics.jsonl") if "loss" in line]
    assert steps == list(range(1, 7))


def test_kinds_of_reading_learn_in_orders_of_their_own(runs):
    learned = [weights(runs / kind) for kind in KINDS]
    name = next(iter(learned[0]))
    assert not torch.equal(learned[0][name], learned[1][name])
    assert not torch.equal(learned[1][name], learned[2][name])


def test_one_data_set_in_a_list_is_one_data_set(tiny_xlmr, data, tmp_path):
    train(settings(tiny_xlmr, data, tmp_path / "one", train__max_steps=2))
    train(
        settings(tiny_xlmr, data, tmp_path / "list", train__max_steps=2, data__train=[str(data / "a.jsonl")])
    )
    assert_same_bits(tmp_path / "one", tmp_path / "list")


def test_the_manifest_of_a_mix_tells_its_parts(runs, data):
    facts = manifest_of(runs / "mix")["data"]["train"]
    assert facts["path"] == [str(data / "a.jsonl"), str(data / "b.jsonl")]
    assert [part["groups"] for part in facts["sources"]] == [17, 7]
    assert [part["share"] for part in facts["sources"]] == [6, 18]
    assert (facts["groups"], facts["groups_per_epoch"]) == (24, 24)
    log = (runs / "mix" / "train.log").read_text()
    assert "b.jsonl: 7 groups, 75.0 % of the training groups" in log
    assert read_metrics(runs / "mix" / "metrics.jsonl")[-2]["epoch"] == 1.0
    assert "epoch" not in read_metrics(runs / "stream" / "metrics.jsonl")[-2]
    assert manifest_of(runs / "stream")["data"]["train"]["groups"] is None


def test_epochs_of_a_mix_are_its_own(tiny_xlmr, data, tmp_path):
    sources = [str(data / "a.jsonl"), str(data / "b.jsonl")]
    changes = {"data__train": sources, "data__mix": [6, 2], "train__max_steps": None, "train__epochs": 1.5}
    train(settings(tiny_xlmr, data, tmp_path / "m", **changes))
    assert manifest_of(tmp_path / "m")["steps"] == 3  # 1.5 x 8 groups in steps of 4


def test_a_changed_mix_is_refused_and_moved_files_are_not(runs, tiny_xlmr, data, tmp_path):
    cut(runs / "mix", tmp_path / "cut", keep="step-000004")
    with pytest.raises(UserError, match=r"data\.mix=\[0\.5, 0\.5\] differs from \[0\.25, 0\.75\]"):
        train(settings(tiny_xlmr, data, tmp_path / "cut", **mixed(data) | {"data__mix": [0.5, 0.5]}))
    with pytest.raises(UserError, match=r"data\.streaming=True differs"):
        train(settings(tiny_xlmr, data, tmp_path / "cut", **mixed(data), data__streaming=True))
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    (moved / "b.jsonl").write_text((data / "b.jsonl").read_text().replace("river", "rivers"))
    with pytest.raises(UserError, match=r"data\.train \(.*b\.jsonl\) has changed since"):
        train(settings(tiny_xlmr, moved, tmp_path / "cut", **mixed(moved)))
    swapped = {"data__train": mixed(data)["data__train"][::-1], "data__mix": [0.25, 0.75]}
    with pytest.raises(UserError, match=r"data\.train has changed since"):
        train(settings(tiny_xlmr, data, tmp_path / "cut", **swapped))
    shutil.copy(data / "b.jsonl", moved / "b.jsonl")
    train(settings(tiny_xlmr, moved, tmp_path / "cut", **mixed(moved)))
    assert_same_bits(runs / "mix", tmp_path / "cut")


def test_a_stream_with_other_rows_is_refused(runs, tiny_xlmr, data, tmp_path):
    cut(runs / "stream", tmp_path / "cut", keep="step-000004")
    with pytest.raises(UserError, match=r"data\.train has changed since"):
        train(
            settings(tiny_xlmr, data, tmp_path / "cut", **streamed(data), data__train=str(data / "b.jsonl"))
        )


def test_rows_with_problems_are_left_out_and_told(tiny_xlmr, data, tmp_path):
    bad = str(data / "bad.jsonl")
    with pytest.raises(UserError, match=r"bad\.jsonl:15: broken JSON"):
        train(settings(tiny_xlmr, data, tmp_path / "stop", data__train=bad))
    assert not (tmp_path / "stop").exists()
    for name in ("first", "second"):  # the second reads the cache, and says the same
        output = tmp_path / name
        train(settings(tiny_xlmr, data, output, data__train=bad, data__on_error="skip", train__max_steps=2))
        facts = manifest_of(output)["data"]["train"]
        assert facts["groups"] == 17
        assert facts["sources"][0]["skipped"] == 2
        assert [text.split(": ")[0] for text in facts["sources"][0]["skipped_examples"]] == [
            f"{bad}:15",
            f"{bad}:19",
        ]
        assert f"{bad}:15: broken JSON" in (output / "train.log").read_text()
    train(settings(tiny_xlmr, data, tmp_path / "clean", train__max_steps=2))
    assert_same_bits(tmp_path / "first", tmp_path / "clean")


def test_a_bad_row_in_a_stream_stops_and_the_run_goes_on_without_it(tiny_xlmr, data, tmp_path, monkeypatch):
    """The head is read before training; behind it a bad row is met when its block is due."""
    monkeypatch.setattr("uprank.data.sampling.stream.HEAD", 8)
    options = streamed(data) | {"data__train": str(data / "bad.jsonl")}
    output = tmp_path / "stop"
    with pytest.raises(UserError, match=r"bad\.jsonl:15: broken JSON.*\n.*data\.on_error=skip"):
        train(settings(tiny_xlmr, data, output, **options))
    assert [folder.name for folder in (output / "checkpoints").iterdir()] == ["step-000002"]
    with pytest.raises(UserError, match=r"bad\.jsonl:15"):  # again, from the checkpoint
        train(settings(tiny_xlmr, data, output, **options))
    train(settings(tiny_xlmr, data, output, **options, data__on_error="skip"))
    facts = manifest_of(output)["data"]["train"]["sources"][0]
    assert facts["skipped"] == 2
    assert "bad.jsonl:15" in (output / "train.log").read_text()
    train(settings(tiny_xlmr, data, tmp_path / "skip", **options, data__on_error="skip"))
    assert_same_bits(output, tmp_path / "skip")


def test_a_dev_query_in_a_stream_is_a_row_with_a_problem(tiny_xlmr, data, tmp_path, monkeypatch):
    leaking = tmp_path / "leak.jsonl"
    dev = (data / "dev.jsonl").read_text().splitlines()[0]
    leaking.write_text((data / "a.jsonl").read_text() + dev + "\n")
    options = streamed(data) | {"data__train": str(leaking)}
    with pytest.raises(UserError, match=r"leak\.jsonl:18: query is also in .*dev\.jsonl"):  # in the head
        train(settings(tiny_xlmr, data, tmp_path / "stop", **options))
    assert not (tmp_path / "stop").exists()
    train(settings(tiny_xlmr, data, tmp_path / "skip", **options, data__on_error="skip"))
    assert manifest_of(tmp_path / "skip")["data"]["train"]["sources"][0]["skipped"] == 1


def test_a_stream_without_the_scores_that_the_loss_learns_from_is_refused(tiny_xlmr, data, tmp_path):
    with pytest.raises(UserError, match=r"a\.jsonl:1: no pos_scores and neg_scores"):
        train(settings(tiny_xlmr, data, tmp_path / "kl", **streamed(data), loss__name="kl"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__streaming": True, "train__max_steps": None}, "set train.max_steps"),
        ({"data__train": ["a", "b"], "data__streaming": True}, "set data.mix to their weights"),
        ({"data__train": ["a", "b"], "data__mix": [1, 0.5]}, "write 1.0 for a weight of 1"),
        ({"data__train": ["a", "b"], "data__mix": [1]}, "one whole number"),
        ({"data__mix": 3}, "one whole number"),
        ({"data__mix": [True]}, "one whole number"),
        ({"data__mix": [-1.0]}, "numbers above 0"),
        ({"data__mix": [float("nan")]}, "numbers above 0"),
        ({"data__mix": [0]}, "numbers above 0"),
        ({"data__train": []}, "allowed are a path"),
        ({"data__train": 7}, "allowed are a path"),
        ({"data__on_error": "ignore"}, "allowed are stop, skip"),
        ({"data__stream_block": 0}, "data.stream_block=0"),
        ({"data__train": {"qrels": "q"}, "data__streaming": True}, "give files of rows"),
        ({"data__train": ["nowhere.jsonl", "gone.jsonl"]}, "gone.jsonl: no such file"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(tiny_xlmr, data, tmp_path, changes, message):
    with pytest.raises(UserError) as caught:
        train(settings(tiny_xlmr, data, tmp_path / "bad", **changes))
    assert message in str(caught.value)
    assert not (tmp_path / "bad").exists()


def test_a_share_of_nothing_is_refused(tiny_xlmr, data, tmp_path):
    with pytest.raises(UserError, match=r"b\.jsonl would have no group in an epoch of 24"):
        train(settings(tiny_xlmr, data, tmp_path / "bad", **mixed(data) | {"data__mix": [1.0, 0.001]}))


def command(model, data, output, *more):
    given = settings(model, data, output)
    return [
        "uprank.train",
        f"model.path={model}",
        "model.query_tokens=20",
        "model.device=cpu",
        f"data.dev={given.data.dev}",
        "train.queries_per_step=4",
        "train.group_size=4",
        "train.eval_every=2",
        "train.max_steps=6",
        "optim.learning_rate=2e-3",
        "threads=1",
        f"output={output}",
        *more,
    ]


def overrides(kind, data):
    both = f"[{data / 'a.jsonl'},{data / 'b.jsonl'}]"
    train_data = f"data.train={both if 'mix' in kind else data / 'a.jsonl'}"
    mix = ["data.mix=[0.25,0.75]"] if "mix" in kind else []
    return [train_data, *mix, *(["data.streaming=true", "data.stream_block=5"] if "stream" in kind else [])]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_it_runs_and_started_again_it_ends_with_the_same_bits(
    kind, runs, tiny_xlmr, data, tmp_path
):
    output = tmp_path / "killed"
    start = [sys.executable, "-m", *command(tiny_xlmr, data, output, *overrides(kind, data))]
    process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list((output / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(start, capture_output=True, timeout=300).returncode == 0
    assert_same_bits(runs / kind, output)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mix", "mixed streams"])
def test_two_processes_learn_what_one_learns(kind, runs, tiny_xlmr, data, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    start = ["accelerate.commands.launch", "--config_file", str(CONFIGS / "accelerate" / "cpu.yaml")]
    start += ["--main_process_port", port, "-m"]
    more = command(tiny_xlmr, data, tmp_path / "two", *overrides(kind, data))
    done = subprocess.run([sys.executable, "-m", *start, *more], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [
        [line["loss"] for line in read_metrics(run / "metrics.jsonl") if "loss" in line]
        for run in (runs / kind, tmp_path / "two")
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    assert "2 process(es)" in (tmp_path / "two" / "manifest.json").read_text()
