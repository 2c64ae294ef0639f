"""Groups on disk: the same ones as read into memory, with constant memory, whatever else happens."""

import json
import random
import tracemalloc
from pathlib import Path

import pytest
from uprank.configs.paths import cache_folder
from uprank.data import cache, jsonl, store
from uprank.data.groups import Group, groups_fingerprint, same_query
from uprank.data.read import read_groups
from uprank.data.store import GroupStore, fingerprint_of, hash_texts, shared_queries

ROWS = [
    {"query": "q", "pos": ["p"], "neg": ["n"]},
    {"query": "合同 é?", "pos": ["a", "b", "a"], "neg": ["c", "d", " e\n", "c"], "pos_scores": [1, 2, 1]},
    {"query": " Q!", "pos": ["\x00 </s> 😀"], "neg": ["\u2028x", "n" * 5000]} | {"prompt": "x"},
    {"query": "r", "pos": ["p"], "neg": [str(k) for k in range(300)]},
]


def write(path: Path, rows) -> Path:
    path.write_text("\n".join("" if row is None else json.dumps(row) for row in rows) + "\n")
    return path


def in_memory(path, **options):
    problems = []
    return jsonl.read_groups(path, problems, **options), problems


def stored(path, **options):
    problems = []
    return read_groups(str(path), problems, **options), problems


def many(path, count, seed=1):
    generator = random.Random(seed)
    words = [f"w{k}" for k in range(500)]
    texts = [" ".join(generator.choices(words, k=generator.randrange(1, 30))) for _ in range(300)]
    rows = []
    for number in range(count):
        pos, *neg = generator.sample(texts, generator.randrange(2, 12))
        rows += [{"query": f"{generator.choice(words)} {number}", "pos": [pos], "neg": neg}]
        rows += [None] * (number % 3 == 0)
    return write(path, rows)


@pytest.mark.parametrize("size", [1, 3, 1024])
def test_groups_are_those_read_into_memory(tmp_path, jsonl, monkeypatch, size):
    monkeypatch.setattr(store, "ROWS", size)
    for path in (*jsonl, write(tmp_path / "rows.jsonl", [*ROWS, None, *ROWS]), many(tmp_path / "many", 50)):
        groups, problems = in_memory(path)
        for _ in ("built", "from the cache"):
            found, said = stored(path)
            assert (list(found), said) == (groups, problems) == (groups, [])
            assert len(found) == len(groups)
            assert [found[k] for k in range(len(found))] == groups
            assert (found[-1], found[1:4], found[::-2]) == (groups[-1], groups[1:4], groups[::-2])
            assert list(found.texts()) == [text for group in groups for text in group.texts]
            assert found.text_hashes().tolist() == hash_texts(found.texts()).tolist()
            assert found.positives == sum(len(group.positives) for group in groups)
            assert found.negatives == sum(len(group.negatives) for group in groups)
            assert fingerprint_of(found) == fingerprint_of(groups) == groups_fingerprint(groups)
            for place in (len(groups), -len(groups) - 1):
                with pytest.raises(IndexError):
                    found[place]


def test_the_fingerprint_is_that_of_runs_made_before(tmp_path):
    # As computed by version 0.1: runs made with it can be continued.
    found, _ = stored(write(tmp_path / "rows", ROWS[:2]))
    expected = "sha256:2b1af28ecff99c28056293227ef4dd2622020a770e76ace584bae9321294a342"
    assert found.fingerprint == groups_fingerprint(found) == expected


def test_rows_are_read_once(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", ROWS)
    first, _ = stored(path)

    def refuse(*_, **__):
        raise AssertionError("was read before")

    monkeypatch.setattr(jsonl, "iterate_groups", refuse)
    again, problems = stored(path)
    assert (list(again), problems) == (list(first), [])
    assert isinstance(again, GroupStore)
    # The same bytes elsewhere: `where` names the place that was given.
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(path.read_bytes())
    assert stored(moved)[0][1].where == f"{moved}:2"
    assert again[1].where == f"{path}:2"


def test_changed_content_is_read_anew(tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS)
    before, _ = stored(path)
    size = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"r"', b'"s"'))
    import os

    os.utime(path, ns=(size.st_atime_ns, size.st_mtime_ns))  # same size, same time: the content decides
    after, _ = stored(path)
    assert [before[3].query, after[3].query] == ["r", "s"]
    assert before.fingerprint != after.fingerprint


def test_rows_without_negatives_are_no_training_data_though_they_were_read_as_dev(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"query": "q", "pos": ["p"]}, ROWS[0]])
    for _ in range(2):
        judged, problems = stored(path, need_negatives=False)
        assert (len(judged), judged[0].negatives, problems) == (2, (), [])
        groups, problems = stored(path)
        assert len(groups) == 1
        assert len(problems) == 1


