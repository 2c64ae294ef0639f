"""Texts by id on disk equal those of a dict, in little memory; every defect is named by line."""

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from uprank.configs.paths import cache_folder
from uprank.data.judged import texts as corpus
from uprank.data.judged.texts import open_texts
from uprank.data.problems import NOT_UTF8, Problems
from uprank.data.store import keyed_store as store
from uprank.data.store.mapped import MappedFile


def file(tmp_path, name, *lines):
    path = tmp_path / name
    data = b"".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def opened(path):
    problems = Problems()
    return open_texts(path, problems), problems


def entries():
    return [path for path in (cache_folder() / "texts").glob("[!.]*") if path.is_dir()]


TEXTS = {f"d{k}": f"text {k} é中\u2028 {k * k}" for k in np.random.default_rng(0).permutation(2000).tolist()}


@pytest.mark.parametrize("name", ["c.tsv", "c.jsonl", "c.tsv.gz", "c.jsonl.gz", "c.TSV"])
def test_every_text_is_found_by_its_id_and_nothing_else(tmp_path, name):
    rows = [
        f"{key}\t{text}\r\n" if "tsv" in name.lower() else json.dumps({"_id": key, "text": text}) + "\n"
        for key, text in TEXTS.items()
    ]
    texts, problems = opened(file(tmp_path, name, "\ufeff", *rows[:7], "\n", *rows[7:]))
    assert problems == []
    assert len(texts) == len(TEXTS)
    ids = [*TEXTS, "d2000", "", "D1", " d1"]
    assert texts.look_up(ids) == [TEXTS.get(key) for key in ids]
    assert texts.look_up(ids[::-1]) == [TEXTS.get(key) for key in ids[::-1]]
    assert texts.look_up([]) == []


def test_a_title_stands_before_the_text(tmp_path):
    rows = [{"_id": "a", "title": "T", "text": "t"}, {"_id": "b", "title": "", "text": " t"}]
    rows += [{"_id": "c", "title": "T", "text": ""}]
    texts, problems = opened(file(tmp_path, "c.jsonl", *(json.dumps(row) + "\n" for row in rows)))
    assert (texts.look_up(["a", "b", "c"]), problems) == (["T t", " t", "T"], [])


def test_a_file_is_read_once_and_anew_when_it_changes(tmp_path, monkeypatch):
    path = file(tmp_path, "c.tsv", "a\tone\n")
    opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "read_texts", None)
        moved = path.rename(tmp_path / "elsewhere.tsv")
        assert opened(moved)[0].look_up(["a"]) == ["one"]
    assert opened(file(tmp_path, "c.tsv", "a\ttwo\n"))[0].look_up(["a"]) == ["two"]
    assert len(entries()) == 2


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, monkeypatch):
    path = file(tmp_path, "c.tsv", "a\tone\n")
    read = corpus.read_texts

    def changing(path, problems):
        yield from read(path, problems)
        path.write_text("a\tanother\n")

    monkeypatch.setattr(corpus, "read_texts", changing)
    assert opened(path)[1] == [f"{path}: was changed while it was read"]
    assert not entries()


def test_ids_that_share_half_of_their_hash_are_not_mixed_up(tmp_path, monkeypatch):
    whole = store.hash_text
    for module in (store, corpus):
        monkeypatch.setattr(module, "hash_text", lambda text: bytes(8) + whole(text)[8:])
    keys = [f"k{k}" for k in range(50)]
    texts, problems = opened(file(tmp_path, "c.tsv", *(f"{key}\ttext of {key}\n" for key in keys)))
    assert problems == []
    assert texts.look_up([*keys, "other"]) == [*(f"text of {key}" for key in keys), None]


