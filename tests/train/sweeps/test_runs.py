"""Runs side by side: states, the best one, what differs, and what the table does not prove."""

import json
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from uprank.configs.errors import UserError
from uprank.configs.schema_train import TrainCommand
from uprank.train.sweeps.rows import differing, read_runs
from uprank.train.sweeps.runs import closing, main


def make(folder, *, dev=(), finished=True, measure="nDCG@10", **settings):
    """A run folder with these dev values by step."""
    folder.mkdir(parents=True)
    given = OmegaConf.structured(TrainCommand(output=str(folder)))
    for name, value in {"data.train": "t", "data.dev": "d", "model.path": "m", **settings}.items():
        OmegaConf.update(given, name.replace("__", "."), value)
    OmegaConf.save(given, folder / "config.yaml")
    manifest = {"steps": 90, "finished": None}
    manifest |= {"finished": "now", "verdict": "better", "seconds": 1800.0} if finished else {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rows = [{"step": step, "dev": {measure: value, "MRR@10": 0.0}} for step, value in dev]
    rows.insert(1, {"step": 7, "loss": 1.0})
    text = "\n".join(map(json.dumps, rows if dev else []))
    (folder / "metrics.jsonl").write_text(text + '\n{"step": 40, "lo')  # as a kill leaves it
    return folder


@pytest.fixture
def runs(tmp_path):
    make(tmp_path / "sweep" / "0", dev=[(0, 0.5), (30, 0.6), (60, 0.55)], seed=1)
    make(tmp_path / "sweep" / "1", dev=[(0, 0.5), (30, 0.4), (60, 0.71)], optim__learning_rate=1e-4)
    make(tmp_path / "alone", dev=[(0, 0.5)], finished=False)
    (tmp_path / "sweep" / "1" / "eval").mkdir()
    (tmp_path / "sweep" / "1" / "eval" / "manifest.json").write_text("{}")  # no run: it has no settings
    return tmp_path


def test_best_first_with_state_base_and_step(runs):
    rows = read_runs(runs, [])
    assert [(r.name, r.state, r.base, r.best, r.step, r.hours) for r in rows] == [
        ("sweep/1", "finished", 0.5, 0.71, 60, 0.5),
        ("sweep/0", "finished", 0.5, 0.6, 30, 0.5),
        ("alone", "step 7 of 90", 0.5, None, None, None),
    ]
    assert {row.measure for row in rows} == {"nDCG@10"}


def test_the_settings_that_differ(runs):
    assert differing(read_runs(runs, [])) == ["optim.learning_rate", "seed"]
    assert differing(read_runs(runs / "sweep" / "0", [])) == []


def test_the_best_of_many_is_said_to_flatter_itself(runs, tmp_path):
    text = " ".join(closing(read_runs(runs, [])))
    assert "Best on the dev queries: sweep/1, nDCG@10 0.7100" in text
    assert "the best of 2 runs" in text
    assert "uprank eval" in text
    assert "best of" not in " ".join(closing(read_runs(runs / "sweep" / "0", [])))


@pytest.mark.parametrize(
    "other", [{"measure": "MRR@10"}, {"data__dev": "others"}, {"dev__depth": 7}, {"dev__max_queries": 9}]
)
def test_values_on_different_queries_or_measures_are_not_compared(runs, other):
    make(runs / "other", dev=[(0, 0.1), (30, 0.9)], **other)
    text = " ".join(closing(read_runs(runs, [])))
    assert "cannot be compared" in text
    assert "Best on" not in text


def test_failed_jobs_are_named_with_the_reason(runs, capsys, monkeypatch):
    make(runs / "sweep" / "2", dev=[(0, 0.5)], finished=False)
    (runs / "sweep" / ".jobs").mkdir()
    (runs / "sweep" / ".jobs" / "2.json").write_text('["not enough memory", "Set a smaller budget."]')
    (runs / "sweep" / ".jobs" / "3.json").write_text('["data.train=x: no such file"]')
    assert {row.name: row.state for row in read_runs(runs, [])}["sweep/2"] == "failed, step 7 of 90"
    monkeypatch.setattr(sys, "argv", ["uprank runs", f"folder={runs}"])
    main()
    said = capsys.readouterr().out
    assert "sweep/2: failed: not enough memory; Set a smaller budget." in said
    assert "sweep/3: failed: data.train=x: no such file" in said


def test_where_every_job_failed_before_it_began(tmp_path):
    (tmp_path / ".jobs").mkdir()
    (tmp_path / ".jobs" / "0.json").write_text('["no such loss"]')
    with pytest.raises(UserError, match=r"/0: failed: no such loss"):
        read_runs(tmp_path, [])


def test_moved_dev_queries_are_the_same_queries(runs):
    for name, where in ("one", "here"), ("two", "there"):
        made = make(runs / "moved" / name, dev=[(0, 0.5), (30, 0.6)], data__dev=where)
        manifest = json.loads((made / "manifest.json").read_text())
        manifest["data"] = {"dev": {"fingerprint": "sha256:1"}}
        (made / "manifest.json").write_text(json.dumps(manifest))
    assert "Best on the dev queries" in closing(read_runs(runs / "moved", []))[0]


def test_no_run_and_broken_runs_are_named(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run in it"):
        read_runs(tmp_path / "empty", [])
    with pytest.raises(UserError, match="no such folder"):
        read_runs(tmp_path / "gone", [])
    broken = {"sweep/0/manifest.json": "[", "alone/config.yaml": "a: [", "sweep/1/config.yaml": "3\n"}
    for number, (name, text) in enumerate(broken.items(), 1):
        (runs / name).write_text(text)
        if number < 3:
            problems = []
            assert len(read_runs(runs, problems)) == 3 - number  # the others are shown
            assert len(problems) == number
            assert any(str((runs / name).parent) in problem for problem in problems)
    with pytest.raises(UserError) as caught:
        read_runs(runs, [])
    assert len(caught.value.problems) == 3


def test_a_value_that_is_no_number_is_not_the_best(runs):
    make(runs / "nan", dev=[(0, 0.5), (30, float("nan")), (60, 0.2)])
    (row,) = (row for row in read_runs(runs, []) if row.name == "nan")
    assert (row.best, row.step) == (0.2, 60)


def test_the_command(runs, monkeypatch, capsys):
    GlobalHydra.instance().clear()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["uprank runs", f"folder={runs}"])
    try:
        main()
    finally:
        GlobalHydra.instance().clear()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "run",
        "state",
        "dev",
        "nDCG@10",
        "base",
        "at",
        "step",
        "hours",
        "optim.learning_rate",
        "seed",
    ]
    assert lines[1].split() == ["sweep/1", "finished", "0.7100", "0.5000", "60", "0.50", "0.0001", "0"]
