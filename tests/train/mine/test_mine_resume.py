"""Mining that is killed, started twice or shared by ranks writes the same bytes."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from uprank.configs.schema import DenseSettings
from uprank.configs.schema_data import MineCommand, MineDataSettings, TeacherSettings
from uprank.eval.processes import Share
from uprank.train.mine import command as mine_module
from uprank.train.mine.output import Parts
from uprank.train.mine.search import Search


@contextmanager
def killed_at(monkeypatch, number):
    """Kill mining at a query, in the middle of its line."""

    def write(log, entry, real=Parts.write):
        if entry["number"] == number:
            log._stream.write(b'{"number": 5, "line')
            raise KeyboardInterrupt
        real(log, entry)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "write", staticmethod(write))
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize("teacher", [False, True])
def test_a_killed_run_continues_and_ends_with_the_same_bytes(
    mined, beir, dense_model, tiny_bert, tmp_path, monkeypatch, teacher
):
    options = {"retriever": "hybrid", "dense": DenseSettings(path=str(dense_model)), "negatives": 5}
    options["teacher"] = TeacherSettings(path=str(tiny_bert) if teacher else None)
    mined(beir, tmp_path / "whole", **options)
    output = tmp_path / "killed" / "out"
    with killed_at(monkeypatch, 5):
        mined(beir, output, **options)
    assert not output.exists()
    searched = []
    real = Search.find
    monkeypatch.setattr(
        Search, "find", lambda self, queries: searched.append(len(queries)) or real(self, queries)
    )
    mined(beir, output, **options)
    assert searched == [12 - 5]
    assert output.read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in output.parent.iterdir()) == ["out", "out.origin.yaml"]


def test_other_settings_do_not_continue_what_was_left(mined, beir, tmp_path, monkeypatch):
    with killed_at(monkeypatch, 4):
        mined(beir, tmp_path / "out", negatives=5)
    mined(beir, tmp_path / "out", negatives=6)
    mined(beir, tmp_path / "other", negatives=6)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_second_start_is_refused_while_the_first_is_at_it(
    mined, mine_problems, beir, tmp_path, monkeypatch
):
    problems = []

    def write(stream, entry, real=Parts.write):
        if not problems:
            problems.append(mine_problems(beir, tmp_path / "out"))
        real(stream, entry)

    monkeypatch.setattr(Parts, "write", staticmethod(write))
    assert len(mined(beir, tmp_path / "out")) == 12
    assert problems == [[f"output={tmp_path / 'out'}: another process is mining it"]]


def test_two_processes_write_the_same_bytes_as_one(mined, beir, dense_model, tiny_bert, tmp_path):
    """One rank after the other; the slow test below starts real processes."""
    options = {"retriever": "hybrid", "dense": DenseSettings(path=str(dense_model)), "negatives": 5}
    options["teacher"] = TeacherSettings(path=str(tiny_bert))
    mined(beir, tmp_path / "one", **options)
    settings = MineCommand(data=MineDataSettings(train=str(beir)), output=str(tmp_path / "two"), **options)
    sources = mine_module._read(settings)
    assert mine_module._mine(settings, sources, Share(1, 2), None) is None
    entries = mine_module._mine(settings, sources, Share(0, 2), None)
    assert [entry["number"] for entry in entries] == list(range(12))
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.mark.slow
def test_processes_of_torchrun_write_the_same_bytes_as_one(beir, dense_model, tiny_bert, tmp_path):
    options = [f"data.train={beir}", "retriever=hybrid", f"dense.path={dense_model}", "negatives=5"]
    options += [f"teacher.path={tiny_bert}", "teacher.scores=true", "teacher.device=cpu"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    for count in (1, 2):
        module = [*torchrun * (count == 2), "uprank.train.mine"]
        command = [sys.executable, "-m", *module, *options, f"output={tmp_path / str(count)}"]
        # torchrun gives each process one thread.
        environment = os.environ | {"UPRANK_CACHE": str(tmp_path / f"cache{count}"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("negatives (") == 1
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "1",
        "1.origin.yaml",
        "2",
        "2.origin.yaml",
    ]
