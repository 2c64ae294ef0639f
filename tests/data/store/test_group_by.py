"""Rows are grouped by key as a dictionary does it, in bounded memory, and leave no files behind."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uprank.configs.paths import cache_folder
from uprank.data.store import group_by as merge
from uprank.data.store.group_by import merged


def by_dictionary(rows):
    found = {}
    for key, payload in rows:
        found.setdefault(key, []).append(payload)
    return list(found.items())


@given(st.lists(st.tuples(st.binary(max_size=2), st.binary(max_size=5)), max_size=40), st.integers(0, 50))
def test_as_a_dictionary_does_it(rows, buckets):
    assert list(merged(iter(rows), buckets * merge.BUCKET)) == by_dictionary(rows)


def test_rows_go_to_many_buckets(monkeypatch):
    made = []
    original = merge.TemporaryFile
    monkeypatch.setattr(
        merge, "TemporaryFile", lambda **options: made.append(original(**options)) or made[-1]
    )
    rows = [(str(k % 700).encode(), bytes([k % 256])) for k in range(5000)]
    assert list(merged(rows, 9 * merge.BUCKET + 1)) == by_dictionary(rows)
    assert len(made) == 20
    assert all(file.closed for file in made)
    made.clear()
    assert list(merged(rows, 10**15)) == by_dictionary(rows)
    assert len(made) == 2 * merge.MOST_BUCKETS


def test_memory_is_that_of_a_bucket():
    def rows():
        generator = random.Random(1)
        for _ in range(60_000):
            yield str(generator.randrange(20_000)).encode(), generator.randbytes(200)

    def peak(size):
        tracemalloc.start()
        count = sum(len(payloads) for _, payloads in merged(rows(), size))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 60_000
        return most

    whole, parts = peak(0), peak(30 * merge.BUCKET)
    assert parts < whole / 8


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_nothing_is_left_behind(taken):
    rows = merged([(str(k).encode(), b"") for k in range(50)], 3 * merge.BUCKET)
    for _ in range(taken):
        next(rows)
    rows.close()
    assert list(cache_folder().glob("*")) == []
