"""An output folder is held by one evaluation; one that was killed or ran out of room is taken up again."""

import errno
from pathlib import Path

import pytest
from filelock import FileLock
from uprank.configs.errors import UserError
from uprank.eval.report import output as module
from uprank.eval.report.output import require_new, reserved
from uprank.eval.results import Report

SMALL = ("depth=4", "candidates=bm25", "model.max_tokens=64", "model.query_tokens=16", "threads=1")


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_is_held_by_one_evaluation(tmp_path):
    with reserved(tmp_path / "out"):
        assert (tmp_path / "out" / ".unfinished").exists()
        with (
            pytest.raises(UserError, match="another evaluation is writing there"),
            reserved(tmp_path / "out"),
        ):
            pass
    assert not (tmp_path / "out").exists()  # nothing was written: a failed start leaves no folder


def test_what_a_killed_evaluation_left_is_written_anew(tmp_path):
    out = tmp_path / "out"
    (out / "law" / "runs").mkdir(parents=True)
    for name in (
        ".unfinished",
        ".lock",
        "table.md",
        ".report.json.part",
        "law/report.json",
        "law/runs/a.run",
    ):
        (out / name).write_text("half")
    require_new(out)
    (out / "report.json").write_text("{}")  # killed after it, before the end
    with reserved(out):
        assert names(out) == [".lock", ".unfinished"]
        (out / "report.json").write_text("{}")
    assert names(out) == ["report.json"]
    with pytest.raises(UserError, match="exists"):
        require_new(out)


@pytest.mark.parametrize("there", ["mine.txt", "folder/mine.txt"])
def test_files_of_others_are_never_removed(tmp_path, there):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    for name in (".unfinished", there):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="exists"), reserved(tmp_path):
        pass
    assert (tmp_path / there).read_text() == "mine"


def test_two_evaluations_at_once_do_not_mix(call, beir, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        assert call(f"data.test={beir}", *SMALL, f"output={tmp_path / 'out'}") == 2
    assert "another evaluation is writing there" in capsys.readouterr().err


def test_after_a_full_disk_the_same_command_continues(call, beir, tmp_path, capsys, monkeypatch):
    out, write = tmp_path / "out", Path.write_text

    def full(self, text, *rest, **more):
        if self.name == "report.html":
            write(self, text[: len(text) // 2], *rest, **more)
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return write(self, text, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert call(f"data.test={beir}", *SMALL, f"output={out}") == 2
    err = capsys.readouterr().err
    assert "cannot be written" in err
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert not (out / "report.json").exists()  # nothing half-written is taken for a report
    with pytest.raises(UserError, match="no report here"):
        Report.load(out)
    assert call(f"data.test={beir}", *SMALL, f"output={out}") == 0
    assert Report.load(out).queries == 8
    assert not {module.LOCK, module.UNFINISHED} & set(names(out))
