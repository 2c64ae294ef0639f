"""The score cache: exact, shared by processes, resumed after a kill, and harmless when its file is not."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from uprank.eval.score_cache import ScoreCache

VALUES = np.array(
    [0.1, -0.0, 1e-45, 3.4028235e38, -7.25, np.float32(1) / 3, 1.0000001, 12345.678], dtype=np.float32
)
PAIRS = [("q ü", f"p{k}") for k in range(4)] + [
    ("重排序", ""),
    ("", "p"),
    ("\udc80 surrogate", "p"),
    ("q ü", "x" * 9999),
]
CUT = np.arange(8) % 3 == 0


def texts(count, queries=10):
    return [(f"query {k % queries}", f"passage {k}") for k in sorted(range(count), key=lambda k: k % queries)]


@pytest.fixture
def cache(tmp_path):
    cache = ScoreCache(tmp_path / "deep" / "scores.sqlite")
    cache.write(PAIRS, VALUES, CUT)
    return cache


def holds(cache):
    scores, cut, found = cache.read(PAIRS)
    return found.all() and scores.tobytes() == VALUES.tobytes() and (cut == CUT).all()


def test_what_was_written_is_read_to_the_bit_by_another_process_too(cache):
    assert holds(cache)
    cache.close()
    assert holds(ScoreCache(cache.file))


def test_texts_decide_and_nothing_else_is_found(cache):
    others = [("q ü", "p4"), ("p0", "q ü"), ("q üp", "0"), ("Q ü", "p0"), ("q ü ", "p0")]
    scores, cut, found = cache.read([*others, PAIRS[4]])
    assert found.tolist() == [False] * 5 + [True]
    assert scores.tolist()[:5] == [0] * 5
    assert not cut[:5].any()
    assert [len(part) for part in cache.read([])] == [0, 0, 0]


def test_the_way_of_scoring_decides_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("UPRANK_CACHE", str(tmp_path / "own"))
    way = {"weights": "sha256:1", "budgets": [128, 512], "precision": "fp32"}
    file = ScoreCache.of(way).file
    assert file.is_relative_to(tmp_path / "own" / "scores")
    assert ScoreCache.of(dict(reversed(way.items()))).file == file
    changed = [{**way, "weights": "sha256:2"}, {**way, "budgets": [64, 512]}, {**way, "precision": "bf16"}]
    assert len({ScoreCache.of(other).file for other in [way, *changed]}) == 4
    monkeypatch.setattr("uprank.eval.score_cache.SCORING_VERSION", 2)
    assert ScoreCache.of(way).file != file


def test_what_is_no_number_is_never_kept(tmp_path):
    cache = ScoreCache(tmp_path / "scores.sqlite")
    scores = np.array([1, np.nan, np.inf, -np.inf, 2], dtype=np.float32)
    cache.write(PAIRS[:5], scores, CUT[:5])
    assert cache.read(PAIRS[:5])[2].tolist() == [True, False, False, False, True]


EVALUATION = textwrap.dedent(
    """
    import sys, time, json
    from pathlib import Path
    import numpy as np
    from uprank.data.groups import Collection
    from uprank.eval.retrieval import Candidates
    from uprank.eval.score_cache import ScoreCache
    from uprank.eval.scoring import Watch, score_candidates

    class Model:
        asked, max_tokens = 0, 100
        @property
        def pairs(self): return self
        def full_lengths(self, texts): return np.array([len(p) for _, p in texts])
        def score(self, texts):
            if Model.asked >= int(sys.argv[2]):
                print(Model.asked, flush=True)
                time.sleep(3600)  # until it is killed
            Model.asked += len(texts)
            return np.array([len(q) * 3 + len(p) / 7 for q, p in texts], dtype=np.float32)

    queries = {f"q{k}": f"query {k}" for k in range(20)}
    passages = {f"d{k}": "x" * k for k in range(200)}
    candidates = Candidates("bm25", 30, {q: {f"d{(7 * n + k) % 200}": 0.0 for k in range(30)}
                                         for n, q in enumerate(queries)}, "bm25")
    collection = Collection("f", queries, passages, {"q0": {"d0": 1}}, {})
    cache = ScoreCache(Path(sys.argv[1])) if sys.argv[1] else None
    scored = score_candidates(Model(), collection, candidates, cache=cache, watch=Watch(block_tokens=500))
    print(json.dumps([Model.asked, scored.cached, scored.truncated, scored.run]))
    """
)


def test_a_killed_evaluation_scores_only_the_rest(tmp_path):
    def start(file, stop=600):
        command = [sys.executable, "-c", EVALUATION, str(file), str(stop)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    file = tmp_path / "scores.sqlite"
    process = start(file, 200)
    assert int(process.stdout.readline()) >= 200
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = sqlite3.connect(file).execute("SELECT count(*) FROM scores").fetchone()[0]
    assert 100 < before < 600
    asked, cached, truncated, run = json.loads(start(file).communicate(timeout=300)[0].splitlines()[-1])
    assert (asked, cached) == (600 - before, before)
    alone = json.loads(start("").communicate(timeout=300)[0].splitlines()[-1])
    assert alone[:2] == [600, 0]
    assert [truncated, run] == alone[2:]


def overwritten(file):
    file.write_bytes(b"no database at all " * 1000)


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-5000])


def scrambled(file):
    content = bytearray(file.read_bytes())
    for place in range(1000, len(content), 97):
        content[place] ^= 0xFF
    file.write_bytes(bytes(content))


def one_bit_of_one_score(file):
    content = bytearray(file.read_bytes())
    value = sqlite3.connect(file).execute("SELECT value FROM scores LIMIT 1 OFFSET 300").fetchone()[0]
    place = content.index(value)
    content[place + 2] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [overwritten, cut_short, scrambled, one_bit_of_one_score])
def test_a_damaged_file_is_set_aside_with_one_line_and_never_believed(tmp_path, caplog, damage):
    file = tmp_path / "scores.sqlite"
    pairs, truth = texts(2000), np.arange(2000, dtype=np.float32) / 3
    cache = ScoreCache(file)
    cache.write(pairs, truth, np.zeros(2000, dtype=bool))
    cache.close()
    damage(file)
    again = ScoreCache(file)
    for start in range(0, 2000, 500):
        scores, _, found = again.read(pairs[start : start + 500])
        assert (scores[found] == truth[start : start + 500][found]).all()
        assert not scores[~found].any()
        again.write(pairs[start : start + 500], truth[start : start + 500], np.zeros(500, dtype=bool))
    (line,) = caplog.messages
    assert "is damaged" in line
    assert "set aside" in line
    assert len(list(tmp_path.glob("*.damaged-*"))) >= 1
    again.close()
    assert (ScoreCache(file).read(pairs)[0][1500:] == truth[1500:]).all()


def test_a_damaged_file_that_another_process_has_replaced_is_left_alone(tmp_path, caplog):
    file = tmp_path / "scores.sqlite"
    old = ScoreCache(file)
    file.rename(tmp_path / "moved")
    new = ScoreCache(file)
    new.write(PAIRS, VALUES, CUT)
    old._set_aside(sqlite3.DatabaseError("test"))
    assert holds(old)
    assert holds(new)
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_place_where_nothing_can_be_written_costs_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = ScoreCache(tmp_path / "file" / "scores" / "x.sqlite")
    cache.write(PAIRS, VALUES, CUT)
    assert not cache.read(PAIRS)[2].any()
    cache.write(PAIRS, VALUES, CUT)
    (line,) = caplog.messages
    assert "cannot be used" in line
    assert "scores are not kept" in line


def test_a_full_disk_costs_one_warning_and_what_was_kept_stays(cache, caplog):
    cache._connection.execute("PRAGMA max_page_count = 10")
    pairs = texts(5000)
    for _ in range(2):
        cache.write(pairs, np.ones(5000, dtype=np.float32), np.zeros(5000, dtype=bool))
    assert not cache.read(PAIRS)[2].any()  # it has been given up
    (line,) = caplog.messages
    assert "full" in line
    other = ScoreCache(cache.file)
    assert holds(other)
    assert not other.read(pairs)[2].any()


def test_a_read_only_file_costs_one_warning(cache, caplog):
    cache._connection.execute("PRAGMA query_only = 1")
    cache.write([("new", "pair")], VALUES[:1], CUT[:1])
    (line,) = caplog.messages
    assert "readonly" in line
    assert "scores are not kept" in line


def test_a_pair_costs_microseconds(tmp_path):
    pairs = [(f"query {k // 100}", f"passage {k % 7919} " * 20) for k in range(20_000)]
    scores, cut = np.arange(20_000, dtype=np.float32), np.zeros(20_000, dtype=bool)
    cache = ScoreCache(tmp_path / "scores.sqlite")
    start = time.process_time()
    for place in range(0, 20_000, 500):
        cache.write(pairs[place : place + 500], scores[place : place + 500], cut[place : place + 500])
    assert (cache.read(pairs)[0] == scores).all()
    assert (time.process_time() - start) / 20_000 < 200e-6  # a small model takes a thousand or more
