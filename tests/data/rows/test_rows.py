"""Rows of each format: all of them, each with the line on which it stands, and whatever is wrong named so."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from uprank.data.problems import NOT_UTF8, Problems
from uprank.data.rows import csv_tsv as separated
from uprank.data.rows import json_array, lines
from uprank.data.rows.files import find_files, kind_of_file, looks_like_beir, read_rows

TEXTS = ["plain", 'has "quotes", commas', "two\nlines\r\nand a third", "tab\there", "合同 é 😀", " spaces "]
ROWS = [{"query": f"q{k} {text}", "positive": text, "negative": f"n{k}"} for k, text in enumerate(TEXTS)]


def read(path):
    problems = Problems()
    rows = list(read_rows(path, str(path), problems))
    assert all(where.startswith(f"{path}:") for where, _ in rows)
    return [(int(where.rpartition(":")[2]), row) for where, row in rows], problems


def write(path, data):
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_csv(path, rows, separator=","):
    """By pandas' own writer: quoted where it is needed."""
    import pandas

    text = pandas.DataFrame(rows).to_csv(index=False, sep=separator, lineterminator="\n")
    return write(path, text)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.CSV.gz"])
def test_tables_as_pandas_writes_them(tmp_path, name):
    found, problems = read(write_csv(tmp_path / name, ROWS, "\t" if "tsv" in name else ","))
    assert ([row for _, row in found], problems) == (ROWS, [])
    # `query` and `positive` of the third have two line ends each.
    assert [line for line, _ in found] == [2, 3, 4, 9, 10, 11]


def test_tsv_that_knows_no_quotes(tmp_path):
    text = 'query\tpositive\n"yes" he said\t5" screen\n"a\tb\n"whole ""cell"""\t"\n\n"a\nb"\t"c\td"\r\n'
    found, problems = read(write(tmp_path / "a.tsv", text))
    assert problems == []
    assert [(line, *row.values()) for line, row in found] == [
        (2, '"yes" he said', '5" screen'),
        (3, '"a', "b"),
        (4, 'whole "cell"', '"'),
        (6, "a\nb", "c\td"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(ROWS)),
        ("a.json.gz", " \n\n" + json.dumps(ROWS, ensure_ascii=False, indent=2)),
        ("a.json", "\ufeff" + json.dumps(ROWS) + "\n"),
        ("a.json", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("a.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("a", "".join(json.dumps(row) + "\n" for row in ROWS)),
    ],
)
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_json_in_all_its_forms(tmp_path, name, text, block, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK", block)
    found, problems = read(write(tmp_path / name, text))
    assert ([row for _, row in found], problems) == (ROWS, [])
    starts = [1 + text.count("\n", 0, text.index(f"q{k} ")) for k in range(len(ROWS))]
    assert [line for line, _ in found] == [start - ("indent" in name or text[0] == " ") for start in starts]


def test_a_json_array_is_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK", 1000)
    path = write(tmp_path / "a.json", json.dumps([*ROWS * 500, {"query": "x" * 50_000}]))
    longest = 0
    for _ in json_array.read_array_rows(path, "a", Problems()):
        longest = max(longest, 0)
    elements = json_array._Elements(path)
    elements.expect("[")
    for _ in range(len(ROWS) * 500):
        elements.element("a")
        elements.expect(",")
        longest = max(longest, len(elements._text))
    assert longest < 4000
    assert len(elements.element("a")[0]["query"]) == 50_000


def arrow_table(kind):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    if kind == "dictionary":
        return pa.table({name: pa.array(texts).dictionary_encode() for name, texts in columns.items()})
    return pa.table({name: pa.array(texts, kind) for name, texts in columns.items()})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), "dictionary"])
@pytest.mark.parametrize("form", ["parquet", "file", "stream", "feather"])
def test_arrow_in_all_its_forms(tmp_path, kind, form, monkeypatch):
    monkeypatch.setattr("uprank.data.rows.arrow.ROWS", 4)
    table = arrow_table(kind)
    path = tmp_path / ("a.parquet" if form == "parquet" else "a.feather" if form == "feather" else "a.arrow")
    if form == "parquet":
        if kind == pa.string_view():
            pytest.skip("Parquet has no views")
        pq.write_table(table, path, row_group_size=5)
    else:
        writer = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with writer(path, table.schema) as target:
            target.write_table(table, max_chunksize=5)
    assert read(path) == ([(number, row) for number, row in enumerate(ROWS, 1)], [])


def test_what_is_wrong_with_rows_of_csv(tmp_path):
    text = (
        b'query,positive\nq1,p1\nq2\nq3,p3,x\nq4,"p\n4"\nq\x005,p5\nq\xff6,p6\nq7,"p7\nq8,p8\nq9,"p9"\n'
        b'q10,"p"10\nq11,p11\n,\nq13,"open'
    )
    path = write(tmp_path / "a.csv", text)
    found, problems = read(path)
    assert [(line, row["query"]) for line, row in found] == [
        (2, "q1"),
        (5, "q4"),
        (10, "q8"),
        (11, "q9"),
        (13, "q11"),
        (14, None),
    ]
    quote = "a quote stands where none may, or is not closed"
    assert problems == [
        f"{path}:3: 1 cells, the first line has 2",
        f"{path}:4: 3 cells, the first line has 2",
        f"{path}:7: has a NUL byte",
        f"{path}:8: {NOT_UTF8}",
        f"{path}:9: {quote} (',' expected after '\"')",
        f"{path}:12: {quote} (',' expected after '\"')",
        f"{path}:15: {quote} (unexpected end of data)",
    ]
    assert problems.kinds[1:4] == ["broken row", "encoding", "encoding"]


