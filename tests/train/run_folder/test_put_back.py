"""A kill between the two renames of a folder leaves nothing lost."""

import pytest
from uprank.train.run_folder.atomic import put_back, write_folder


@pytest.mark.parametrize("name", ["best", "step-000004"])
def test_a_kill_between_the_renames(tmp_path, monkeypatch, name):
    target = tmp_path / name
    write_folder(target, lambda folder: (folder / "file").write_text("old"))
    real, done = type(target).replace, []

    def killed(self, other):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(type(target), "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_folder(target, lambda folder: (folder / "file").write_text("new"))
    assert not target.exists()
    put_back(tmp_path)
    assert (target / "file").read_text() == "old"
    write_folder(target, lambda folder: (folder / "file").write_text("new"))
    put_back(tmp_path)
    assert (target / "file").read_text() == "new"
