"""What `uprank check` counts, which leaks it finds, and how it says so."""

import json
import sys

import pytest
from uprank.data.check import Leak, Summary, find_leaks, summarise
from uprank.data.groups import Group
from uprank.data.pairs import PairEncoder
from uprank.train.check import main


def group(query, positives=("p",), negatives=("n",), where="f:1"):
    return Group(query, tuple(positives), tuple(negatives), where)


def test_counts():
    groups = [group("a", "pq", "nmo"), group("b", "p", ""), group("a", "r"), group("a"), group("b", "p", "n")]
    assert summarise("train", "f", groups, None) == Summary("train", "f", 5, 6, 6, 3, None, None)
    assert summarise("dev", "f", [], None) == Summary("dev", "f", 0, 0, 0, 0, None, None)


def test_lengths_are_those_of_whole_pairs(tiny_bert):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    encoder = PairEncoder(tokenizer, query_tokens=4, max_tokens=20)
    groups = [group("rank query", [" ".join(["heart"] * n) for n in (1, 14, 15)], [" ".join(["cell"] * 95)])]
    summary = summarise("train", "f", groups, encoder)
    # 2 + n + 3 special tokens: 6, 19, 20 and 100; only the last is above 20.
    assert summary.truncated == 0.25
    assert summary.lengths == (19, 100, 100)
    assert summarise("train", "f", [], encoder).lengths is None


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("Is it so?", "is IT,  so", True),
        ("STRASSE", "straße", True),
        ("合同 违约?", "合同,违约", True),
        ("a b", "ab", False),
        ("???", "!!!", False),
        ("😀", "😺", False),
        ("😀", "😀", True),
        ("", "?", False),
    ],
)
def test_queries_are_shared_but_for_case_blanks_and_punctuation(first, second, shared):
    leaks = find_leaks({"train": [group(first, "x")], "dev": [group(second, "y")]})
    assert leaks == [Leak("train", "dev", [second] if shared else [], 1)]


def test_every_two_splits_are_compared():
    splits = {
        "train": [group("a", ["one"], ["two", "three"]), group("b", ["four"])],
        "dev": [group("b", ["four"], ["two"]), group("c", ["five"])],
        "test": [group("A", ["six"], ["seven"]), group("c!", ["five"], ["x"])],
    }
    assert find_leaks(splits) == [
        Leak("train", "dev", ["b"], 3),  # n, two, four
        Leak("train", "test", ["A"], 0),
        Leak("dev", "test", ["c!"], 1),
    ]


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
    cells = table(out)
    given = [[json.loads(line) for line in path.read_text().splitlines()] for path in jsonl]
    for name, line, read in zip(("train", "dev"), cells[1:3], given, strict=True):
        counts = [len(read), sum(len(r["pos"]) for r in read), sum(len(r["neg"]) for r in read), 0]
        assert line[:5] == [name, *map(str, counts)]
    assert out[3:] == ["train and dev share 0 queries and 0 passages", "no problems"]


def test_a_folder_and_a_model(run, beir, tiny_bert):
    code, out, _ = run(
        f"data.dev={beir}", f"data.test={beir}", f"model.path={tiny_bert}", "model.max_tokens=12"
    )
    assert code == 0
    dev, test = table(out)[1:3]
    assert dev[:5] == ["dev", "6", "6", "0", "0"]
    assert test[:5] == ["test", "8", "8", "0", "0"]
    assert test[-2:] == ["100.0", "%"]  # no pair of the fixture is so short
    assert len(test[5].split("/")) == 3


def test_a_folder_to_mine_from_is_no_problem_and_its_leaks_are_found(run, tmp_path, beir):
    import shutil

    code, out, _ = run(f"data.train={beir}", f"data.dev={beir}")
    hint = f"{beir}: no negatives yet; before training: uprank mine data.train={beir} output=train.jsonl"
    assert (code, out[-2:]) == (0, [hint, "no problems"])
    assert table(out)[1][:4] == ["train", "12", "12", "0"]
    folder = tmp_path / "leaky"
    shutil.copytree(beir, folder)
    with (folder / "qrels" / "dev.tsv").open("a") as stream:
        stream.write("q0\td1\t1\nq3\td1\t1\n")
    code, out, _ = run(f"data.train={folder}", f"data.dev={folder}")
    assert (code, out[-1]) == (1, "2 problems")
    assert [line.split(":")[:2] for line in out[-3:-1]] == [
        [str(folder), f" query {q}"] for q in ("q0", "q3")
    ]
    assert all("query of dev is also in train" in line for line in out[-3:-1])


def test_default_budgets_fit_a_short_model(run, beir, tiny_bert, tiny_xlmr, tmp_path):
    import shutil

    short = tmp_path / "short"
    shutil.copytree(tiny_bert, short)
    settings = json.loads((short / "tokenizer_config.json").read_text())
    (short / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 100}))
    assert run(f"data.test={beir}", f"model.path={short}")[0] == 0


def test_everything_wrong_is_printed_and_exits_with_1(run, tmp_path):
    train = rows(tmp_path / "train.jsonl", row("a"), row(""), {"query": "x"}, row("Shared, yes"))
    dev = rows(
        tmp_path / "dev.jsonl", row("d", "q", "m"), row("shared: YES", "s", "r"), {"query": 1, "pos": ["p"]}
    )
    code, out, _ = run(f"data.train={train}", f"data.dev={dev}", "data.test=nowhere")
    assert code == 1
    assert out[-7:] == [
        f"{train}:2: `query` is an empty text",
        f"{train}:3: `pos` is missing",
        f"{train}:3: no negatives; give `neg`, or find hard ones with `uprank mine`",
        f"{dev}:3: `query` is a number, not a string",
        "nowhere: no such file or folder; allowed is a JSONL file of groups, a BEIR folder, one .tsv file of "
        "a BEIR folder's qrels/, hf://DATASET:CONFIG:SPLIT, or mteb://TASK:SUBSET:SPLIT (to evaluate)",
        f"{dev}:2: query of dev is also in train: 'shared: YES'",
        "6 problems",
    ]
    assert [line[:2] for line in table(out)[1:4]] == [["train", "2"], ["dev", "2"], ["test", "0"]]


def test_more_problems_than_fit_a_terminal_are_all_printed(run, tmp_path):
    train = rows(tmp_path / "train.jsonl", *[{"query": f"q{k}", "pos": ["p"]} for k in range(60)])
    code, out, _ = run(f"data.train={train}")
    assert code == 1
    printed = [line for line in out if line.startswith(f"{train}:")]
    assert [int(line.split(":")[1]) for line in printed] == list(range(1, 61))
    assert out[-1] == "60 problems"


def test_a_wrong_split_does_not_hide_a_good_one(run, tmp_path, beir):
    train = rows(tmp_path / "train.jsonl", {"query": "q", "pos": ["p"]})
    code, out, _ = run(f"data.train={train}", f"data.dev={beir}")
    assert code == 1
    assert table(out)[2][:2] == ["dev", "6"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to check: set data.train, data.dev or data.test"),
        (("data.train=x", "model.max_tokens=0", "model.precision=fp8"), "2 problems"),
        (("data.train=x", "model.path=./nowhere"), "model.path=./nowhere: no such folder"),
        (("data.trian=x",), "did you mean 'data.train'?"),
    ],
)
def test_nothing_checked_exits_with_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, [])
    assert message in err