@pytest.mark.parametrize("longest", [1000, 1 << 24])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_quote_that_is_never_closed_costs_its_line_only(tmp_path, monkeypatch, longest, name):
    monkeypatch.setattr(separated, "LONGEST", longest)
    mark = "," if name == "a.csv" else "\t"
    rows = ["query,positive", 'q,"open\n', *["q,p"] * 1000, '"q\n,",p', 'q,"p,x', 'q,"p"', "q,p"]
    rows[1] = 'q,"open' if name == "a.csv" else '"open'
    path = write(tmp_path / name, "\n".join(rows).replace(",", mark) + "\n")
    found, problems = read(path)
    assert [int(problem.split(":")[1]) for problem in problems] == [2, 1005]
    assert [line for line, _ in found] == [*range(3, 1004), 1006, 1007]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", "query,query\na,b\n", "a.csv:1: columns stand twice: query"),
        ("a.csv", "what is bm25?,a ranking function\n", "a.csv:1: the first line is no header; it has"),
        ("a.tsv", "1\t2\t3\n", "a.tsv:1: the first line is no header; ids of queries"),
        ("a.csv", "query,positive\n".encode("utf-16"), "a.csv: is UTF-16; save it as CSV UTF-8"),
        ("a.csv", "", "a.csv: no rows"),
        ("a.csv", "query,positive\n", "a.csv: no rows"),
        ("a.json", "[]", "a.json: no rows"),
        ("a.json", '[{"a": 1},\n{"a" 2}]', "a.json:2: broken JSON (Expecting ':' delimiter on line 2)"),
        (
            "a.json",
            '[{"a": 1},\n{"a": "',
            "a.json:2: broken JSON (Unterminated string starting at on line 2)",
        ),
        ("a.json", '[{"a": 1}\n{"a": 2}]', "a.json:2: broken JSON (`,` or `]` is expected)"),
        ("a.json", '[{"a": 1}]\n]', "a.json:2: broken JSON (text after the end of the array)"),
        ("a.json", "[" * 100_000, "a.json:1: broken JSON ("),
        ("a.parquet", b"PAR1 no", "a.parquet: damaged, or not what its name says ("),
        ("a.arrow", b"ARROW1 no", "a.arrow: damaged, or not what its name says ("),
        ("a.arrow", b"", "a.arrow: "),
        ("a.parquet.gz", b"PAR1", "a.parquet.gz: Parquet and Arrow compress their own"),
    ],
)
def test_what_is_wrong_with_a_whole_file(tmp_path, name, data, expected):
    _, problems = read(write(tmp_path / name, data))
    assert len(problems) == 1
    assert expected in problems[0]
    assert problems.kinds[0] == "file"


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_an_element_is_read_to_its_end(tmp_path, monkeypatch, block):
    monkeypatch.setattr(lines, "BLOCK", block)
    path = write(tmp_path / "a.json", '[1234567890, true, "\\ud83d\\ude00", -1.5e10, {"a": null}]')
    found, problems = read(path)
    assert (found, len(problems)) == ([(1, {"a": None})], 4)


def test_a_nul_byte_in_tsv(tmp_path):
    path = write(tmp_path / "a.tsv", "query\tpositive\nq\tp\x00\né\x00\tp\nq\tp\n")
    found, problems = read(path)
    assert [line for line, _ in found] == [4]
    assert problems == [f"{path}:{line}: has a NUL byte" for line in (2, 3)]


def test_damaged_offsets_in_arrow_cost_their_row_only(tmp_path):
    """As nothing in the file says that they are damaged, a reader may end with its process."""
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 3, 2, 6)))
    texts = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abcdef")])
    with pa.ipc.new_file(tmp_path / "a.arrow", pa.schema({"query": pa.string()})) as target:
        target.write_batch(pa.RecordBatch.from_arrays([texts], names=["query"]))
    found, problems = read(tmp_path / "a.arrow")
    assert found == [(1, {"query": "abc"}), (3, {"query": "cdef"})]
    (problem,) = problems
    assert problem.startswith(f"{tmp_path}/a.arrow:2: cannot be read (")
    assert problems.kinds == ["broken row"]


def test_elements_of_an_array_that_are_no_rows(tmp_path):
    path = write(tmp_path / "a.json", b'[{"a": 1}, 3,\n{"a": "\xff"},\n\n{"a": "\\ud800"}, [],\n{"a": 2}]')
    found, problems = read(path)
    assert found == [(1, {"a": 1}), (5, {"a": 2})]
    assert problems == [
        f"{path}:1: a row is a JSON object, this is a number",
        f"{path}:2: {NOT_UTF8}",
        f"{path}:4: an escape \\ud800 to \\udfff without its other half is no character",
        f"{path}:4: a row is a JSON object, this is a list",
    ]


