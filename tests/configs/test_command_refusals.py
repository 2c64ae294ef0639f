"""Refusals name all mistakes of a command line at once, each with the nearest known word."""

import pytest
from uprank.configs import schema_train
from uprank.configs.errors import UserError
from uprank.configs.help import known_keys
from uprank.configs.validate_train import check_train


@pytest.mark.parametrize(
    ("argument", "near"),
    [
        ("trian.epochs=2", "train.epochs"),
        ("epochs=2", "train.epochs"),
        ("train.epoch=2", "train.epochs"),
        ("learning_rate=1", "optim.learning_rate"),
        ("optim.lr=1", "optim.learning_rate"),
        ("data.trian=x", "data.train"),
        ("experimant=quickstart", "experiment"),
        ("+train.epocs=2", "train.epochs"),
        ("++xyzzy=2", None),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(needed, refused, argument, near):
    key = argument.strip("+").split("=")[0]
    hint = f"; did you mean {near!r}?" if near else ""
    assert refused("train", *needed, argument) == [
        f"unknown setting {key!r}{hint}",
        "All settings: uprank train --help",
    ]


def test_keys_of_another_command_are_unknown(refused):
    first, *_ = refused("mine", "optim=adamw")
    assert first.startswith("unknown setting 'optim'")


def test_all_problems_of_a_command_line_at_once(refused):
    lines = refused(
        "train",
        "stray",
        "trian.epochs=2",
        "train.epochs=many",
        "seed=x",
        "train=5",
        "a b=c",
        "seed=[",
        "force=1",
    )
    assert lines[0] == "8 problems"
    assert lines[1:4] == [
        "'stray': settings are written KEY=VALUE",
        "unknown setting 'trian.epochs'; did you mean 'train.epochs'?",
        "train.epochs=many: Value 'many' of type 'str' could not be converted to Float",
    ]
    assert lines[4] == "seed=x: Value 'x' of type 'str' could not be converted to Integer"
    assert lines[5].startswith("train=5: train has several settings: train.epochs, train.max_steps")
    assert lines[6].startswith("a b=c: cannot be read")
    assert lines[7].startswith("seed=[: cannot be read")
    assert lines[8].startswith("unknown setting 'force'")


def test_missing_mandatory_values_are_listed_together_with_what_they_mean(refused):
    assert refused("train", "seed=3") == [
        "4 problems",
        *(
            line.strip()
            for key in ("data.dev", "data.train", "model.path", "output")
            for line in f"{key} is not set: {known_keys(schema_train.TrainCommand)[key]}".splitlines()
        ),
        "Set it on the command line: data.dev=…; all settings: uprank train --help",
    ]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "train.max_steps=1.5",
            "train.max_steps=1.5: Value '1.5' of type 'float' could not be converted to Integer",
        ),
        ("seed=null", "seed=null: field 'seed' is not Optional"),
        ("train.epochs=", "train.epochs=: Value '' of type 'str' could not be converted to Float"),
        (
            "dev.measures=MAP",
            "dev.measures=MAP: Invalid value assigned: str is not a ListConfig, list or tuple.",
        ),
        ("optim.betas=[a,b]", "optim.betas=[a,b]: Value 'a' of type 'str' could not be converted to Float"),
    ],
)
def test_a_value_of_a_wrong_type(needed, refused, argument, message):
    assert refused("train", *needed, argument)[0] == message


@pytest.mark.parametrize(
    ("argument", "known"),
    [("optim=adam", "adamw"), ("loss=pairwise", "listwise"), ("experiment=quikstart", "quickstart")],
)
def test_a_wrong_choice_of_a_group_names_the_choices(needed, refused, argument, known):
    first = refused("train", *needed, argument)[0]
    assert f"Could not find '{argument.replace('=', '/')}'" in first
    assert known in first


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("train.epochs=${nothing}",), "Interpolation key 'nothing' not found"),
        (("hydra.foo=3",), "Could not override 'hydra.foo'"),
        (("seed=1,2",), "Ambiguous value for argument 'seed=1,2'"),
        (("--config-name", "nothing"), "Cannot find primary config 'nothing'"),
    ],
)
def test_what_hydra_refuses_is_said_without_a_traceback(needed, compose, arguments, part):
    code, jobs, _, err = compose("train", *needed, *arguments)
    assert (code, jobs) == (2, [])
    assert part in err
    assert "HYDRA_FULL_ERROR" not in err


WRONG_VALUES = {
    "model.precision": "fp64",
    "model.max_tokens": 0,
    "model.query_tokens": -1,
    "model.hidden_dropout": 1.0,
    "train.group_size": 1,
    "train.epochs": 0.0,
    "train.queries_per_step": 0,
    "train.tokens_per_batch": 0,
    "train.patience": 0,
    "optim.learning_rate": 0.0,
    "optim.weight_decay": -0.1,
    "optim.warmup_ratio": 1.5,
    "optim.betas": [0.9],
    "loss.name": "pairwise",
    "loss.temperature": 0.0,
    "tracker.name": "papers",
    "threads": 0,
    "dev.max_queries": 0,
    "seed": -1,
}


def settings_with(values):
    settings = schema_train.TrainCommand()
    for key, value in values.items():
        *parents, name = key.split(".")
        target = settings
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, name, value)
    return settings


@pytest.mark.parametrize("key", WRONG_VALUES)
def test_a_value_that_no_run_can_mean_is_refused_by_its_name(key):
    with pytest.raises(UserError) as caught:
        check_train(settings_with({key: WRONG_VALUES[key]}))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key}={WRONG_VALUES[key]}: ")


def test_all_values_that_no_run_can_mean_are_refused_at_once():
    with pytest.raises(UserError) as caught:
        check_train(settings_with(WRONG_VALUES))
    assert {problem.split("=")[0] for problem in caught.value.problems} == WRONG_VALUES.keys()
