"""Files that cannot be written are named, the last good checkpoint stays, and a later start resumes."""

import io
import json
import logging
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from uprank.configs.errors import UserError
from uprank.data.store import put_back, write_file, write_folder, writing
from uprank.eval.processes import Share
from uprank.train import loop
from uprank.train.monitor.console import log_to_file
from uprank.train.run import train
from uprank.train.run_folder.checkpoints import damage
from uprank.train.run_folder.manifest import write_manifest
from uprank.train.run_folder.metrics import MetricsFile, read_metrics
from uprank.train.run_folder.rank_zero import on_first

resource = pytest.importorskip("resource")  # not on Windows


@contextmanager
def full_disk(room=0):
    """Let no file grow beyond `room` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_tensors(folder):
    save_file({"weight": torch.zeros(5000)}, folder / "model.safetensors")


def save_tokenizer(folder):
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({f"word{number}": number for number in range(500)})).save(
        str(folder / "tokenizer.json")
    )


@pytest.mark.parametrize(
    "fill",
    [
        save_tensors,
        save_tokenizer,
        lambda folder: np.save(folder / "scores.npy", np.zeros(5000)),
        lambda folder: (folder / "progress.json").write_text(8000 * "x"),
    ],
)
def test_a_folder_that_cannot_be_written_is_as_it_was(tmp_path, fill):
    write_folder(tmp_path / "best", lambda folder: (folder / "old").write_text("old"))
    refused = pytest.raises(UserError, match=r"best: cannot be written \(")  # NumPy does not say why
    with full_disk(1000), refused as told:
        write_folder(tmp_path / "best", fill)
    assert "the same command continues" in told.value.advice
    assert [path.name for path in tmp_path.rglob("*")] == ["best", "old"]
    write_folder(tmp_path / "best", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert not (tmp_path / "best" / "old").exists()


@pytest.mark.parametrize("name", ["best", "step-000004"])
def test_a_kill_between_the_renames(tmp_path, monkeypatch, name):
    target = tmp_path / name
    write_folder(target, lambda folder: (folder / "file").write_text("old"))
    real, done = type(target).replace, []

    def killed(self, other):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(type(target), "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_folder(target, lambda folder: (folder / "file").write_text("new"))
    assert not target.exists()
    put_back(tmp_path)
    assert (target / "file").read_text() == "old"
    write_folder(target, lambda folder: (folder / "file").write_text("new"))
    put_back(tmp_path)
    assert (target / "file").read_text() == "new"


def test_mistakes_of_ours_are_no_full_disk(tmp_path):
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        1 / 0  # noqa: B018


def test_a_manifest_that_cannot_be_written_is_as_it_was(tmp_path):
    write_manifest(tmp_path, {"steps": 3})
    with full_disk(), pytest.raises(UserError, match=r"manifest\.json: cannot be written"):
        write_manifest(tmp_path, {"steps": 4})
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"steps": 3}
    with full_disk(), pytest.raises(UserError, match=r"tracker\.json: cannot be written"):
        write_file(tmp_path / "tracker.json", "{}")
    put_back(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_line_that_fits_in_part_is_cut_off_by_the_next_start(tmp_path):
    file = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(file, after=0, evaluated=0)
    metrics.write(step=1, loss=0.5)
    room = file.stat().st_size + 9
    with full_disk(room), pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written"):
        metrics.write(step=2, loss=0.25)
    assert file.stat().st_size == room
    with full_disk(room):  # no room is needed to clear up
        again = MetricsFile(file, after=1, evaluated=0)
    again.write(step=2, loss=0.125)
    assert read_metrics(file) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.125}]


def test_a_log_on_a_full_disk_is_left_with_one_line(tmp_path, capsys):
    log, before = logging.getLogger("uprank"), logging.getLogger("uprank").handlers[:]
    log.handlers[:] = [logging.StreamHandler()]
    log.setLevel(logging.INFO)
    try:
        log_to_file(tmp_path / "train.log")
        with full_disk():
            # What a test says on the terminal goes into a file, too, for which there is no room.
            log.handlers[0].setStream(stream := io.StringIO())
            log.info("step 1")
            log.info("step 2")
    finally:
        log.handlers[:] = before
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 1", str(tmp_path / "train.log"), "step 2"]
    assert "cannot be written ([Errno 27] File too large)" in lines[1]
    with pytest.raises(UserError, match=r"train\.log: cannot be written"):
        log_to_file(tmp_path / "nowhere" / "train.log")


def test_what_the_first_process_was_refused_ends_all():
    arrays, called = [], []

    def share(index):  # the sum over two processes, the first of which has been here
        def total(array):
            arrays.append(array)
            return np.sum(arrays, axis=0)

        return Share(index, 2, total)

    def refuse():
        called.append(1)
        raise UserError("disk full")

    with pytest.raises(UserError, match="disk full"):
        on_first(share(0), refuse)
    with pytest.raises(UserError, match="the first process"):
        on_first(share(1), refuse)
    assert called == [1]


def refuse_at(monkeypatch, what, place):
    """Let a writer of the loop find the disk full from its `place`-th call on."""
    owner, name, room = (MetricsFile, "write", 0) if what == "metrics" else (loop, what, 2000)
    real, calls = getattr(owner, name), []

    def write(*args, **given):
        calls.append(1)
        with full_disk(room if len(calls) >= place else resource.RLIM_INFINITY):
            real(*args, **given)

    monkeypatch.setattr(owner, name, write)


@pytest.mark.parametrize(
    ("what", "place", "named", "left"),
    [
        ("metrics", 6, "metrics.jsonl", "step-000002"),  # base, 1, 2, dev, 3, 4
        ("save_checkpoint", 2, "step-000004", "step-000002"),
        ("write_folder", 1, "best", "step-000002"),
    ],
)
def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    settings, run, tiny_xlmr, jsonl, tmp_path, monkeypatch, what, place, named, left
):
    output = tmp_path / "full"
    with monkeypatch.context() as patch:
        refuse_at(patch, what, place)
        with pytest.raises(UserError, match=f"{named}: cannot be written .*File too large"):
            train(settings(tiny_xlmr, jsonl, output))
    assert [path.name for path in (output / "checkpoints").iterdir()] == [left]
    assert not damage(output / "checkpoints" / left)
    train(settings(tiny_xlmr, jsonl, output))
    for part in ("last", "best"):
        found = (output / part / "model.safetensors").read_bytes()
        assert found == (run / part / "model.safetensors").read_bytes()
    rows = [
        [(row["step"], row.get("loss"), row.get("dev")) for row in read_metrics(folder / "metrics.jsonl")]
        for folder in (run, output)
    ]
    assert rows[0] == rows[1]