def test_damaged_texts_in_arrow_cost_their_row_only(tmp_path):
    good, bad = b"abc", b"\xff"
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 3, 4, 7)))
    texts = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(good + bad + good)])
    with pa.ipc.new_file(tmp_path / "a.arrow", pa.schema({"query": pa.string()})) as target:
        target.write_batch(pa.RecordBatch.from_arrays([texts], names=["query"]))
    found, problems = read(tmp_path / "a.arrow")
    assert found == [(1, {"query": "abc"}), (3, {"query": "abc"})]
    assert [problem.partition(" (")[0] for problem in problems] == [f"{tmp_path}/a.arrow:2: cannot be read"]
    assert problems.kinds[0] == "encoding"


def test_a_column_that_stands_twice_in_arrow(tmp_path):
    texts = pa.array(["a"])
    with pa.ipc.new_stream(tmp_path / "a.arrow", pa.schema([("q", pa.string())] * 2)) as target:
        target.write_batch(pa.RecordBatch.from_arrays([texts, texts], names=["q", "q"]))
    assert read(tmp_path / "a.arrow") == ([], [f"{tmp_path}/a.arrow: columns stand twice: q"])


def test_a_parquet_file_that_is_damaged_in_the_middle(tmp_path):
    rows = [{"query": f"q{k}" * 50, "positive": f"p{k}"} for k in range(2000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=500, use_dictionary=False)
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    found, problems = read(path)
    assert (len(found) < 2000, len(problems) >= 1) == (True, True)
    assert [row for _, row in found] == rows[: len(found)]


def test_triples_of_ms_marco_have_no_header(tmp_path):
    path = write(tmp_path / "triples.train.small.tsv.gz", "is it?\tyes\tno\nq\tp\tn\n")
    rows = [("is it?", "yes", "no"), ("q", "p", "n")]
    expected = [(k, dict(zip(ROWS[0], row, strict=True))) for k, row in enumerate(rows, 1)]
    assert read(path) == (expected, [])
    named = write(tmp_path / "triples.tsv", "query\tpositive\tnegative\nq\tp\tn\n")
    assert read(named)[0] == [(2, expected[1][1])]


def test_files_of_a_folder_and_what_is_none(tmp_path):
    for name in ("b.csv", "a.jsonl.gz", "c.parquet", "README.md", ".hidden.csv", "_SUCCESS", "x.json"):
        write(tmp_path / name, "")
    (tmp_path / "more.csv").mkdir()
    assert [file.name for file in find_files(tmp_path, "train", [])] == [
        "a.jsonl.gz",
        "b.csv",
        "c.parquet",
        "x.json",
    ]
    write(tmp_path / "train-00000.parquet", "")
    write(tmp_path / "test.csv", "")
    problems = Problems()
    assert find_files(tmp_path, "train", problems) == []
    assert problems == [
        f"{tmp_path}: has files of several splits (test.csv, train-00000.parquet): give one file"
    ]
    assert [kind_of_file(tmp_path / name) for name in ("a.JSON", "csv", "a.txt", "a.feather")] == [
        "json",
        "",
        "",
        "feather",
    ]


def test_what_datasets_saves(tmp_path):
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list(ROWS * 3)
    data.save_to_disk(tmp_path / "one", num_shards=2)
    DatasetDict({"train": data, "validation": data.select([0])}).save_to_disk(tmp_path / "splits")
    files = find_files(tmp_path / "one", "train", [])
    assert [file.name for file in files] == [f"data-0000{k}-of-00002.arrow" for k in (0, 1)]
    assert [row for file in files for _, row in read(file)[0]] == ROWS * 3
    (dev,) = find_files(tmp_path / "splits", "dev", [])
    assert [row for _, row in read(dev)[0]] == ROWS[:1]
    problems = Problems()
    assert find_files(tmp_path / "splits", "test", problems) == []
    assert problems == [f"{tmp_path}/splits: no split 'test'; there are train, validation: give one of these"]
    assert not looks_like_beir(tmp_path / "one")
    assert not looks_like_beir(tmp_path / "splits")


def test_what_is_beir(tmp_path, beir):
    assert looks_like_beir(beir)
    assert looks_like_beir(beir / "qrels" / "test.tsv")
    assert looks_like_beir(write(tmp_path / "a.tsv", "query-id\tcorpus-id\tscore\nq\td\t1\n"))
    assert not looks_like_beir(write(tmp_path / "b.tsv", "query\tpositive\tnegative\nq\td\t1\n"))
    assert not looks_like_beir(write(tmp_path / "c.jsonl", "{}"))
    assert not looks_like_beir(tmp_path)  # a folder of rows
    (tmp_path / "empty").mkdir()
    assert looks_like_beir(tmp_path / "empty")  # so that its reader says what it needs
    write(tmp_path / "corpus.jsonl.gz", "")
    assert looks_like_beir(tmp_path)
