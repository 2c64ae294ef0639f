"""Groups on disk equal those read into memory, and take constant memory."""

import gzip
import json
import os
import random
import tracemalloc
from pathlib import Path

import pytest
from uprank.configs.errors import UserError
from uprank.configs.paths import cache_folder
from uprank.data.groups import Group, groups_fingerprint, same_query
from uprank.data.problems import Problems
from uprank.data.read import read_groups
from uprank.data.rows import jsonl
from uprank.data.rows import to_groups as tables
from uprank.data.store import cache
from uprank.data.store import group_store as store
from uprank.data.store.group_store import GroupStore, fingerprint_of, keep_groups, shared_queries
from uprank.data.store.keyed_store import hash_texts

ROWS = [
    {"query": "q", "pos": ["p"], "neg": ["n"]},
    {"query": "合同 é?", "pos": ["a", "b", "a"], "neg": ["c", "d", " e\n", "c"]},
    {"query": " Q!", "pos": ["\x00 </s> 😀"], "neg": ["\u2028x", "n" * 5000]} | {"prompt": "x"},
    {"query": "s", "pos": ["a", "b"], "neg": ["c"]}
    | {"pos_scores": [1, 0.5], "neg_scores": [-2], "pos_grades": [1, 3], "passage_prompt": "p: "},
    {"query": "r", "pos": ["p"], "neg": [str(k) for k in range(300)]},
]


def write(path: Path, rows) -> Path:
    path.write_text("\n".join("" if row is None else json.dumps(row) for row in rows) + "\n")
    return path


def in_memory(path, **options):
    problems = Problems()
    return jsonl.read_jsonl(path, problems, **options), problems


def stored(path, **options):
    problems = Problems()
    return read_groups(str(path), problems, **options), problems


def refuse(*_, **__):
    raise AssertionError("was read before")


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
            assert list(found.texts()) == [text for group in groups for text in group.prompted.texts]
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
    monkeypatch.setattr("uprank.data.read.iterate_tables", refuse)
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
    path.write_bytes(path.read_bytes().replace(b'"r"', b'"x"'))
    os.utime(path, ns=(size.st_atime_ns, size.st_mtime_ns))  # same size, same time: the content decides
    after, _ = stored(path)
    assert [before[-1].query, after[-1].query] == ["r", "x"]
    assert before.fingerprint != after.fingerprint


def test_rows_without_negatives_are_no_training_data_though_they_were_read_as_dev(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"query": "q", "pos": ["p"]}, ROWS[0]])
    for _ in range(2):
        judged, problems = stored(path, need_negatives=False)
        assert (len(judged), judged[0].negatives, problems) == (2, (), [])
        groups, problems = stored(path)
        assert len(groups) == 1
        assert len(problems) == 1


def test_problems_of_rows_are_reported_each_time_and_kept_with_the_other_rows(tmp_path):
    bad = [ROWS[0], {}, {"query": 3, "pos": ["x"], "neg": ["X "]}, ROWS[1]]
    path = write(tmp_path / "rows.jsonl", bad)
    expected = in_memory(path)
    assert len(expected[1]) == 5
    for _ in ("read", "from the cache"):
        groups, problems = stored(path)
        assert (list(groups), groups[1], problems) == (expected[0], expected[0][1], expected[1])
        assert problems.kinds == expected[1].kinds
        assert len(set(problems.kinds)) == 3
        skipped = Problems()
        again, problems = stored(path, skipped=skipped)
        assert (list(again), problems, skipped) == (expected[0], [], expected[1])
    assert stored(write(path, [{}]))[0] == []


def test_problems_name_the_file_that_was_given(tmp_path):
    rows = [{"query": "q", "pos": ["f:1: p"], "neg": ["f:1: p"]}]
    path = write(tmp_path / "f", rows)
    assert stored(path)[1] == [f"{path}:1: a positive is also a negative: 'f:1: p'"]
    other = write(tmp_path / "other", rows)
    assert stored(other)[1] == [f"{other}:1: a positive is also a negative: 'f:1: p'"]


def test_after_a_problem_of_a_file_nothing_is_kept(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress(("\n".join(map(json.dumps, ROWS)) + "\n").encode() * 50)
    path.write_bytes(whole[:-9])
    for skipped in (None, Problems()):
        groups, problems = stored(path, skipped=skipped)
        assert problems[0].startswith(f"{path}: not a whole gzip file")
        assert (problems.kinds, len(groups) > 3, skipped or []) == (["file"], True, [])
        del groups
        assert [file.suffix for file in (cache_folder() / "groups").iterdir()] in ([], [".lock"])
    assert stored(write(tmp_path / "none", [])) == ([], [f"{tmp_path}/none: no rows"])


def test_groups_of_several_files_know_their_file(tmp_path):
    names = ["x/a.tsv", "b"]
    groups = [Group("q", ("p",), ("n",), f"{names[k % 2]}:{k + 5}", (2,) * (k % 2)) for k in range(9)]
    files = [write(tmp_path / name, ROWS[:k]) for k, name in enumerate("ab")]

    def make(found):
        found.add("empty text", "b:7: says (x/a.tsv:9)")
        yield from groups

    problems = Problems()
    kept = keep_groups("two", files, make, problems, names=names)
    assert (list(kept), kept[4], kept.scored) == (groups, groups[4], 0)
    assert problems == kept.problems == ["b:7: says (x/a.tsv:9)"]
    moved = keep_groups("two", files, refuse, problems, names=["c", "x/a.tsv"])
    assert (moved[0].where, moved[1].where) == ("c:5", "x/a.tsv:6")
    assert problems[1:] == moved.problems == ["x/a.tsv:7: says (c:9)"]
    assert problems.kinds[1] == "empty text"
    files.reverse()
    with pytest.raises(AssertionError):  # the same bytes in another order
        keep_groups("two", files, refuse, problems, names=names)


def test_what_a_maker_raises_is_of_whole_files(tmp_path):
    def make(found):
        yield Group("q", ("p",), ("n",), f"{path}:1", scores=(1.0, 2.0))
        found.add("row", "a row")
        raise UserError(["one", "two"])

    path = write(tmp_path / "f", [])
    problems, skipped = Problems(), Problems()
    groups = keep_groups("raises", [path], make, problems, skipped=skipped)
    assert ([group.query for group in groups], groups.scored) == (["q"], 1)
    assert problems.kinds == ["file"] * 2
    assert (problems, skipped) == (["one", "two"], ["a row"])


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", ROWS)
    original = tables.iterate_tables

    def growing(*arguments, **options):
        for group in original(*arguments, **options):
            yield group
            with path.open("a") as stream:
                stream.write("\n")

    monkeypatch.setattr("uprank.data.read.iterate_tables", growing)
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
        # Hash, order and row of each group, what waits for the garbage collector, and no texts.
        assert after - before < 3600 * 100 < more / 4
    for batch in stored(large)[0]._batches():
        assert batch.num_rows <= 50
        assert pyarrow.total_allocated_bytes() < 500_000


def test_a_record_batch_ends_when_it_has_enough_text():
    groups = [Group("q", ("p",), ("x" * 3_000_000,), f"f:{k}") for k in range(5)]
    assert [len(chunk) for chunk in store.chunks(groups, store.BYTES)] == [2, 2, 1]


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
    versions = (store.VERSION - 1, store.VERSION)
    assert names == {f"jsonl-plain-train-v{version}-{content}" for version in versions}
