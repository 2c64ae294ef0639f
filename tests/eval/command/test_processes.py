"""An evaluation by two processes: the report of one, and an end for both when one is in trouble."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import uprank.configs
from uprank.configs.command import fail
from uprank.configs.errors import UserError
from uprank.eval.audits.hardware import hardware_name
from uprank.eval.processes import is_main

CPU = Path(uprank.configs.__file__).parent / "accelerate" / "cpu.yaml"


def launched(launcher, module, *words):
    """A command of two processes on the CPU; one that waits for the other in vain waits half an hour."""
    start = {
        "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
        # accelerate's own `--cpu` starts one process, whatever --num_processes says.
        "accelerate": ["accelerate.commands.launch", "--config_file", str(CPU), "--main_process_port", "0"],
    }[launcher]
    command = [sys.executable, "-m", *start, "-m", module, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_report_what_one_does(launcher, tiny_xlmr, tiny_bert, beir, tmp_path, monkeypatch):
    words = [f"models={{base: {tiny_bert}, tuned: {tiny_xlmr}}}", f"data.test={beir}"]
    words += ["candidates=bm25", "depth=9"]
    alone = subprocess.run(
        [sys.executable, "-m", "uprank.eval", *words, "cache=false", f"output={tmp_path / 'one'}"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert alone.returncode == 0, alone.stderr
    monkeypatch.setenv("UPRANK_CACHE", str(tmp_path / "cache"))
    for name in ("two", "again"):  # the second time from the cache of both
        done = launched(launcher, "uprank.eval", *words, f"output={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("nDCG@10") == alone.stdout.count("nDCG@10")  # only one of the two speaks
    reports = {
        name: json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two", "again")
    }
    assert ["2 processes" in reports[name]["hardware"] for name in reports] == [False, True, True]
    pairs = reports["one"]["systems"][1]["pairs"]
    assert [[s["cached_pairs"] for s in reports[name]["systems"]] for name in reports] == [
        [0, 0, 0],
        [0, 0, 0],
        [0, pairs, pairs],
    ]
    for system in reports["one"]["systems"]:
        for name in ("two", "again"):
            (other,) = [s for s in reports[name]["systems"] if s["name"] == system["name"]]
            assert (other["pairs"], other["truncated_pairs"]) == (pairs, system["truncated_pairs"])
            assert other["results"] == system["results"]
    for run in (tmp_path / "one").rglob("*.run"):
        lines = [line.split() for line in run.read_text().splitlines()]
        for name in ("two", "again"):
            there = (tmp_path / name / run.relative_to(tmp_path / "one")).read_text().splitlines()
            assert [line.split()[:4] for line in there] == [line[:4] for line in lines]
            scores = [float(line.split()[4]) for line in there]
            assert scores == pytest.approx([float(line[4]) for line in lines], abs=1e-5)
    assert list((tmp_path / "one").rglob("*.run"))


@pytest.mark.slow
def test_a_mistake_ends_both_processes_with_one_message(tiny_xlmr, beir, tmp_path):
    words = [f"data.test={beir}", "model.device=cpu", f"output={tmp_path / 'out'}"]
    done = launched("torchrun", "uprank.eval", f"model.path={tmp_path / 'gone'}", *words)
    assert done.returncode != 0
    assert done.stderr.count("no such folder") == 1
    assert not (tmp_path / "out").exists()


TROUBLE = """
import sys
import numpy as np
from uprank.eval.processes import is_main
from uprank.model.reranker import Reranker
from uprank.eval import __main__ as command

kind, score = sys.argv.pop(1), Reranker.score

def broken(self, pairs, **settings):
    if kind == "crash" and not is_main():
        raise MemoryError("no room")
    scores = score(self, pairs, **settings)
    return scores if is_main() else np.full_like(scores, np.nan)

Reranker.score = broken
command.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["crash", "nan"])
def test_trouble_in_one_process_ends_both(kind, tiny_xlmr, beir, tmp_path, monkeypatch):
    (tmp_path / "trouble.py").write_text(TROUBLE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = [kind, f"model.path={tiny_xlmr}", f"data.test={beir}", "model.device=cpu", "candidates=bm25"]
    done = launched("torchrun", "trouble", *words, f"output={tmp_path / 'out'}")
    assert done.returncode != 0
    assert not (tmp_path / "out").exists()
    if kind == "crash":
        assert "MemoryError: no room" in done.stderr
    else:
        assert done.stderr.count("score nan for query") == 5
        assert done.stderr.count("and 59 more") <= 1
        assert "score_candidates" not in done.stderr  # the only traceback is that of the launcher


@pytest.mark.parametrize(
    ("rank", "size", "expected"),
    [(None, None, True), ("0", "2", True), ("1", "2", False), ("1", None, True), ("1", "1", True)],
)
def test_the_only_process_is_the_main_one(monkeypatch, rank, size, expected):
    for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert is_main() is expected


@pytest.mark.parametrize(("size", "said"), [("1", True), ("2", False)])
def test_mistakes_are_said_by_the_only_process_or_the_first(monkeypatch, capsys, size, said):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(SystemExit):
        fail("eval", UserError("this is wrong"))
    assert ("this is wrong" in capsys.readouterr().err) is said


def test_the_machine_is_said_with_its_processes(monkeypatch):
    import torch

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert "process" not in hardware_name("cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert f"2 processes of {torch.get_num_threads()} thread" in hardware_name("cpu")
