"""JSONL rows: what is read, and that whatever is wrong is named by file and line, all of it at once."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from uprank.data.groups import Group, passage_id
from uprank.data.problems import Problems
from uprank.data.rows.fields import NOTHING
from uprank.data.rows.jsonl import as_collection, parse_rows, read_jsonl

GOOD = {"query": "q", "pos": ["p"], "neg": ["n"]}


def write(tmp_path, *lines):
    path = tmp_path / "rows.jsonl"
    raw = [line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
           for line in lines]  # fmt: skip
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def read(path, **options):
    problems = Problems()
    return read_jsonl(path, problems, **options), problems


def test_rows_become_groups_in_order(tmp_path):
    second = {
        "query": "r",
        "pos": ["a", "b", "a"],
        "neg": ["c", "c", "d"],
        "pos_scores": [1, 0.5, 1],
        "neg_scores": [-1, 2, 3],
        "pos_grades": [1, 2, 3],
        "query_prompt": "Q: ",
        "prompt": "x",
    }
    path = write(tmp_path, GOOD, "", second, " \t ")
    assert read(path) == (
        [
            Group("q", ("p",), ("n",), f"{path}:1"),
            Group("r", ("a", "b"), ("c", "d"), f"{path}:3", (1, 2), (1, 0.5, -1, 3), "Q: "),
        ],
        [],
    )


def test_texts_are_kept_as_they_are(tmp_path):
    row = {"query": " q\u2028 ", "pos": ["\ud83d\ude00\n"], "neg": ["合同 \\ \x00 </s>"]}
    path = write(tmp_path, json.dumps(row))  # ASCII with escapes, a surrogate pair among them
    (group,), problems = read(path)
    assert (group.query, group.positives, group.negatives) == (" q\u2028 ", ("😀\n",), ("合同 \\ \x00 </s>",))
    assert problems == []


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    path = write(
        tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r", json.dumps(GOOD).encode() + b"\r"
    )
    groups, problems = read(path)
    assert ([group.where for group in groups], problems) == ([f"{path}:1", f"{path}:2"], [])


WRONG = {
    '{"query": "q", "pos": ["p"], "neg": ["n"]': ["broken JSON (Expecting ',' delimiter at character 42)"],
    "[1]": ["a row is a JSON object, this is a list"],
    '"text"': ["a row is a JSON object, this is a string"],
    "null": ["a row is a JSON object, this is null"],
    "{}": [
        "`query` is missing",
        "`pos` is missing",
        "no negatives; give `neg`, or find hard ones with `uprank mine`",
    ],
    '{"query": 3, "pos": ["p"], "neg": ["n"]}': ["`query` is a number, not a string"],
    '{"query": " \\n", "pos": ["p"], "neg": ["n"]}': ["`query` is an empty text"],
    '{"query": "q", "pos": "p", "neg": {"a": 1}}': [
        "`pos` is a string, not a list of strings",
        "`neg` is an object, not a list of strings",
    ],
    '{"query": "q", "pos": ["p", true, ""], "neg": [null]}': [
        "`pos[1]` is a truth value, not a string",
        "`pos[2]` is an empty text",
        "`neg[0]` is null, not a string",
    ],
    '{"query": "", "pos": [], "neg": []}': [
        "`query` is an empty text",
        "`pos` is empty; a group needs at least one relevant passage",
        "no negatives; give `neg`, or find hard ones with `uprank mine`",
    ],
    '{"query": "q", "pos": ["p"]}': ["no negatives; give `neg`, or find hard ones with `uprank mine`"],
    '{"query": "q", "pos": ["a  b", "c"], "neg": ["n", " a b", "c"]}': [
        "a positive is also a negative: 'a b'",
        "a positive is also a negative: 'c'",
    ],
    '{"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1, 2], "neg_scores": 1}': [
        "`pos_scores` needs one number for each of its 1 passages",
        "`neg_scores` needs one number for each of its 1 passages",
    ],
    '{"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": ["1"], "neg_scores": [true]}': [
        "`pos_scores` needs one number for each of its 1 passages",
        "`neg_scores` needs one number for each of its 1 passages",
    ],
    f'{{"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [{"9" * 400}], "neg_scores": [1]}}': [
        "`pos_scores` needs one number for each of its 1 passages",
    ],
    '{"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1]}': [
        "`pos_scores` and `neg_scores` go together: a teacher scores all passages of a row",
    ],
    '{"query": "q", "pos": ["p"], "neg": ["n"], "pos_grades": [0], "query_prompt": 1}': [
        "`pos_grades` needs one whole number above 0 for each of its 1 passages",
        "`query_prompt` is a number, not a string",
    ],
    '{"query": "q", "pos": ["\\ud800"], "neg": ["n"]}': [
        "an escape \\ud800 to \\udfff without its other half is no character"
    ],
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_row_is_named_with_everything_that_is_wrong(tmp_path, line):
    path = write(tmp_path, GOOD, line, GOOD)
    groups, problems = read(path)
    assert problems == [f"{path}:2: {problem}" for problem in WRONG[line]]
    assert [group.where for group in groups] == [f"{path}:1", f"{path}:3"]


def test_all_wrong_rows_are_listed_at_once(tmp_path):
    path = write(tmp_path, *WRONG, b'{"query": "\xff"}', "[" * 100_000, "1" * 5000)
    groups, problems = read(path)
    expected = [f"{path}:{line}: {text}" for line, texts in enumerate(WRONG.values(), 1) for text in texts]
    assert problems[:-3] == expected
    last = len(WRONG)
    assert problems[-3].startswith(f"{path}:{last + 1}: byte 11 is not UTF-8; convert")
    assert problems[-2].startswith(f"{path}:{last + 2}: broken JSON")
    assert problems[-1].startswith(f"{path}:{last + 3}: ")
    assert groups == []


def test_rows_without_negatives_where_none_are_needed(tmp_path):
    path = write(tmp_path, {"query": "q", "pos": ["p"]}, {"query": "q", "pos": ["p"], "neg": [1]})
    groups, problems = read(path, need_negatives=False)
    assert [group.negatives for group in groups] == [()]
    assert problems == [f"{path}:2: `neg[0]` is a number, not a string"]


@pytest.mark.parametrize("content", [b"", b"\n \r\n\t\n", b"\xef\xbb\xbf\n"])
def test_a_file_without_rows_is_a_problem(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert read(path) == ([], [f"{path}: no rows"])


def test_rows_as_judged_queries_with_their_own_candidates(tmp_path):
    path = write(tmp_path, GOOD, "{}", {"query": "q", "pos": ["n"], "neg": ["p", "x"]})
    collection = as_collection(path, read(path)[0])
    p, n, x = map(passage_id, "pnx")
    assert collection.queries == {"1": "q", "3": "q"}
    assert collection.qrels == {"1": {p: 1, n: 0}, "3": {n: 1, p: 0, x: 0}}
    assert collection.passages == {p: "p", n: "n", x: "x"}
    assert {query: sorted(pool) for query, pool in collection.pools.items()} == {
        "1": sorted([p, n]),
        "3": sorted([p, n, x]),
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
texts = st.text(min_size=1, max_size=8)
good_rows = st.fixed_dictionaries(
    {
        "query": texts,
        "pos": st.lists(texts, min_size=1, max_size=3),
        "neg": st.lists(texts, min_size=1, max_size=3),
    }
)
mutated_rows = st.builds(
    lambda row, changes, dropped: {k: v for k, v in (row | changes).items() if k not in dropped},
    good_rows,
    st.dictionaries(
        st.sampled_from(["query", "pos", "neg", "pos_scores", "neg_scores", "extra"]),
        json_values | st.lists(st.text(max_size=4) | json_values, max_size=4),
        max_size=2,
    ),
    st.sets(st.sampled_from(["query", "pos", "neg"]), max_size=1),
)
json_lines = st.builds(lambda row, ascii: json.dumps(row, ensure_ascii=ascii), mutated_rows, st.booleans())
cut_lines = st.builds(lambda line, at: line[:at], json_lines, st.integers(0, 60))
raw_lines = st.one_of(
    json_lines.map(lambda line: line.encode("utf-8", "surrogatepass")),
    cut_lines.map(lambda line: line.encode("utf-8", "surrogatepass")),
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
    st.sampled_from([b"", b" ", b"\r", b"\xef\xbb\xbf", b"NaN", b"{}", b'{"query": "\\ud800"}']),
)


def is_good(raw):
    """Whether the row is one to learn from, said independently of the reader."""
    try:
        row = json.loads(raw)
        json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    if not isinstance(row, dict):
        return False
    query, pos, neg = row.get("query"), row.get("pos"), row.get("neg")
    if (
        not isinstance(query, str)
        or not isinstance(pos, list)
        or not isinstance(neg, list)
        or not pos
        or not neg
    ):
        return False
    if not all(
        isinstance(text, str) and text.strip() and text not in NOTHING for text in [query, *pos, *neg]
    ):
        return False
    if {" ".join(text.split()) for text in pos} & {" ".join(text.split()) for text in neg}:
        return False
    for scores, passages in ((row.get("pos_scores"), pos), (row.get("neg_scores"), neg)):
        if scores is not None and not (
            isinstance(scores, list)
            and len(scores) == len(passages)
            and all(type(s) in (int, float) and abs(s) < 1e308 for s in scores)
        ):
            return False
    return (row.get("pos_scores") is None) == (row.get("neg_scores") is None)


@given(st.lists(raw_lines, min_size=1, max_size=8))
@example([b'{"query": "q", "pos": ["\\ud83d\\ude00"], "neg": ["\\udfff"]}'])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_rows_each_becomes_a_group_or_a_problem_with_its_line(lines):
    problems = Problems()
    rows = dict(parse_rows(lines, "f", problems))
    path = Lines(lines)
    problems = Problems()
    groups = read_jsonl(path, problems)
    first = lines[0].removeprefix(b"\xef\xbb\xbf")
    numbered = {number: line for number, line in enumerate([first, *lines[1:]], 1) if line.strip()}
    if not numbered:
        assert (groups, problems) == ([], ["f: no rows"])
        return
    from_groups = [int(group.where.split(":")[1]) for group in groups]
    from_problems = {int(problem.split(":")[1]) for problem in problems}
    assert from_groups == [number for number, line in numbered.items() if is_good(line)]
    assert from_problems == {number for number, line in numbered.items() if not is_good(line)}
    for group in groups:
        row = rows[group.where]
        assert (group.query, set(group.positives), set(group.negatives)) == (
            row["query"],
            set(row["pos"]),
            set(row["neg"]),
        )
        assert len(set(group.positives)) == len(group.positives)
        assert len(set(group.negatives)) == len(group.negatives)


class Lines:
    """Stands in for the path of a file, so that a thousand small files need not be written."""

    def __init__(self, lines):
        self.lines = lines

    def __str__(self):
        return "f"

    def exists(self):
        return False

    def open(self, mode):
        import io

        assert mode == "rb"
        return io.BytesIO(b"\n".join(self.lines))
