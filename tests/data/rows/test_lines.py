"""Lines of plain and compressed files: the same ones, and what is damaged is said."""

import gzip
import json
import sys

import pytest
from uprank.configs.errors import UserError
from uprank.data.problems import Problems
from uprank.data.read import read_groups
from uprank.data.rows import lines
from uprank.data.rows.lines import read_lines

TEXTS = [b"", b"\n", b"a", b"a\n", b"a\n\nb\r\n", "合同\u2028é\n".encode() * 50 + b"end", b"x" * 300 + b"\n"]


def zst(data):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("data", TEXTS)
def test_lines_are_those_of_the_plain_file(tmp_path, monkeypatch, data, block):
    monkeypatch.setattr(lines, "BLOCK", block)
    for name, written in (
        ("rows.jsonl", data),
        ("rows.json", data),
        ("rows.jsonl.gz", gzip.compress(data)),
        ("rows.jsonl.ZST", zst(data)),
        ("two.zst", zst(data) + zst(b"more\n")),
        ("two.gz", gzip.compress(data) + gzip.compress(b"more\n")),
    ):
        (tmp_path / name).write_bytes(written)
        expected = (data + b"more\n" if name.startswith("two") else data).splitlines(keepends=True)
        found = list(read_lines(tmp_path / name))
        # bytes.splitlines also splits at a lone \r, which TEXTS do not hold
        assert found == expected


@pytest.mark.parametrize("form", ["gz", "zst"])
def test_a_damaged_file_is_a_problem_and_its_rows_are_still_checked(tmp_path, form):
    rows = [{"query": f"q{k}", "pos": ["p"], "neg": [str(k) * 50]} for k in range(2000)] + [{}]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = tmp_path / f"rows.jsonl.{form}"
    whole = gzip.compress(data) if form == "gz" else zst(data)
    for damaged in (whole[: len(whole) // 2], b"not compressed\n", b"", whole[:-1]):
        path.write_bytes(damaged)
        problems = Problems()
        read_groups(str(path), problems)
        if form == "gz" and not damaged:  # an empty file is a whole one for gzip
            assert problems == [f"{path}: no rows"]
        else:
            assert f"{path}: not a whole {'gzip' if form == 'gz' else 'zstd'} file" in problems[-1]
    path.write_bytes(whole)
    problems = Problems()
    assert len(read_groups(str(path), problems)) == 2000
    assert problems[0] == f"{path}:2001: `query` is missing"


def test_without_its_package_a_zst_file_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "rows.zst").write_bytes(b"x")
    with pytest.raises(UserError, match=r'pip install "uprank\[zst\]"'):
        list(read_lines(tmp_path / "rows.zst"))
