"""Fixtures that compose commands from words to settings without running them."""

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from uprank.configs import schema_data, schema_eval, schema_publish, schema_train
from uprank.configs.command import run

SCHEMAS = {
    "check": schema_data.CheckCommand,
    "split": schema_data.SplitCommand,
    "mine": schema_data.MineCommand,
    "train": schema_train.TrainCommand,
    "eval": schema_eval.EvalCommand,
    "publish": schema_publish.PublishCommand,
    "runs": schema_train.RunsCommand,
    "verify": schema_publish.VerifyCommand,
    "score": schema_eval.ScoreCommand,
}


@pytest.fixture(scope="session")
def schemas():
    """The schema of every command."""
    return SCHEMAS


@pytest.fixture(scope="session")
def needed():
    """Required words of `uprank train`."""
    return ("model.path=m", "data.train=t", "data.dev=d", "output=o")


@pytest.fixture
def compose(monkeypatch, capsys, tmp_path):
    """Compose a command without running it; return (code, settings of each job, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()

    def compose(command, *arguments, function=None, sweep=None, traceback=False):
        jobs = []
        monkeypatch.setattr(sys, "argv", [f"uprank {command}", *arguments])
        code = 0
        try:
            run(command, SCHEMAS[command], function or jobs.append, sweep)
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        assert traceback or "Traceback" not in err
        return code, jobs, out, err

    yield compose
    GlobalHydra.instance().clear()


@pytest.fixture
def refused(compose, tmp_path):
    """Return the lines of a refusal: exit code 2, the function not called, nothing written."""

    def refused(command, *arguments):
        code, jobs, out, err = compose(command, *arguments)
        assert (code, jobs, out) == (2, [], "")
        assert list(tmp_path.iterdir()) == []
        assert err.startswith(f"uprank {command}: ")
        return [line.strip() for line in err.removeprefix(f"uprank {command}: ").splitlines()]

    return refused