def test_problems_are_all_reported_each_time_and_nothing_is_kept(tmp_path):
    bad = [ROWS[0], {}, {"query": 3, "pos": ["x"], "neg": ["X "]}, ROWS[1]]
    path = write(tmp_path / "rows.jsonl", bad)
    expected = in_memory(path)
    assert len(expected[1]) == 5
    for _ in range(2):
        groups, problems = stored(path)
        assert (list(groups), groups[1], problems) == (expected[0], expected[0][1], expected[1])
        del groups
        assert [file.suffix for file in (cache_folder() / "groups").iterdir()] in ([], [".lock"])
    assert stored(write(path, [{}]))[0] == []
    assert stored(write(path, [])) == ([], [f"{path}: no rows"])


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", ROWS)
    original = jsonl.iterate_groups

    def growing(*arguments, **options):
        for group in original(*arguments, **options):
            yield group
            with path.open("a") as stream:
                stream.write("\n")

    monkeypatch.setattr(jsonl, "iterate_groups", growing)
    assert f"{path}: was changed while it was read" in stored(path)[1]


def test_a_damaged_store_is_built_anew(tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS)
    groups, _ = stored(path)
    expected = list(groups)
    (file,) = cache_folder().glob("groups/*/groups.arrow")
    data = file.read_bytes()
    for damaged in (data[:-10], data.replace(b"</s>", b"<!s>"), b""):
        file.write_bytes(damaged)
        again, problems = stored(path)
        assert (list(again), problems) == (expected, [])


def peak(work):
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    import pyarrow

    monkeypatch.setattr(store, "ROWS", 50)
    small, large = (many(tmp_path / f"{count}.jsonl", count) for count in (400, 4000))
    stored(many(tmp_path / "first.jsonl", 10))  # imports
    more = large.stat().st_size - small.stat().st_size
    assert more > 1_000_000
    built = [peak(lambda path=path: stored(path)) for path in (small, large)]
    read = [peak(lambda path=path: sum(1 for _ in stored(path)[0])) for path in (small, large)]
    for before, after in (built, read):
        # Eight bytes of hash a group with its order and its row, and no texts.
        assert after - before < 3600 * 60 < more / 4
    for batch in stored(large)[0]._batches():
        assert batch.num_rows <= 50
        assert pyarrow.total_allocated_bytes() < 500_000


def test_a_record_batch_ends_when_it_has_enough_text():
    groups = [Group("q", ("p",), ("x" * 3_000_000,), f"f:{k}") for k in range(5)]
    assert [len(chunk) for chunk in store._chunks(groups)] == [2, 2, 1]


@pytest.mark.parametrize("collide", [False, True])
def test_shared_queries_are_found_whatever_their_hashes(tmp_path, monkeypatch, collide):
    if collide:
        monkeypatch.setattr(store, "_hash_query", lambda text: len(same_query(text)) % 2)
    queries = ["Is it so?", "a b", "ab", "???", "合同 违约", "STRASSE", "a  B!", "last"]
    path = write(tmp_path / "rows.jsonl", [{**ROWS[0], "query": query} for query in queries])
    groups, _ = stored(path)
    asked = ["is IT,  so", "A b.", "a-b", "!!!", "straße", "none", "合同,违约", "???", "last", "x", "last"]
    known = {same_query(query) for query in queries}
    expected = [text for text in asked if same_query(text) in known]
    assert groups.shared_queries(asked) == shared_queries(groups, iter(asked)) == expected
    assert shared_queries(list(groups), asked) == expected
    assert expected == ["is IT,  so", "A b.", "a-b", "straße", "合同,违约", "???", "last", "last"]
    assert groups.shared_queries([]) == []


def test_equal_hashes_alone_are_no_shared_query(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_hash_query", lambda text: 7)
    groups, _ = stored(write(tmp_path / "rows.jsonl", ROWS))
    assert groups.shared_queries(["nothing", "of", "these"]) == []


def test_the_name_in_the_cache_says_what_it_depends_on(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", ROWS)
    stored(path)
    monkeypatch.setattr(store, "VERSION", store.VERSION + 1)
    stored(path)
    names = {file.name for file in (cache_folder() / "groups").iterdir() if file.is_dir()}
    content = cache.hash_file(path)
    assert names == {f"jsonl-plain-train-v{version}-{content}" for version in (1, 2)}
