"""Checkpoints that are truncated, have a flipped bit or lack a file are named; the one before is used."""

import json
import logging
import shutil

import pytest
import torch
from uprank.configs.errors import UserError
from uprank.train.run_folder.checkpoints import (
    FILES,
    Progress,
    changed_best,
    damage,
    newest_checkpoint,
    note_best,
    save_checkpoint,
)
from uprank.train.run_folder.manifest import read_manifest
from uprank.train.run_folder.metrics import read_metrics


def truncate(file, rest=-1):
    file.write_bytes(file.read_bytes()[:rest])


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


SPOILS = [truncate, flip, lambda file: truncate(file, 0), lambda file: file.unlink()]


@pytest.fixture
def saved(tmp_path):
    """A folder with the checkpoints of steps 2 and 4 of a tiny layer."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()

    def save(step, keep=2):
        save_checkpoint(tmp_path, model, optimizer, Progress(step=step), keep=keep)

    save(2)
    save(4)
    return tmp_path, save


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("name", FILES)
def test_the_file_is_named_and_the_checkpoint_before_is_used(saved, caplog, monkeypatch, spoil, name):
    monkeypatch.setattr(logging.getLogger("uprank"), "propagate", True)
    folder, _ = saved
    assert newest_checkpoint(folder) == 4
    spoil(folder / "step-000004" / name)
    with caplog.at_level(logging.WARNING, "uprank"):
        assert newest_checkpoint(folder) == 2
    assert "step-000004 is damaged" in caplog.text
    assert name in caplog.text
    assert "passed over" in caplog.text
    spoil(folder / "step-000002" / name)
    assert newest_checkpoint(folder) == 0


@pytest.mark.parametrize("spoil", SPOILS)
def test_hashes_that_are_damaged_themselves_prove_nothing(saved, spoil):
    folder, _ = saved
    spoil(folder / "step-000004" / "hashes.json")
    assert newest_checkpoint(folder) == 2


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps(dict.fromkeys(FILES, 3))])
def test_hashes_of_another_form_prove_nothing(saved, text):
    folder, _ = saved
    (folder / "step-000004" / "hashes.json").write_text(text)
    assert damage(folder / "step-000004")


@pytest.mark.parametrize("keep", [1, 2])
def test_a_new_checkpoint_does_not_make_way_for_a_damaged_later_one(saved, keep):
    folder, save = saved
    flip(folder / "step-000004" / FILES[0])
    save(3, keep=keep)
    assert newest_checkpoint(folder) == 3
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == ["step-000002", "step-000003"][-keep:]


def test_what_is_no_checkpoint_is_left_alone(saved):
    folder, save = saved
    shutil.copytree(folder / "step-000004", folder / "step-000004.mine")
    flip(folder / "step-000004" / FILES[0])
    assert newest_checkpoint(folder) == 2
    save(6, keep=1)
    assert {path.name for path in folder.iterdir()} == {"step-000006", "step-000004.mine"}


def test_steps_are_numbers_not_names(saved):
    folder, save = saved
    save(999_999)
    save(1_000_000)
    assert newest_checkpoint(folder) == 1_000_000


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_best_model_that_has_changed_is_named(tmp_path, spoil):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "best").mkdir(exist_ok=True)
        (tmp_path / "best" / name).write_bytes(b"some bytes of " + name.encode())
    assert changed_best(tmp_path, 4, 6) == []  # a run of an older version
    note_best(tmp_path, 4)
    assert changed_best(tmp_path, 4, 6) == []
    assert changed_best(tmp_path, 2, 6) == [str(tmp_path / "best")]
    assert changed_best(tmp_path, 2, 3) == []  # the checkpoint of step 4 is damaged: it is made again
    spoil(tmp_path / "best" / "model.safetensors")
    assert changed_best(tmp_path, 4, 6) == [str(tmp_path / "best" / "model.safetensors")]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": 3}, "base must be an object, not 3"),
        ({"data": {"train": {"sources": ["x"]}}}, r"data\.train\.sources\[0\] must be an object, not 'x'"),
        ({"seconds": "4", "steps": 1.5}, "steps must be a whole number, not 1.5; seconds must be a finite"),
        ([], "the whole must be an object"),
    ],
)
def test_a_damaged_manifest_is_named_with_the_place(tmp_path, values, message):
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path)


def test_damaged_lines_of_metrics_are_left_out_with_a_warning(tmp_path, caplog):
    good = [
        {"step": 1, "loss": 0.5},
        {"step": 2, "dev": {"nDCG@10": 0.5}, "intervals": {"nDCG@10": [0.4, 0.6]}},
    ]
    bad = [
        "{",
        "3",
        '{"loss": 1}',
        '{"step": "1"}',
        '{"step": 3, "dev": []}',
        '{"step": 3, "dev": {"x": null}}',
    ]
    lines = [json.dumps(good[0]), *bad, json.dumps(good[1])]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert read_metrics(tmp_path / "metrics.jsonl") == good
    assert [f"metrics.jsonl:{number}: damaged" in caplog.text for number in range(1, 9)] == [
        False, *[True] * 6, False,
    ]  # fmt: skip
