"""What trackers get: every metric at its true step, once, also when a run is continued; and the verdict."""

import json
import sqlite3
import struct
import sys
import time
from types import SimpleNamespace

import pytest
from uprank.configs.errors import UserError
from uprank.configs.schema_train import TrackerSettings, TrainCommand
from uprank.train import loop
from uprank.train.monitor.trackers import (
    FILE,
    report,
    report_end,
    require_login,
    require_tracker,
    start_tracker,
)
from uprank.train.run import train
from uprank.train.run_folder.metrics import MetricsFile, read_metrics

ROWS = [(0, {"dev": {"nDCG@10": 0.5}}), *((step, {"loss": 1.0 / step}) for step in (1, 2, 3))]
FOUND = {"best_step": 2, "verdict": "no difference", "tuned/nDCG@10": 0.6}


@pytest.fixture
def started(tmp_path):
    """`started(name, after)`: a run that a tracker watches, from the checkpoint of step `after`."""
    from accelerate import Accelerator

    def start(name, after=0):
        settings = TrainCommand(output=str(tmp_path / "run"), tracker=TrackerSettings(name=name))
        settings.model.path, settings.data.train, settings.data.dev = "m", ["a", "b"], "d"
        (tmp_path / "run").mkdir(exist_ok=True)
        accelerator = Accelerator(cpu=True, log_with=name, project_dir=settings.output)
        run = SimpleNamespace(settings=settings, output=tmp_path / "run", accelerator=accelerator)
        metrics = MetricsFile(run.output / "metrics.jsonl", after=after, evaluated=0)
        start_tracker(run, after)
        return run, metrics

    return start


def tell(run, metrics, rows):
    for step, row in rows:
        metrics.write(step=step, **row)
        report(run, metrics, step, row)


def killed_and_continued(started, name):
    """A run that was killed after step 3 and goes on from the checkpoint of step 1."""
    run, metrics = started(name)
    tell(run, metrics, ROWS)
    run.accelerator.end_training()
    first = json.loads((run.output / FILE).read_text())
    if name == "wandb":  # names its folders by the second; nobody is killed and goes on within one
        time.sleep(1.1)
    run, metrics = started(name, after=1)
    assert json.loads((run.output / FILE).read_text()) == first
    tell(run, metrics, [*ROWS[2:], (4, {"loss": 0.25}), (4, {"dev": {"nDCG@10": 0.6}})])
    report_end(run, 4, FOUND)
    run.accelerator.end_training()
    return run.output, first["id"]


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}, read


def test_tensorboard_shows_each_step_once(started):
    pytest.importorskip("tensorboard")
    output, _ = killed_and_continued(started, "tensorboard")
    found, read = scalars(output / "tensorboard")
    assert found["loss"] == [(step, pytest.approx(1 / step)) for step in (1, 2, 3, 4)]
    assert found["dev/nDCG@10"] == [(0, 0.5), (4, pytest.approx(0.6))]
    assert found["final/best_step"] == [(4, 2.0)]
    (verdict,) = read.Tensors("final/verdict/text_summary")
    assert verdict.tensor_proto.string_val == [b"no difference"]
    (settings,) = (output / "tensorboard").glob("*/hparams.yml")  # of the first start alone
    assert "optim.learning_rate: 2.0e-05" in settings.read_text()


def wandb_records(file):
    """The records of an offline run: a LevelDB log of protobufs, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, held = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # no header fits in what is left of the block
            place += 32768 - place % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        held += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            held = b""
            yield record


def read_wandb(files):
    """Losses by step, summary and configuration of offline runs."""
    history, summary, config = [], {}, {}
    for file in files:
        for record in wandb_records(file):
            row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            history += [(row["_step"], row["loss"])] if "loss" in row else []
            for update, found in ((record.summary.update, summary), (record.config.update, config)):
                found |= {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in update}
    return history, summary, config


def test_wandb_keeps_its_run_over_a_resume(started, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "300")  # seconds for its own process to start
    output, name = killed_and_continued(started, "wandb")
    files = sorted((output / "wandb").glob(f"offline-run-*-{name}/*.wandb"))
    assert len(files) == 2
    until = time.monotonic() + 60  # its service writes in a process of its own, which may be behind
    while True:
        history, summary, config = read_wandb(files)
        if ("best_step" in summary and 4 in dict(history)) or time.monotonic() > until:
            break
        time.sleep(0.2)
    # Its service takes no step twice; a file of its own knows nothing of the one before.
    assert dict(history) == {step: pytest.approx(1 / step) for step in (1, 2, 3, 4)}
    assert summary["verdict"] == "no difference"
    assert (summary["best_step"], summary["tuned/nDCG@10"]) == (2, 0.6)
    assert config["optim.learning_rate"] == 2e-5


def test_trackio_is_told_each_step_once(started, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for module in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, module)
    pytest.importorskip("trackio")
    killed_and_continued(started, "trackio")
    (file,) = (tmp_path / "trackio").glob("uprank*.db")
    with sqlite3.connect(file) as base:
        rows = [(s, json.loads(v)) for s, v in base.execute("select step, metrics from metrics order by id")]
    assert [(step, row["loss"]) for step, row in rows if "loss" in row] == [(s, 1 / s) for s in (1, 2, 3, 4)]
    assert rows[-1][1]["final/verdict"] == "no difference"


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "trackio"])
def test_a_tracker_that_is_not_installed(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"tracker={name}: {name} is not installed") as caught:
        require_tracker(name)
    assert caught.value.advice == f'pip install "uprank[{name}]"'


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (False, "no account is known"),
        (RuntimeError("401 from the server"), "401 from the server"),
        (True, ""),
    ],
)
def test_a_missing_account_is_noticed_at_the_start(
    settings, tiny_xlmr, jsonl, tmp_path, monkeypatch, answer, message
):
    """Before the base is evaluated, and before there is a folder."""

    def login(prompt=True):
        assert not prompt
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(login=login))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if not message:
        require_login("wandb")
        return
    with pytest.raises(UserError, match=f"tracker=wandb: {message}"):
        train(settings(tiny_xlmr, jsonl, tmp_path / "run", tracker__name="wandb"))
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    require_login("wandb")


def test_a_tracker_that_refuses_is_no_traceback(started, monkeypatch):
    from accelerate import Accelerator

    def refuse(*args, **given):
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(Accelerator, "init_trackers", refuse)
    with pytest.raises(UserError, match="tracker=tensorboard: api_key not configured"):
        started("tensorboard")


def test_a_run_tells_tensorboard_what_metrics_jsonl_has(settings, tiny_xlmr, jsonl, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    given = {"tracker__name": "tensorboard", "train__max_steps": 3}
    with monkeypatch.context() as patch:  # as if killed between step 2 and its evaluation
        patch.setattr(loop, "_is_due", lambda run, step: step == 2 and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(settings(tiny_xlmr, jsonl, tmp_path / "t", **given))
    train(settings(tiny_xlmr, jsonl, tmp_path / "t", **given))
    rows = read_metrics(tmp_path / "t" / "metrics.jsonl")
    found, _ = scalars(tmp_path / "t" / "tensorboard")
    for key in ("loss", "learning_rate", "grad_norm"):
        assert found[key] == [(row["step"], pytest.approx(row[key])) for row in rows if key in row]
    assert [step for step, _ in found["dev/nDCG@10"]] == [0, 2, 3]
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    assert found["final/best_step"] == [(3, manifest["best_step"])]
    assert {"final/tuned/nDCG@10", "final/tuned/nDCG@10/low", "final/base/nDCG@10/high"} <= found.keys()
