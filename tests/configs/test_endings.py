"""How commands end: one sentence for what the system refuses, whatever the terminal can show."""

import errno
import json
import os
import subprocess
import sys

import pytest
from uprank.configs import command
from uprank.configs.help import known_keys, nearest
from uprank.configs.schema_eval import ScoreCommand
from uprank.configs.schema_train import TrainCommand
from uprank.configs.validate import above_zero


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG])
def test_errors_of_the_system_are_a_sentence(monkeypatch, capsys, code):
    def full(settings):
        raise OSError(code, os.strerror(code), "some/file")

    monkeypatch.setattr(sys, "argv", ["uprank score", "model.path=x"])
    with pytest.raises(SystemExit) as caught:
        command.run("score", ScoreCommand, full)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"uprank score: some/file: {os.strerror(code)}" in said
    assert ("Make room" in said) == (code == errno.ENOSPC)


def test_a_defect_of_ours_stays_a_traceback(monkeypatch):
    def wrong(settings):
        raise FileNotFoundError(errno.ENOENT, "no", "x")

    monkeypatch.setattr(sys, "argv", ["uprank score", "model.path=x"])
    with pytest.raises(FileNotFoundError):
        command.run("score", ScoreCommand, wrong)


@pytest.mark.parametrize("words", [["train", "--help"], ["check", "data.train=表.csv"], ["help", "mine"]])
def test_a_terminal_that_is_not_utf8(tmp_path, words):
    (tmp_path / "表.csv").write_text("查询,段落,标签\n甲乙,丙丁,1\n", encoding="utf-8")
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "LANG": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "uprank", *words], cwd=tmp_path, env=os.environ | plain, capture_output=True
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == (1 if words[0] == "check" else 0)
    assert done.stdout


def test_commands_are_suggested():
    done = subprocess.run([sys.executable, "-m", "uprank", "trian"], capture_output=True, text=True)
    assert (done.returncode, "did you mean 'train'?" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("optim.lr", "optim.learning_rate"), ("lr", "optim.learning_rate"), ("epochs", "train.epochs")],
)
def test_short_names_are_understood(typed, meant):
    assert nearest(typed, known_keys(TrainCommand)) == f"; did you mean {meant!r}?"


def test_threads_have_a_limit():
    assert above_zero({"threads": 100_000}) == ["threads=100000: allowed are whole numbers from 1 to 1,024"]


def test_scores_are_utf8_whatever_the_terminal(tiny_bert):
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "LANG": "C"}
    row = {"query": "重排序", "passage": "😀 text"}
    done = subprocess.run(
        [sys.executable, "-m", "uprank", "score", f"model.path={tiny_bert}", "threads=1"],
        input=json.dumps(row, ensure_ascii=False).encode(),
        env=os.environ | plain,
        capture_output=True,
    )
    assert {key: json.loads(done.stdout.decode())[key] for key in row} == row
