"""The folder is made beside its place; what a killed command left does not stay and does not block."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from uprank.publish.folder import building


def test_a_killed_command_leaves_nothing_for_long_and_blocks_nobody(tmp_path):
    script = f"""
        from pathlib import Path
        from uprank.publish.folder import building
        with building(Path({str(tmp_path / "pub")!r})) as making:
            (making / "weights").write_text("copy")
            print("ready", flush=True)
            input()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"ready\n"
        with building(tmp_path / "pub") as making:  # beside one that is alive
            assert len(list(tmp_path.glob(".pub.making-*/weights"))) == 1
            assert making.stat().st_mode & 0o777 == 0o777 & ~umask()
            making.joinpath("a").write_text("b")
        (tmp_path / "pub").rename(tmp_path / "first")
        other.send_signal(signal.SIGKILL)
    # as in a container, where every process has the same id: only the lock tells
    left, _ = sorted(tmp_path.glob(".pub.making-*"))
    left.rename(tmp_path / f".pub.making-{os.getpid()}")
    left.with_name(left.name + ".lock").rename(tmp_path / f".pub.making-{os.getpid()}.lock")
    (tmp_path / ".pub2.making-1").mkdir()
    with building(tmp_path / "pub"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pub2.making-1", "first", "pub"]


def test_nothing_stays_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), building(tmp_path / "[a]"):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
