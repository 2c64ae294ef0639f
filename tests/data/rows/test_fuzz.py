"""Rows mutated at random, in every format and shape: each is a group or a problem with its line.

`UPRANK_FUZZ_ROWS=20000` mutates so many, see benchmarks/fuzz_data.py.
"""

import csv
import io
import json
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uprank.data.problems import Problems
from uprank.data.read import iterate_groups, read_groups, read_judged

ROWS = 8  # of a file, of which up to five are mutated
WANTED = int(os.environ.get("UPRANK_FUZZ_ROWS", "0"))
COUNT = {"mutated": 0, "groups": 0, "problems": 0}
TEXTS = ["a", 'say "yes", no', "two\nlines", "\u2028 é 合同", 'tab\t"', " x "]
SHAPES = {
    "groups": lambda k, t: {"query": f"q{k} {t}", "pos": [f"p{k}{t}", "x"], "neg": [f"n{k}"]},
    "mteb": lambda k, t: {"query": f"q{k} {t}", "positive": [f"p{k}{t}"], "negative": [f"n{k}", "m"]},
    "triplet": lambda k, t: {"anchor": f"q{k} {t}", "positive": f"p{k}{t}", "negative": f"n{k}"},
    "tuple": lambda k, t: {"id": k, "a": f"q {k}{t}", "b": f"p {k}{t}", "c": f"n {k}", "d": f"m {k}"},
    "label": lambda k, t: {"sentence1": f"q{k} {t}", "sentence2": f"p{k}{t}", "label": 1 + k % 2},
    "labels": lambda k, t: {"query": f"q{k} {t}", "docs": [f"p{k}{t}", f"n{k}"], "labels": [1, 0]},
}
LISTS = ("groups", "mteb", "labels")
FORMATS = [
    (form, shape)
    for form in ("jsonl", "json", "csv", "tsv", "parquet", "arrow")
    for shape in SHAPES
    if not (form in ("csv", "tsv") and shape in LISTS)
]
ANYTHING = [
    None,
    3,
    0.5,
    float("nan"),
    10**400,
    True,
    "",
    " \n",
    "x",
    "\x00",
    [],
    [""],
    ["x", 3],
    [None],
    {"a": []},
]
OF_ITS_TYPE = {
    str: [None, "", "\t ", "x"],
    int: [None, -1, 0, 2**40],
    list: [None, [], [None], [""], ["p0"]],
    "labels": [None, [], [None], [-1, 5], [1]],
}
BYTES = [
    b"\xff",
    b"\x00",
    b"\n",
    b"\r",
    b",",
    b"\t",
    b"{",
    b"}",
    b"]",
    b"[",
    b"\\",
    b"\\ud800",
    b" ",
    b"9",
    b":",
]


def texts_of(row):
    return {text for value in row.values() for text in (value if isinstance(value, list) else [value])}


def draw_row(draw, form, shape, k):
    """A row that is right, perhaps with one value that is not."""
    row = SHAPES[shape](k, draw(st.sampled_from(TEXTS)))
    if form in ("csv", "tsv"):
        row = {column: str(value) for column, value in row.items()}
    mutated = draw(st.sampled_from([False, False, True]))
    if mutated:
        column = draw(st.sampled_from([column for column in row if column != "id"]))
        if form in ("parquet", "arrow"):
            kind = "labels" if column == "labels" else type(row[column])
            row[column] = draw(st.sampled_from(OF_ITS_TYPE[kind]))
        elif form in ("csv", "tsv"):
            row[column] = draw(st.sampled_from(["", " ", "x", "0.5", "-1", "1.0", "9" * 50, "\x00"]))
        elif draw(st.booleans()):
            row[column] = draw(st.sampled_from(ANYTHING))
        else:
            del row[column]
    return row, mutated


def written(form, row):
    """The bytes of a row in a file of text."""
    if form in ("jsonl", "json"):
        return json.dumps(row, ensure_ascii=False).encode()
    target = io.StringIO()
    # The end of a line is cut off again: only cells with its characters are quoted.
    csv.writer(target, delimiter="\t" if form == "tsv" else ",", lineterminator="\n").writerow(row.values())
    return target.getvalue()[:-1].encode()


def cut(draw, form, data, quotes):
    """The bytes with a piece taken out or put in."""
    at = draw(st.integers(0, len(data)))
    pieces = [*BYTES, b'"'] if quotes else BYTES
    new = draw(st.sampled_from([b"", *pieces]))
    return data[:at] + new + data[at + draw(st.sampled_from([0, 1, 1, 7, len(data)])) :]


