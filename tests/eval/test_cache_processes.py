"""The score cache between processes: made, written and read by several at once."""

import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from uprank.eval.score_cache import ScoreCache

WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    from uprank.eval.score_cache import ScoreCache
    number = int(sys.argv[2])
    cache = ScoreCache(Path(sys.argv[1]))
    for start in range(0, 3000, 100):
        pairs = [(f"query {k % 10}", f"passage {k}") for k in range(start, start + 150)]  # they overlap
        cache.write(pairs, np.arange(start, start + 150, dtype=np.float32) / 7, np.arange(150) % 2 == 0)
        scores, _, found = cache.read(pairs)
        assert found.all() and (scores == np.arange(start, start + 150, dtype=np.float32) / 7).all()
    """
)


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    file = tmp_path / "scores.sqlite"
    command = [sys.executable, "-c", WRITER, str(file)]
    started = [subprocess.Popen([*command, str(k)], stderr=subprocess.PIPE, text=True) for k in range(3)]
    for process in started:
        assert process.communicate(timeout=300) == (None, "")
        assert process.returncode == 0
    pairs = [(f"query {k % 10}", f"passage {k}") for k in range(3050)]
    scores, _, found = ScoreCache(file).read(pairs)
    assert found.all()
    assert (scores == np.arange(3050, dtype=np.float32) / 7).all()


@pytest.mark.parametrize(("wait", "kept"), [(30.0, True), (0.1, False)])
def test_a_new_file_that_another_process_holds_is_waited_for(tmp_path, monkeypatch, caplog, wait, kept):
    monkeypatch.setattr("uprank.eval.score_cache.WAIT", wait)
    file = tmp_path / "scores.sqlite"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # the journal of such a file cannot be changed, and SQLite does not wait
    release = threading.Timer(0.5, other.execute, ["ROLLBACK"])
    if kept:
        release.start()
    cache = ScoreCache(file)
    if not kept:  # whose time is over, however long it took
        release.start()
    release.join()
    cache.write([("q", "p")], np.ones(1, dtype=np.float32), np.zeros(1, dtype=bool))
    assert cache.read([("q", "p")])[2].tolist() == [kept]
    assert ["locked" in line for line in caplog.messages] == [True] * (not kept)


TOGETHER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import numpy as np
    from uprank.eval.score_cache import ScoreCache
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    for number in range(12):
        while time.time() < start + number / 4: pass
        cache = ScoreCache(Path(sys.argv[1]) / f"{number}.sqlite")
        cache.write([("q", sys.argv[2])], np.ones(1, dtype=np.float32), np.zeros(1, dtype=bool))
        assert cache.read([("q", sys.argv[2])])[2].all()
        cache.close()
    """
)


def test_processes_that_make_the_file_at_once_all_keep_their_scores(tmp_path):
    command, pipes = (
        [sys.executable, "-c", TOGETHER, str(tmp_path)],
        dict.fromkeys(("stdin", "stdout"), subprocess.PIPE),
    )
    started = [subprocess.Popen([*command, str(k)], text=True, **pipes) for k in range(5)]
    assert [process.stdout.readline() for process in started] == ["ready\n"] * 5
    begin = f"{time.time() + 0.3}\n"
    for process in started:
        process.stdin.write(begin)
        process.stdin.flush()
    assert [process.wait(timeout=300) for process in started] == [0] * 5
    for number in range(12):
        assert ScoreCache(tmp_path / f"{number}.sqlite").read([("q", str(k)) for k in range(5)])[2].all()
