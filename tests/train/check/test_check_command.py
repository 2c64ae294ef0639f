"""`uprank check` as a command."""

import json
import shutil
import sys

import pytest
from uprank.data.problems import KINDS, Problems
from uprank.data.read import read_groups
from uprank.train.check.command import main
from uprank.train.check.report import CheckReport, check_verdict


def rows(path, *given):
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


def row(query, pos="p", neg="n"):
    return {"query": query, "pos": [pos], "neg": [neg]}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command; its exit code and what it printed, one line each."""
    from hydra.core.global_hydra import GlobalHydra

    def run(*arguments):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["uprank check", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out.splitlines(), err

    yield run
    GlobalHydra.instance().clear()


def table(lines):
    return [line.split() for line in lines]


def test_good_data_exits_with_0(run, jsonl):
    code, out, err = run(f"data.train={jsonl[0]}", f"data.dev={jsonl[1]}")
    assert (code, err) == (0, "")
    given = [[json.loads(line) for line in path.read_text().splitlines()] for path in jsonl]
    for name, line, read in zip(("train", "dev"), table(out)[1:3], given, strict=True):
        counts = [len(read), sum(len(r["pos"]) for r in read), sum(len(r["neg"]) for r in read)]
        assert line[:4] == [name, *map(str, counts)]
    assert out[3] == "train and dev share 0 queries and 0 passages"


def test_everything_wrong_is_printed_by_kind_and_exits_with_1(run, tmp_path):
    train = rows(
        tmp_path / "train.jsonl",
        row("a"),
        row(""),
        {"query": "x"},
        row("Shared, yes"),
        row("b\x07", "\ufffd"),
    )
    dev = rows(
        tmp_path / "dev.jsonl", row("d", "q", "m"), row("shared: YES", "s", "r"), {"query": 1, "pos": ["p"]}
    )
    code, out, _ = run(f"data.train={train}", f"data.dev={dev}", "data.test=nowhere")
    assert code == 1
    start = next(place for place, line in enumerate(out) if line.startswith("error"))
    assert out[start] == "error: 1 x source that cannot be read [file]"
    assert out[start + 1].startswith("  nowhere: no such file or folder; allowed is ")
    assert out[start + 2 :] == [
        "error: 2 x column missing, or of the wrong type [missing or wrong type]",
        f"  {train}:3: `pos` is missing",
        f"  {dev}:3: `query` is a number, not a string",
        "error: 1 x empty or blank text [empty text]",
        f"  {train}:2: `query` is an empty text",
        "error: 1 x group without negatives [no negatives]",
        f"  {train}:3: no negatives; give `neg`, or find hard ones with `uprank mine`",
        "error: 1 x query of one split is also in another [leak]",
        f"  {train}:4: query is also in dev, {dev}:2: 'Shared, yes'",
        "warning: 1 x characters that were decoded wrongly [broken characters]",
        f"  {train}:5: U+FFFD, where a character was lost, in passage '\ufffd'",
        "warning: 1 x control characters [control characters]",
        f"  {train}:5: U+0007 in query 'b\\x07'",
        "6 errors, 2 warnings",
    ]
    assert [line[:2] for line in table(out)[1:4]] == [["train", "3"], ["dev", "2"], ["test", "0"]]


def test_warnings_alone_exit_with_0(run, tmp_path):
    path = rows(tmp_path / "a.jsonl", row("a"), row("a"))
    code, out, _ = run(f"data.train={path}")
    assert (code, out[-2:]) == (0, [f"  {path}:2: the row stands before, {path}:1", "1 warning"])


def test_five_examples_or_all(run, tmp_path):
    path = rows(tmp_path / "train.jsonl", *[{"query": f"q{k}", "pos": ["p"]} for k in range(60)])
    for argument, shown in ((), 5), (("examples=2",), 2), (("examples=0",), 0), (("examples=null",), 60):
        code, out, _ = run(f"data.train={path}", *argument)
        printed = [line.strip() for line in out if line.strip().startswith(f"{path}:")]
        assert (code, [int(line.split(":")[1]) for line in printed]) == (1, list(range(1, shown + 1)))
        more = f"  … and {60 - shown} more; all with examples=null"
        assert (more in out) == (shown < 60)
        assert out[-1] == "60 errors"


def test_rows_with_problems_can_be_left_out(run, tmp_path):
    path = rows(tmp_path / "train.jsonl", row("a"), row(""), {"query": "x"}, row("b"))
    code, out, _ = run(f"data.train={path}", "data.on_error=skip")
    assert code == 0
    assert out[2:] == [
        "warning: 3 x row left out by data.on_error=skip [dropped]",
        f"  {path}:2: `query` is an empty text",
        f"  {path}:3: `pos` is missing",
        f"  {path}:3: no negatives; give `neg`, or find hard ones with `uprank mine`",
        "3 warnings",
    ]
    code, out, _ = run(f"data.train=[{path},{tmp_path}/nowhere]", "data.on_error=skip")
    assert (code, out[-1]) == (1, "1 error, 3 warnings")  # a source that is not there is no row


def test_several_sources_are_checked_each_and_together(run, tmp_path):
    first = rows(tmp_path / "a.jsonl", row("alpha", "p", "n"), row("x", "one", "two"))
    second = rows(tmp_path / "b.jsonl", row("Alpha", "n", "m"))
    test = rows(tmp_path / "c.jsonl", row("ALPHA", "r", "s"))
    code, out, _ = run(f"data.train=[{first},{second}]", f"data.test={test}", "--json")
    found = json.loads("\n".join(out))
    assert code == 1
    assert [(source["path"], source["groups"], source["repeated"]) for source in found["sources"]] == [
        (str(first), 2, 0),
        (str(second), 1, 1),
        (str(test), 1, 0),
    ]
    kinds = {kind["kind"]: kind["examples"] for kind in found["problems"]}
    assert kinds == {
        "contradiction": [
            f"{second}:1: positive here and negative of the same query in {first}:1: 'n'",
        ],
        "leak": [
            f"{first}:1: query is also in test, {test}:1: 'alpha'",
            f"{second}:1: query is also in test, {test}:1: 'Alpha'",
        ],
    }


@pytest.mark.parametrize("flag", ["--json", "json=true"])
def test_json_follows_its_schema(run, tmp_path, flag, tiny_bert):
    jsonschema = pytest.importorskip("jsonschema")
    from uprank.eval.report.schema import schema_of

    path = rows(tmp_path / "a.jsonl", row("a"), row("a"), row(""))
    settings = [f"data.train={path}", f"data.dev={path}", f"model.path={tiny_bert}", "noise_queries=0"]
    code, out, _ = run(*settings, flag)
    found = json.loads("\n".join(out))
    jsonschema.Draft202012Validator(schema_of(CheckReport)).validate(found)
    assert (code, found["errors"], found["warnings"]) == (1, 4, 3)
    assert {kind["kind"]: kind["count"] for kind in found["problems"]} == {
        "empty text": 2,
        "leak": 2,
        "shared passages": 1,
        "duplicate row": 2,
    }
    assert found["sources"][0]["lengths"]["pair"]


def test_a_folder_and_a_model(run, beir, tiny_bert):
    code, out, _ = run(
        f"data.test={beir}", f"model.path={tiny_bert}", "model.max_tokens=12", "noise_queries=0"
    )
    assert code == 0
    lines = table(out)
    assert lines[1][:4] == ["test", "8", "8", "0"]
    assert lines[3][0] == "test"
    assert lines[3][4:6] == ["100.0", "%"]  # no pair of the fixture is so short
    assert [len(cell.split("/")) for cell in lines[3][1:4]] == [3, 3, 3]


def test_a_folder_to_mine_from_is_no_problem_and_its_leaks_are_found(run, tmp_path, beir):
    code, out, _ = run(f"data.train={beir}", f"data.dev={beir}")
    hint = f"{beir}: no negatives yet; before training: uprank mine data.train={beir} output=train.jsonl"
    assert code == 0
    assert hint in out
    assert table(out)[1][:4] == ["train", "12", "12", "0"]
    folder = tmp_path / "leaky"
    shutil.copytree(beir, folder)
    with (folder / "qrels" / "dev.tsv").open("a") as stream:
        stream.write("q0\td1\t1\nq3\td1\t1\n")
    code, out, _ = run(f"data.train={folder}", f"data.dev={folder}", "--json")
    found = json.loads("\n".join(out))
    assert code == 1
    assert {kind["kind"]: kind["count"] for kind in found["problems"] if kind["severity"] == "error"} == {
        "leak": 2
    }
    assert found["shared"][0]["queries"] == 2


def test_default_budgets_fit_a_short_model(run, beir, tiny_bert, tmp_path):
    short = tmp_path / "short"
    shutil.copytree(tiny_bert, short)
    settings = json.loads((short / "tokenizer_config.json").read_text())
    (short / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 100}))
    assert run(f"data.test={beir}", f"model.path={short}")[0] == 0


def test_noise_is_not_measured_by_a_head_that_has_not_learned(run, tmp_path, tiny_encoder):
    path = rows(tmp_path / "a.jsonl", {"query": "brain virus", "pos": ["heart"], "neg": ["river"]})
    code, out, _ = run(f"data.train={path}", f"model.path={tiny_encoder}", "--json")
    notes = json.loads("\n".join(out))["notes"]
    assert code == 0
    assert f"label noise: not measured, as {tiny_encoder} has no trained head" in notes


def test_noise_is_not_measured_without_negatives(run, tmp_path, tiny_bert):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"query": "q", "pos": ["p"], "neg": []}\n')
    _, out, _ = run(f"data.train={path}", f"model.path={tiny_bert}", "--json")
    assert (
        "label noise: not measured, as no row of data.train has negatives"
        in json.loads("\n".join(out))["notes"]
    )


def test_noise_is_what_the_model_ranks_over_a_positive(run, tmp_path, tiny_bert):
    from uprank import Reranker

    texts = ["heart protein gene", "river stone light", "mouse drug trial", "blood bone acid"]
    given = [
        {"query": f"brain virus {k}", "pos": texts[:2], "neg": [f"{text} {k}" for text in texts]}
        for k in range(6)
    ]
    path = rows(tmp_path / "a.jsonl", *given, {"query": "none", "pos": ["p"], "neg": ["n"]})
    reranker = Reranker.load(tiny_bert)
    expected = set()
    for number, one in enumerate(given, 1):
        scores = reranker.score([(one["query"], text) for text in (*one["pos"], *one["neg"])])
        above = [place for place in range(4) if scores[2 + place] > min(scores[:2])]
        expected |= {(number, one["neg"][place]) for place in above}
    code, out, _ = run(f"data.train={path}", f"model.path={tiny_bert}", "--json", "examples=null")
    found = json.loads("\n".join(out))
    noise = next(kind for kind in found["problems"] if kind["kind"] == "label noise")
    assert code == 0  # never an error
    suspects = {
        (int(line.split(": ")[0].rpartition(":")[2]), line.split("'")[1])
        for line in noise["examples"]
        if not line.startswith(f"{path}:7:")
    }
    assert 0 < len(expected) < 24
    assert suspects == expected
    assert any(
        note.endswith("of 7 groups the model ranks a negative over a positive") for note in found["notes"]
    )
    _, out, _ = run(f"data.train={path}", f"model.path={tiny_bert}", "noise_queries=2", "--json", "seed=1")
    assert any(" of 2 groups " in note for note in json.loads("\n".join(out))["notes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to check: set data.train, data.dev or data.test"),
        (("data.train=x", "model.max_tokens=0", "model.precision=fp8"), "2 problems"),
        (("data.train=x", "model.path=./nowhere"), "model.path=./nowhere: no such folder"),
        (("data.trian=x",), "did you mean 'data.train'?"),
        (("data.train=[a,b]", "data.test=nowhere"), "3 problems"),
        (("data.train=x", "data.on_error=drop", "examples=-1", "noise_queries=-1", "seed=-1"), "4 problems"),
        (("data.train=7",), "uprank check: 7: no such file or folder"),
    ],
)
def test_nothing_checked_exits_with_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, [])
    assert message in err


def test_the_last_line():
    assert [check_verdict(*counts) for counts in ((0, 0), (1, 0), (0, 2), (1200, 1))] == [
        "no problems",
        "1 error",
        "2 warnings",
        "1,200 errors, 1 warning",
    ]


def test_every_kind_is_in_the_order_errors_first():
    severities = [severity for severity, _ in KINDS.values()]
    assert severities == sorted(severities)


def test_passages_repeated_to_the_letter_are_counted_although_they_are_taken_once(run, tmp_path):
    given = [{"query": "q", "pos": ["p", "p"], "neg": ["n", "m", "n", "n", "N"]}, row("x")]
    path = rows(tmp_path / "a.jsonl", *given)
    for _ in range(2):  # the second time from the cache
        code, out, _ = run(f"data.train={path}", "--json")
        found = json.loads("\n".join(out))
        assert (code, found["sources"][0]["negatives"]) == (0, 4)
        (kind,) = found["problems"]
        assert (kind["kind"], kind["count"]) == ("duplicate passage", 4)
        assert kind["examples"] == [
            f"{path}:1: positive stands more than once: 'p'; it is taken once",
            *[f"{path}:1: negative stands more than once: 'n'; it is taken once"] * 2,
            f"{path}:1: negative stands more than once: 'N'",
        ]
    problems, skipped = Problems(), Problems()
    assert len(read_groups(str(path), problems, skipped=skipped)) == 2
    assert (problems, skipped) == ([], [])


def test_nothing_left_after_skipping_is_an_error(run, tmp_path):
    path = rows(tmp_path / "train.jsonl", row(""), {"query": "x"})
    code, out, _ = run(f"data.train={path}", "data.on_error=skip")
    assert code == 1
    assert f"  {path}: no groups: every row has problems" in out


def test_rows_of_dev_are_never_left_out(run, tmp_path):
    train, dev = (
        rows(tmp_path / f"{name}.jsonl", *given) for name, given in (("a", [row("a")]), ("b", [row("")]))
    )
    code, out, _ = run(f"data.train={train}", f"data.dev={dev}", "data.on_error=skip")
    assert code == 1
    assert any("`query` is an empty text" in line for line in out)


def test_code_of_a_model_is_named_before_its_tokenizer_is_read(run, tmp_path, tiny_bert):
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "x",
        "auto_map": {"AutoConfig": "x.C"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    path = rows(tmp_path / "a.jsonl", {"query": "brain virus", "pos": ["heart"], "neg": ["river"]})
    code, _, err = run(f"data.train={path}", f"model.path={folder}")
    assert code == 2
    assert "needs Python code of its own" in err
