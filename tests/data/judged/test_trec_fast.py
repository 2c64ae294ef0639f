"""The quick reader of large files agrees with the slow one on every line."""

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uprank.configs.errors import UserError
from uprank.data.judged import trec
from uprank.data.judged import trec_fast as columns
from uprank.data.judged.trec import read_qrels, read_run


@pytest.fixture
def quick(monkeypatch):
    """Use the quick reader for small files too, in small blocks; returns its answers."""
    monkeypatch.setattr(columns, "_LARGE", 0)
    monkeypatch.setattr(columns, "_BLOCK", 64)
    answers = []
    read = columns.read_columns
    monkeypatch.setattr(trec, "read_columns", lambda *args: answers.append(read(*args)) or answers[-1])
    return answers


def both_readings(read, path, quick):
    """Return the table or the problems of the quick reader and of the slow one."""
    found = []
    for large in (0, 2**60):
        columns._LARGE = large
        try:
            found.append(read(path))
        except UserError as error:
            found.append(error.problems)
    return found


@pytest.mark.parametrize("separator", [" ", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_large_plain_files_are_read_quickly(file, tmp_path, quick, separator, end):
    rows = [("q1", "Q0", f"d{i}é\u00a0", str(i), f"{i / 7:.7g}", "tag") for i in range(40)]
    rows += [("q2", "Q0", "d1", "1", "-1e-3", "t"), ("q1", "Q0", "again", "1", "3", "t")]
    path = file("\ufeff" + end.join(separator.join(row) for row in rows))
    run = read_run(path)
    assert quick[-1] is run
    assert run["q1"] == {row[2]: float(row[4]) for row in rows if row[0] == "q1"}
    assert list(run["q1"])[-1] == "again"
    assert run["q2"] == {"d1": -0.001}
    qrels = file(end.join(separator.join((*row[:3], row[3])) for row in rows[:40]))
    assert read_qrels(qrels) == {"q1": {row[2]: int(row[3]) for row in rows[:40]}}
    assert quick[-1] is not None


LINES = [
    "q1 Q0 d1 1 2.5 t", "q1 Q0 d2 2 1e-3 t", "q2\tQ0\td1\t1\t7\tt", "q1 0 d1 1", "q1 0 d3 -2", "q2\t0\td1\t3",
    "", " ", "\t", " q1 0 d4 1", "q1 0 d5 1 ", "q1  d6 1", "q1 0  1", " Q0 d1 1 2 t",
    "q1 Q0 d1 1 2 ", "q1 0 d7 0x1", "q1 0 d8 9223372036854775808", "q1 0 d9 -9223372036854775808",
    "q1 0 d10 +1", "q1 0 d11 1_0", "q1 0 d12 007",
    "q1 Q0 d3 1 nan t", "q1 Q0 d4 1 inf t", "q1 Q0 d5 1 1e999 t", "q1 Q0 d6 1 1e-999 t", "q1 Q0 d7 1 0x1 t",
    "q1 Q0 d8 1 1_0 t", "q1 Q0 d9 1 +1. t", "q1 Q0 d10 1 .5 t u", "q1 Q0 d\v11 1 1 t", "q1 Q0 d\f12 1 1 t",
    'q1 Q0 "d13 1 1 t', 'q1 0 "d14" 1', "q1 0 d15 1\rq1 0 d16 1", "q1 0 NULL 1", "q1 0 é 1", "q1 0 \x00 1",
    "q1 0 d17 1,0", "q1 Q0 d18 1 1,0 t", "q1 Q0 d19 1 -0.0 t", "q1 Q0 d20 1 -1e-45 t",
    "q1 Q0 d21 1 infinity t",
]  # fmt: skip


@given(
    st.sampled_from([4, 6]),
    st.lists(st.sampled_from(LINES), max_size=8, unique=True),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_quick_reader_agrees_with_the_slow_one(file, tmp_path, quick, width, lines, end, last):
    # Mostly lines of one kind, so that the quick reader comes far, with one or two others among them.
    usual = [line for line in lines if len(line.split()) == width]
    text = end.join([*usual, *lines[:1]]) + end * last
    path = file(text)
    quickly, slowly = both_readings(read_qrels if width == 4 else read_run, path, quick)
    assert repr(quickly) == repr(slowly)


@pytest.mark.parametrize("line", LINES)
def test_the_quick_reader_agrees_on_every_unusual_line(file, tmp_path, quick, line):
    for read, plain in ((read_qrels, "q1 0 other 1"), (read_run, "q1 Q0 other 1 2 t")):
        for text in (line, f"{plain}\n{line}", f"{line}\n{plain}\n", line.replace(" ", "\t")):
            quickly, slowly = both_readings(read, file(text), quick)
            assert repr(quickly) == repr(slowly)


def test_the_quick_reader_sees_a_document_twice_in_a_query(file, tmp_path, quick):
    for lines in (
        ("q1 0 d 1", "q1 0 d 2"),
        ("q1 0 d 1", "q2 0 d 1", "q1 0 d 0"),
        ("q1 0 d 1", "q1 0 e 1", "q1 0 d 2") * 9,
    ):
        quickly, slowly = both_readings(read_qrels, file("\n".join(lines)), quick)
        assert quickly == slowly
        assert "document 'd' appears again in query 'q1'" in quickly[0]


def test_compressed_tables_are_read_by_the_ends_of_their_names(file, problems, tmp_path, quick):
    lines = "".join(f"q{k % 7} Q0 d{k} 1 {k}.5 t\n" for k in range(99))
    packed = file(gzip.compress(lines.encode()), "run.txt.gz")
    assert read_run(packed) == read_run(file(lines))
    cut = file(packed.read_bytes()[:-9], "cut.gz")
    assert problems(read_run, cut)[0].startswith(f"{cut}: not a whole gzip file")
