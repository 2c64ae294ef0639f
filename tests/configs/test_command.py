"""From the command line to typed settings, composed and in real processes."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uprank
from uprank.__main__ import COMMANDS
from uprank.configs import schema_train
from uprank.configs.errors import UserError
from uprank.configs.validate_train import check_train

CONFIGS = Path(uprank.__file__).parent / "configs"


def test_every_command_has_its_schema_and_its_yaml(schemas):
    assert schemas.keys() == COMMANDS.keys()
    assert {file.stem for file in CONFIGS.glob("*.yaml")} - {"quiet"} == COMMANDS.keys()


def test_defaults_are_overridden_by_the_command_line(needed, compose):
    code, (settings,), _, err = compose(
        "train", *needed, "train.epochs=3", "seed=7", "dev.measures=[MAP,MRR@5]"
    )
    assert (code, err) == (0, "")
    assert isinstance(settings, schema_train.TrainCommand)
    expected = schema_train.TrainCommand(output="o", seed=7)
    expected.model.path, expected.data.train, expected.data.dev = "m", "t", "d"
    expected.train.epochs, expected.dev.measures = 3.0, ["MAP", "MRR@5"]
    assert settings == expected  # the YAML does not change the schema's defaults


def test_a_group_and_the_command_line_over_it(needed, compose):
    _, (settings,), _, _ = compose("train", *needed[1:], "model=bge-reranker-base", "model.max_tokens=64")
    assert (settings.model.path, settings.model.max_tokens) == ("BAAI/bge-reranker-base", 64)


def test_an_experiment_is_over_the_defaults_and_under_the_command_line(needed, compose):
    _, (settings,), _, _ = compose("train", *needed[1:], "experiment=bge-reranker-base")
    assert (settings.model.path, settings.optim.learning_rate) == ("BAAI/bge-reranker-base", 6e-5)
    arguments = ("optim.learning_rate=1e-6", "experiment=bge-reranker-base")
    _, (settings,), _, _ = compose("train", *needed, *arguments)
    assert (settings.model.path, settings.optim.learning_rate) == ("m", 1e-6)


EXPERIMENTS = sorted(file.stem for file in (CONFIGS / "experiment").glob("*.yaml"))


def test_the_experiments_of_the_readme_are_there():
    assert {"quickstart", "bge-reranker-base"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_to_settings_that_a_run_accepts(needed, compose, name):
    code, (settings,), _, err = compose("train", *needed, f"experiment={name}")
    assert (code, err) == (0, "")
    check_train(settings)


CHOICES = sorted(
    f"{file.parent.name}={file.stem}"
    for file in CONFIGS.glob("*/*.yaml")
    if file.parent.name not in ("experiment", "accelerate")
)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_a_group_composes(needed, compose, choice):
    group, name = choice.split("=")
    given = [argument for argument in needed if group != "model" or argument != "model.path=m"]
    code, (settings,), _, _ = compose("train", *given, choice)
    assert code == 0
    if group != "model":
        assert getattr(settings, group).name == name if hasattr(getattr(settings, group), "name") else True


def test_choices_were_found():
    assert {
        "model=minilm",
        "model=bge-reranker-base",
        "loss=listwise",
        "optim=adamw",
        "tracker=wandb",
        "tracker=tensorboard",
        "tracker=trackio",
    } <= set(CHOICES)


def test_words_that_belong_to_hydra_are_not_stray(compose):
    code, jobs, out, _ = compose("train", "--cfg", "job", "--package", "loss")
    assert (code, jobs) == (0, [])
    assert "name: listwise" in out


def test_problems_of_the_function_are_printed_too(compose):
    def function(settings):
        raise UserError(["f:1: one", "f:2: two"], advice="Mend it.")

    code, _, _, err = compose("mine", "data.train=t", "output=o", function=function)
    assert (code, err) == (2, "uprank mine: 2 problems\n  f:1: one\n  f:2: two\nMend it.\n")


def test_a_defect_is_not_dressed_up_as_a_mistake_of_the_user(compose):
    def function(settings):
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        compose("mine", "data.train=t", "output=o", function=function)


def uprank_command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "uprank", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def test_a_real_process_exits_with_2_without_a_traceback_and_writes_nothing(tmp_path):
    done = uprank_command("train", "trian.epochs=2", "epochs=2", cwd=tmp_path)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr == (
        "uprank train: 2 problems\n"
        "  unknown setting 'trian.epochs'; did you mean 'train.epochs'?\n"
        "  unknown setting 'epochs'; did you mean 'train.epochs'?\n"
        "All settings: uprank train --help\n"
    )


def test_an_unknown_command_is_answered_with_the_known_ones(tmp_path):
    done = uprank_command("tune", "x=1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("uprank: unknown command 'tune'\n")
    assert all(re.search(rf"^  {name} ", done.stderr, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_dispatched(command):
    assert callable(importlib.import_module(COMMANDS[command][0]).main)
