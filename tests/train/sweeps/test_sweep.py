"""A sweep of training runs: its table, the luck of the best, finished jobs that are counted again."""

import json
import shutil
import sys

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from uprank.train.__main__ import main
from uprank.train.sweeps.luck import expected_maximum, read_results, selection_error
from uprank.train.sweeps.sweep import closing


@pytest.fixture
def sweep(monkeypatch, capsys, tmp_path, tiny_xlmr, jsonl):
    """Run `uprank train -m` on the tiny data: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        GlobalHydra.instance().clear()
        given = [f"model.path={tiny_xlmr}", f"data.train={jsonl[0]}", f"data.dev={jsonl[1]}", "output=sweep"]
        given += ["train.max_steps=2", "train.queries_per_step=8", "model.device=cpu", "threads=1", *words]
        monkeypatch.setattr(sys, "argv", ["uprank train", "-m", *given])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    yield run
    GlobalHydra.instance().clear()


def test_a_sweep_of_real_runs(sweep, tmp_path, jsonl):
    words = ["optim.learning_rate=1e-3,-1,1e-2"]
    code, out, err = sweep(*words)
    assert code == 1
    assert "  sweep/1: optim.learning_rate=-1.0: must be a number above 0" in err
    folder, values = tmp_path / "sweep", {}
    for job in ("0", "2"):
        report = json.loads((folder / job / "eval" / "final" / "report.json").read_text())
        (tuned,) = (system for system in report["systems"] if system["name"] == "tuned")
        values[job] = tuned["results"]["nDCG@10"]
    best = max(values, key=lambda job: values[job]["mean"])
    table = out[out.rindex("job ") :].splitlines()
    assert table[0].split() == ["job", "learning_rate", "dev", "nDCG@10", "95", "%", "base", "state"]
    for line in table[1:3]:
        job, rate, mean, low, high = line.split()[:5]
        assert (float(rate), mean) == ({"0": 1e-3, "2": 1e-2}[job], f"{values[job]['mean']:.4f}")
        assert (low, high) == (f"[{values[job]['low']:.4f},", f"{values[job]['high']:.4f}]")
    assert table[1].split()[0] == best
    assert f"Best on the dev queries: sweep/{best} (optim.learning_rate=" in table[3]
    assert table[4] == "It is the best of 2 runs, so its value flatters it."
    assert table[5].startswith(
        "With 2 equally good runs on these 12 queries, the best would exceed their mean"
    )
    assert table[6].endswith(f"uprank eval model.path=sweep/{best}/best data.test=… output=…")
    # Started again with the mistake mended in its place: only that job runs, the others are counted.
    before = {job: (folder / job / "manifest.json").stat().st_mtime_ns for job in ("0", "2")}
    code, out, err = sweep("optim.learning_rate=1e-3,2e-3,1e-2")
    assert (code, err.count("already finished")) == (0, 2)
    assert before == {job: (folder / job / "manifest.json").stat().st_mtime_ns for job in ("0", "2")}
    assert "best of 3 runs" in out
    # A job that now means something else is told, not mistaken for done.
    code, _, err = sweep("optim.learning_rate=5e-3,2e-3,1e-2")
    assert code == 1
    assert "sweep/0: output=sweep/0: holds a finished run of other settings (optim.learning_rate=0.001" in err
    for other in (
        "loss.weights={bce: 1}",
        "train.ema=0.5",
        f"data.dev={shutil.copy(jsonl[1], 'copy.jsonl')}",
    ):
        code, _, err = sweep(*words, other)
        assert (code, err.count("already finished")) == (1, 0), other
        assert "2: output=sweep/2: holds a finished run of other settings" in err


@pytest.mark.slow
def test_optuna_makes_the_dev_measure_as_large_as_possible(sweep, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ["hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=3"]
    words += ["hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=1"]
    code, out, _ = sweep(*words, '"optim.learning_rate=tag(log, interval(1e-4, 1e-2))"'.strip('"'))
    assert code == 0
    assert "best of 3 runs" in out
    import yaml

    found = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    means = []
    for job in range(3):
        report = json.loads((tmp_path / "sweep" / str(job) / "eval" / "final" / "report.json").read_text())
        means += [s["results"]["nDCG@10"]["mean"] for s in report["systems"] if s["name"] == "tuned"]
    assert found["best_value"] == pytest.approx(max(means))


def test_the_luck_of_the_best_against_simulated_sweeps():
    """Equally good runs on queries of different difficulty: what of the noise takes part in the choice."""
    generator, runs, queries, noise = np.random.default_rng(0), 6, 40, 0.2
    leads, errors = [], []
    for _ in range(2000):
        difficulty = generator.normal(0, 1.0, queries)
        values = difficulty + generator.normal(0, noise, (runs, queries))
        means = values.mean(axis=1)
        leads.append(means.max() - difficulty.mean())
        errors.append(selection_error(values))
    assert np.mean(errors) == pytest.approx(noise / np.sqrt(queries), rel=0.02)
    luck = expected_maximum(runs) * np.mean(errors)
    assert luck == pytest.approx(np.mean(leads), rel=0.06)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_the_largest_of_normal_deviates(count):
    drawn = np.random.default_rng(1).normal(size=(200_000, count)).max(axis=1).mean()
    assert expected_maximum(count) == pytest.approx(drawn, abs=0.01)


def test_runs_on_different_queries_are_not_compared(sweep, tmp_path):
    from uprank.train.sweeps import runs
    from uprank.train.sweeps.luck import luck_of_best
    from uprank.train.sweeps.rows import read_runs

    assert sweep("dev.max_queries=6", "seed=1,2")[0] == 0
    folder = tmp_path / "sweep"
    results = read_results(folder, read_runs(folder, []))
    assert closing(folder, results, ["seed"]) == [
        "These runs differ in the sample of their dev queries: their values cannot be compared."
    ]
    assert runs.closing(read_runs(folder, []))[0] == closing(folder, results, ["seed"])[0]  # the same rule
    assert luck_of_best(folder, read_runs(folder, [])) == []
    assert closing(folder, results[:1], ["seed"]) == []
