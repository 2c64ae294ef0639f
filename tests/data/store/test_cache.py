"""Cache entries are built once and never half-used; damage is noticed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from uprank.configs.errors import UserError
from uprank.configs.paths import cache_folder
from uprank.data.store import cache

BUILD = """
import sys, time
from pathlib import Path
from uprank.data.store import cache

def build(folder):
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    (folder / "half").write_text("half")
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "text").write_text("whole")
    return {"fact": 1}, True

print("asks", flush=True)
entry = cache.make_entry("kind", "name", build)
print((entry.folder / "text").read_text(), entry.facts, sorted(p.name for p in entry.folder.iterdir()))
"""


def build(folder: Path):
    (folder / "text").write_text("whole")
    (folder / "more").write_bytes(bytes(100_000))
    return {"fact": 1}, True


def refuse(folder):
    raise AssertionError("is there already")


def start(log, seconds):
    words = [sys.executable, "-c", BUILD, str(log), str(seconds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_an_entry_is_built_once():
    assert cache.find_entry("kind", "name") is None
    made = cache.make_entry("kind", "name", build)
    assert (made.folder / "text").read_text() == "whole"
    assert cache.make_entry("kind", "name", refuse) == made == cache.find_entry("kind", "name")
    assert made.folder == cache_folder() / "kind" / "name"
    assert cache.find_entry("kind", "other") is None


def test_processes_that_build_at_once_build_once(tmp_path):
    log = tmp_path / "log"
    processes = [start(log, 0.5) for _ in range(4)]
    said = [process.communicate(timeout=300)[0].splitlines()[-1] for process in processes]
    assert said == ["whole {'fact': 1} ['about.json', 'half', 'text']"] * 4
    assert log.read_text() == "built\n"


def test_a_build_that_is_killed_leaves_nothing_used(tmp_path):
    log = tmp_path / "log"
    killed = start(log, 3600)
    assert [killed.stdout.readline() for _ in range(2)] == ["asks\n", "begun\n"]
    waiting = start(log, 0)
    assert waiting.stdout.readline() == "asks\n"
    time.sleep(0.3)
    assert waiting.poll() is None  # for the lock
    assert cache.find_entry("kind", "name") is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert waiting.communicate(timeout=300)[0].endswith("['about.json', 'half', 'text']\n")
    assert log.read_text() == "built\n" * 2
    assert {path.name for path in (cache_folder() / "kind").iterdir()} <= {"name", "name.lock"}


def test_a_build_that_fails_leaves_nothing():
    def failing(folder):
        (folder / "text").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.make_entry("kind", "name", failing)
    assert {path.name for path in (cache_folder() / "kind").iterdir()} <= {"name.lock"}
    assert (cache.make_entry("kind", "name", build).folder / "text").read_text() == "whole"


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def other_fact(path):
    about = json.loads(path.read_text())
    about["facts"]["fact"] = 2
    path.write_text(json.dumps(about))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "more", 50_000),
        lambda folder: os.truncate(folder / "more", 99_999),
        lambda folder: (folder / "text").unlink(),
        lambda folder: (folder / "about.json").unlink(),
        lambda folder: (folder / "about.json").write_text("{"),
        lambda folder: (folder / "about.json").write_text("[]"),
        lambda folder: (folder / "about.json").write_text("{}"),
        lambda folder: other_fact(folder / "about.json"),
    ],
)
def test_a_damaged_entry_is_built_anew(damage, caplog):
    made = cache.make_entry("kind", "name", build)
    damage(made.folder)
    assert cache.find_entry("kind", "name") is None
    assert "damaged" in caplog.text
    again = cache.make_entry("kind", "name", build)
    assert (again.folder / "text").read_text() == "whole"
    assert (again.folder / "more").read_bytes() == bytes(100_000)
    assert again == cache.find_entry("kind", "name") == made


def test_what_is_not_to_be_kept_is_there_as_long_as_it_is_held():
    entry = cache.make_entry("kind", "name", lambda folder: (build(folder)[0], False))
    folder = entry.folder
    assert (folder / "text").read_text() == "whole"
    assert cache.find_entry("kind", "name") is None
    del entry
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UPRANK_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="UPRANK_CACHE") as caught:
        cache.make_entry("kind", "name", build)
    assert str(tmp_path / "file") in str(caught.value)


def test_the_hash_is_that_of_the_bytes(tmp_path, monkeypatch):
    import xxhash

    monkeypatch.setattr(cache, "BLOCK", 7)
    for data in (b"", b"1234567", b"12345678" * 5):
        (tmp_path / "file").write_bytes(data)
        assert cache.hash_file(tmp_path / "file") == xxhash.xxh3_128_hexdigest(data)
        assert cache.hash_file(tmp_path / "file", hashlib.sha256()) == hashlib.sha256(data).hexdigest()
