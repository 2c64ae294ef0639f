"""Runs killed at random instants end with the same bits as an undisturbed one (contract 3)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "crashes.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="every start is a fork")
@pytest.mark.parametrize(
    ("processes", "kills"),
    [
        ("1", 8),  # one of each kind
        ("2", 3),
        ("1,2", 2),  # begun by one, killed, continued by two, killed, continued by one: to rounding
    ],
)
def test_killed_runs_end_as_if_they_had_not_been(tmp_path, processes, kills):
    if not SCRIPT.is_file():  # the tests against an installed wheel
        pytest.skip("the benchmarks are in the checkout alone")
    words = ["--work", str(tmp_path), "--kills", str(kills), "--processes", processes]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    killed, differ = re.search(r"(\d+) kills .*; (\d+) runs differ", done.stdout).groups()
    assert int(killed) >= kills - 1  # a slow machine may end a run before its kill
    assert int(differ) == 0
    assert done.stdout.count(": the same") == kills
