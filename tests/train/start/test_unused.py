"""Settings that change nothing are said at the start, and no others are."""

import logging

import pytest
from uprank.configs.schema import DenseSettings
from uprank.configs.schema_train import (
    DevSettings,
    OptimSettings,
    TrackerSettings,
    TrainCommand,
    TrainDataSettings,
    TrainSettings,
)
from uprank.train.start.unused_settings import unused_settings


def test_defaults_are_all_of_use():
    assert unused_settings(TrainCommand(), new_head=False, steps=100) == []


@pytest.mark.parametrize(
    ("changes", "first", "used"),
    [
        (
            {"optim": OptimSettings(head_learning_rate=1e-3)},
            "optim.head_learning_rate=0.001",
            {"new_head": True},
        ),
        ({"optim": OptimSettings(warmup_ratio=0.1)}, "optim.warmup_ratio=0.1 of 4 steps", {"steps": 10}),
        ({"train": TrainSettings(patience=2)}, "train.patience=2", {"steps": 101}),
    ],
)
def test_what_the_model_and_the_steps_decide(changes, first, used):
    settings = TrainCommand(**{"optim": OptimSettings(warmup_ratio=0.0), **changes})
    (line,) = unused_settings(settings, new_head=False, steps=4 if "warmup" in first else 100)
    assert line.startswith(first)
    assert unused_settings(settings, **{"new_head": False, "steps": 100, **used}) == []


@pytest.mark.parametrize(
    ("wrong", "right", "names"),
    [
        (
            {"optim": OptimSettings(name="adafactor", betas=[0.9, 0.98], eps=1e-6)},
            {"optim": OptimSettings(betas=[0.9, 0.98], eps=1e-6)},
            ["optim.betas=[0.9, 0.98]", "optim.eps=1e-06"],
        ),
        (
            {"data": TrainDataSettings(stream_block=9)},
            {"data": TrainDataSettings(stream_block=9, streaming=True)},
            ["data.stream_block=9"],
        ),
        (
            {"train": TrainSettings(epochs=3.0, max_steps=100)},
            {"train": TrainSettings(epochs=3.0)},
            ["train.epochs=3.0"],
        ),
        (
            {"train": TrainSettings(in_batch_negatives=8, queries_per_step=8)},
            {"train": TrainSettings(in_batch_negatives=7, queries_per_step=8)},
            ["train.in_batch_negatives=8"],
        ),
        (
            {"dev": DevSettings(candidates="bm25", dense=DenseSettings(batch_size=9))},
            {"dev": DevSettings(candidates="hybrid", dense=DenseSettings(batch_size=9))},
            ["dev.dense"],
        ),
        (
            {"tracker": TrackerSettings(project="mine")},
            {"tracker": TrackerSettings(name="wandb", project="mine")},
            ["tracker.project"],
        ),
    ],
)
def test_what_other_settings_decide(wrong, right, names):
    said = unused_settings(TrainCommand(**wrong), new_head=False, steps=100)
    assert [line.startswith(name) for line, name in zip(said, names, strict=True)] == [True] * len(names)
    assert unused_settings(TrainCommand(**right), new_head=False, steps=100) == []


def test_it_is_said_when_a_run_begins(settings, tiny_xlmr, jsonl, tmp_path):
    from uprank.train.run import train

    logging.getLogger("uprank").handlers.clear()
    output = tmp_path / "run"
    train(settings(tiny_xlmr, jsonl, output, optim__head_learning_rate=1e-3, train__max_steps=1))
    log = (output / "train.log").read_text()
    assert "WARNING optim.head_learning_rate=0.001 changes nothing" in log
    assert "WARNING optim.warmup_ratio=0.1 of 1 steps is none" in log