def test_everything_wrong_in_a_table_is_named_by_line_and_the_rest_is_there(tmp_path):
    path = file(
        tmp_path,
        "c.tsv",
        "a\tone\n",
        "b\n",
        "c\ttitle\ttext\n",
        "\tno id\n",
        "d e\tblank\n",
        "f\t \n",
        b"g\t\xff\n",
        "a\tagain\n",
        "h\tlast\n",
        "a\tagain\n",
        "i\n",
    )
    texts, problems = opened(path)
    two = "columns separated by tabs; must be two, id and text"
    assert problems == [
        f"{path}:2: 1 {two}",
        f"{path}:3: 3 {two}",
        f"{path}:4: id '' is empty or has white space",
        f"{path}:5: id 'd e' is empty or has white space",
        f"{path}:6: empty text",
        f"{path}:7: byte 2 is {NOT_UTF8}",
        f"{path}:8: `_id` 'a' stands twice in this file",
        f"{path}:10: `_id` 'a' stands twice in this file",
        f"{path}:11: 1 {two}",
    ]
    assert problems.kinds == ["row"] * 4 + ["empty document", "encoding", "twice", "twice", "row"]
    assert texts.look_up(["a", "h", "b", "f"]) == ["one", "last", None, None]
    assert not entries()
    assert opened(path)[1] == problems  # also the second time


@pytest.mark.parametrize("name", ["c.tsv", "c.jsonl"])
def test_a_file_without_rows(tmp_path, name):
    path = file(tmp_path, name, "\n\n")
    texts, problems = opened(path)
    assert problems == [f"{path}: no rows"]
    assert (len(texts), texts.look_up(["a"])) == (0, [None])


@pytest.mark.parametrize("name", ["c.tsv.gz", "c.jsonl.gz"])
def test_a_damaged_archive(tmp_path, name):
    path = file(tmp_path, name, *(f"{k}\t{k * 7919}\n" for k in range(9999)))
    path.write_bytes(path.read_bytes()[:-20])
    assert opened(path)[1][-1].startswith(f"{path}: not a whole gzip file")
    assert not entries()


@pytest.mark.parametrize("name", ["c.tsv", "c.jsonl"])
def test_a_file_of_another_kind_is_not_read_to_its_end(tmp_path, monkeypatch, name):
    monkeypatch.setattr(corpus, "MOST_PROBLEMS", 10)
    path = file(tmp_path, name, *("x\n" for _ in range(100)))
    problems = opened(path)[1]
    assert problems[10].startswith(f"{path}:11: ")
    assert problems[11:] == [f"{path}: … and more; the rest was not read"]


def resident():
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def large(tmp_path):
    """60 MB: 20,000 passages of 3 kB."""
    generator = np.random.default_rng(1)
    words = [f"word{number}" for number in generator.integers(0, 10**6, 500).tolist()]
    path = tmp_path / "large.tsv"
    with path.open("w") as stream:
        for number in range(20_000):
            start = number % 200
            stream.write(f"{number}\t{number} {' '.join(words[start : start + 290])}\n")
    assert path.stat().st_size > 55e6
    return path


def test_building_and_reading_hold_little_memory(large):
    tracemalloc.start()
    texts = opened(large)[0]
    built = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    ids = [str(number) for number in np.random.default_rng(2).permutation(20_000).tolist()]
    for start in range(0, len(ids), 100):
        assert all(
            text.startswith(f"{key} ")
            for key, text in zip(ids[start:], texts.look_up(ids[start : start + 100]), strict=False)
        )
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert built < 8e6  # 4 MB of it are the buffer that a file is hashed through
    assert read < 8e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_pages_that_were_read_are_given_back(large, monkeypatch):
    texts = opened(large)[0]
    ids = [str(number) for number in range(20_000)]
    grown = []
    for count in (MappedFile.count, lambda *_: None):
        monkeypatch.setattr(MappedFile, "count", count)
        before = resident()
        highest = before
        for start in range(0, len(ids), 100):
            texts.look_up(ids[start : start + 100])
            highest = max(highest, resident())
        grown.append(highest - before)
    assert grown[0] < 25e6 < 45e6 < grown[1]


def test_several_processes_build_one_store(tmp_path):
    path = file(tmp_path, "c.tsv", *(f"{k}\ttext {k}\n" for k in range(30_000)))
    script = (
        "import sys; from pathlib import Path; from uprank.data.judged.texts import open_texts\n"
        "from uprank.data.problems import Problems\n"
        "p = Problems(); t = open_texts(Path(sys.argv[1]), p); assert not p\n"
        "assert t.look_up(['7', '29999', '30000']) == ['text 7', 'text 29999', None]"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert len(entries()) == 1