def write_text(draw, path, form, rows, mutated):
    """Write the file; the first and last line of each row."""
    separator = b",\n" if form == "json" else b"\n"
    parts, spans, line, quotes = [], [], 1, True
    if form in ("csv", "tsv"):
        columns = list(SHAPES[path.stem](0, ""))
        parts.append((",", "\t")[form == "tsv"].join(columns).encode())
        line = 2
    for k, row in enumerate(rows):
        data = written(form, row)
        if mutated[k] and draw(st.booleans()):
            data = cut(draw, form, data, quotes)
            # Two quotes that are opened and closed in two rows of CSV are one cell: no mistake at all.
            quotes = quotes and (form != "csv" or data.count(b'"') == written(form, row).count(b'"'))
        parts.append(data)
        spans.append((line, line + data.count(b"\n")))
        line += data.count(b"\n") + 1
    body = separator.join(parts)
    path.write_bytes(b"[" + body + b"]" if form == "json" else body + b"\n")
    return spans


def write_arrow(draw, path, form, rows, mutated):
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if all(isinstance(value, (str, type(None))) for value in values):
            data = [None if value is None else value.encode() for value in values]
            for k in range(ROWS):
                if mutated[k] and data[k] and draw(st.booleans()):
                    data[k] += b"\xff"
            columns.append(pa.array(data, pa.binary()).view(pa.string()))
        else:
            columns.append(pa.array(values))
    table = pa.table(dict(zip(rows[0], columns, strict=True)))
    if form == "parquet":
        pq.write_table(table, path, row_group_size=3)
    else:
        with pa.ipc.new_stream(path, table.schema) as target:
            target.write_table(table)
    return [(k, k) for k in range(1, ROWS + 1)]


@st.composite
def files(draw, folder):
    form, shape = draw(st.sampled_from(FORMATS))
    rows, mutated = zip(*(draw_row(draw, form, shape, k) for k in range(ROWS)), strict=True)
    mutated = list(mutated)
    # Columns are those of most rows: a file has some that are right.
    for k in (0, 3, 6):
        rows = (*rows[:k], SHAPES[shape](k, "a") if form not in ("csv", "tsv") else
                {c: str(v) for c, v in SHAPES[shape](k, "a").items()}, *rows[k + 1 :])  # fmt: skip
        mutated[k] = False
    path = folder / f"{shape}.{form}"
    write = write_arrow if form in ("parquet", "arrow") else write_text
    return path, rows, mutated, write(draw, path, form, rows, mutated)


def check(path, rows, mutated, spans):
    problems, merged, judged = Problems(), Problems(), Problems()
    needed = path.stem not in ("label", "labels")
    alone = list(iterate_groups(str(path), problems, need_negatives=needed))
    groups = {int(group.where.rpartition(":")[2]): group for group in alone}
    places = [re.match(re.escape(str(path)) + r":(\d+): ", problem) for problem in problems]
    assert all(places), problems
    reported = {int(place[1]) for place in places}
    swallowed = set()
    for kind, problem in problems.items():
        if kind == "file":
            assert "nothing after it is read" in problem or "after the end of the array" in problem, problem
            swallowed |= set(range(int(places[problems.index(problem)][1]), 10_000))
    for row, wrong, (first, last) in zip(rows, mutated, spans, strict=True):
        lines = set(range(first, last + 1))
        if wrong:
            raw = path.read_bytes().split(b"\n")[first - 1 : last]
            blank = path.suffix not in (".parquet", ".arrow") and not b"".join(raw).strip()
            assert blank or lines & (reported | groups.keys() | swallowed), (row, problems)
        elif not lines & swallowed:
            assert not lines & reported, problems
            group = groups[first]
            assert set(group.texts) <= texts_of(row) | set(map(str, texts_of(row)))
            assert len(set(group.texts)) >= 2 + needed
    wrong_lines = {n for w, (a, b) in zip(mutated, spans, strict=True) if w for n in range(a, b + 1)}
    assert reported <= wrong_lines, problems
    # Merged, rows that are mutated to the same query are one group, which may contradict itself.
    together = read_groups(str(path), merged, need_negatives=needed)
    assert {group.query for group in together} <= {group.query for group in alone}
    assert {problem for problem in problems if "line " not in problem} <= set(merged)
    assert all(int(problem.split(":")[1]) in wrong_lines for problem in merged)
    assert read_judged(str(path), judged, split="test") is not None
    assert {problem for problem in judged if "line " not in problem} <= set(problems)
    COUNT["mutated"] += sum(mutated)
    COUNT["groups"] += len(groups)
    COUNT["problems"] += len(problems)


@pytest.mark.parametrize("examples", [WANTED or 250])
def test_every_mutated_row_is_a_group_or_a_problem_with_its_line(examples):
    with TemporaryDirectory() as folder:

        @given(files(Path(folder)))
        @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
        def run(case):
            if not WANTED or COUNT["mutated"] < WANTED:
                check(*case)

        run()
    print(COUNT)
    assert COUNT["mutated"] >= (WANTED or examples // 3)
    assert COUNT["problems"] > COUNT["mutated"] // 3
