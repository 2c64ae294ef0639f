"""`uprank score`: the scores of the reranker, in the order of the rows; wrong rows all named, none scored."""

import io
import json
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from uprank.model import __main__ as score_command
from uprank.model.reranker import Reranker


@pytest.fixture
def score(monkeypatch, capsys):
    """Run the command on text from stdin or on a file: (exit code, rows of stdout, stderr)."""

    def score(*arguments, stdin=b""):
        GlobalHydra.instance().clear()
        stream = io.TextIOWrapper(io.BytesIO(stdin if isinstance(stdin, bytes) else stdin.encode()))
        monkeypatch.setattr(sys, "stdin", stream)
        monkeypatch.setattr(sys, "argv", ["uprank score", *map(str, arguments)])
        code = 0
        try:
            score_command.main()
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, [json.loads(line) for line in out.splitlines()], err

    yield score
    GlobalHydra.instance().clear()


@pytest.fixture
def no_model(monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("no model may be loaded")

    monkeypatch.setattr(Reranker, "from_settings", forbidden)


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture(scope="module")
def reranker(tiny_bert):
    return Reranker.load(tiny_bert, device="cpu")


PAIRS = [
    {"query": "rank query", "passage": "heart " * 30, "id": 7},
    {"query": "rank query", "passage": "stone 合同", "note": {"deep": ["kept", None]}},
    {"query": "cell", "passage": "gene"},
    {"query": "", "passage": ""},
    {"query": "rank query", "passage": "stone 合同"},
]
DOCUMENTS = [
    {"query": "heart", "documents": ["river", "heart blood", "cell gene", "river", "bone"], "id": "a"},
    {"query": "rank", "documents": []},
    {"query": "rank", "documents": ["one"]},
]


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_pairs_keep_their_order_and_their_other_keys(score, reranker, tiny_bert, tmp_path, source):
    file = tmp_path / "pairs.jsonl"
    file.write_text(lines(PAIRS), encoding="utf-8")
    given = (f"input={file}",) if source == "file" else ()
    code, rows, err = score(
        f"model.path={tiny_bert}", *given, stdin=lines(PAIRS) if source == "stdin" else ""
    )
    assert (code, err) == (0, "")
    assert [{key: value for key, value in row.items() if key != "score"} for row in rows] == PAIRS
    expected = reranker.score([(row["query"], row["passage"]) for row in PAIRS])
    assert [row["score"] for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)
    assert len({round(row["score"], 4) for row in rows}) == 4  # so that a wrong order would show


def test_documents_are_ranked_best_first(score, reranker, tiny_bert):
    code, rows, _ = score(f"model.path={tiny_bert}", stdin=lines(DOCUMENTS))
    assert code == 0
    for given, row in zip(DOCUMENTS, rows, strict=True):
        assert {key: row[key] for key in given} == given
        scores = reranker.score([(given["query"], text) for text in given["documents"]]).tolist()
        ranking = row["ranking"]
        assert [entry["index"] for entry in ranking] == sorted(
            range(len(scores)), key=lambda i: (-scores[i], i)
        )
        assert [entry["score"] for entry in ranking] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
    same = [entry["index"] for entry in rows[0]["ranking"] if entry["index"] in (0, 3)]
    assert same == [0, 3]  # equal texts keep the order given


@pytest.mark.parametrize("top_k", [1, 2, 9])
def test_top_k(score, tiny_bert, top_k):
    _, whole, _ = score(f"model.path={tiny_bert}", stdin=lines(DOCUMENTS))
    _, rows, _ = score(f"model.path={tiny_bert}", f"top_k={top_k}", stdin=lines(DOCUMENTS))
    assert [row["ranking"] for row in rows] == [row["ranking"][:top_k] for row in whole]


def test_rows_of_both_kinds_in_one_input(score, tiny_bert):
    mixed = [PAIRS[0], DOCUMENTS[0], PAIRS[2], {"query": "q", "passage": "p", "documents": None}]
    code, rows, _ = score(f"model.path={tiny_bert}", stdin=lines(mixed))
    assert code == 0
    assert ["score" in row for row in rows] == [True, False, True, True]
    _, alone, _ = score(f"model.path={tiny_bert}", stdin=lines([PAIRS[2]]))
    assert rows[2]["score"] == pytest.approx(alone[0]["score"], abs=1e-5)


def test_more_rows_than_a_block(score, monkeypatch, reranker, tiny_bert):
    monkeypatch.setattr(score_command, "ROWS", 3)
    given = [{"query": "rank", "passage": f"heart {'cell ' * (k % 5)}", "k": k} for k in range(8)]
    code, rows, _ = score(f"model.path={tiny_bert}", stdin=lines(given))
    assert code == 0
    assert [row["k"] for row in rows] == list(range(8))
    expected = reranker.score([(row["query"], row["passage"]) for row in given])
    assert [row["score"] for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)


WRONG = [
    '{"query": "q"}',
    '{"passage": "p"}',
    '{"query": 1, "passage": "p"}',
    '{"query": "q", "passage": ["p"]}',
    '{"query": "q", "documents": "p"}',
    '{"query": "q", "documents": ["p", 2]}',
    '{"query": "q", "documents": null}',
    '["q", "p"]',
    '{"query": "q"',
    '{"query": "q", "passage": "\\ud800"}',
]


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_wrong_rows_are_all_named_and_nothing_is_scored(score, no_model, tmp_path, source):
    text = "\n".join(['{"query": "q", "passage": "p"}', "", *WRONG, '{"query": "q", "passage": "p"}']) + "\n"
    file = tmp_path / "rows.jsonl"
    file.write_text(text, encoding="utf-8")
    name = str(file) if source == "file" else "stdin"
    given = [f"input={file}"] if source == "file" else []
    code, rows, err = score("model.path=any", *given, stdin=text)
    assert (code, rows) == (2, [])
    problems = [line.strip() for line in err.splitlines()[1:]]
    assert err.startswith(f"uprank score: {len(WRONG)} problems\n")
    assert [problem.split(": ")[0] for problem in problems] == [f"{name}:{3 + k}" for k in range(len(WRONG))]
    assert all('a row is {"query": …, "passage": …} or' in problem for problem in problems[:7])
    assert "a row is a JSON object, this is a list" in problems[7]
    assert "broken JSON" in problems[8]
    assert "no character" in problems[9]


def test_a_wrong_row_late_in_a_file_stops_everything(score, no_model, monkeypatch, tmp_path):
    monkeypatch.setattr(score_command, "ROWS", 2)
    file = tmp_path / "rows.jsonl"
    file.write_text(lines(PAIRS) + "{}\n", encoding="utf-8")
    code, rows, err = score("model.path=any", f"input={file}")
    assert (code, rows) == (2, [])
    assert f"{file}:6: " in err


def test_a_wrong_row_late_in_a_stream_is_named_after_what_was_scored(score, monkeypatch, tiny_bert):
    monkeypatch.setattr(score_command, "ROWS", 2)
    code, rows, err = score(
        f"model.path={tiny_bert}", stdin=lines(PAIRS[:3]) + "{}\n" + lines(PAIRS[:2]) + "[]\n"
    )
    assert code == 2
    assert len(rows) == 2
    assert "stdin:4: " in err
    assert "stdin:7: " in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("input=nowhere.jsonl",), "input=nowhere.jsonl: no such file; `-` reads stdin"),
        ((), "stdin: no rows"),
        (("top_k=0", "model.max_tokens=0", "threads=0", "tokens_per_batch=0"), "4 problems"),
        (("tok_k=3",), "unknown setting 'tok_k'; did you mean 'top_k'?"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_model_is_loaded(score, no_model, arguments, message):
    code, rows, err = score("model.path=any", *arguments)
    assert (code, rows) == (2, [])
    assert message in err


def test_a_model_is_required(score):
    code, _, err = score()
    assert code == 2
    assert "model.path is not set" in err


def test_an_encoder_without_a_head_is_refused(score, tiny_encoder):
    code, rows, err = score(f"model.path={tiny_encoder}", stdin=lines(PAIRS))
    assert (code, rows) == (2, [])
    assert "an encoder without a reranking head" in err


def test_a_folder_that_is_no_model_is_refused(score, tmp_path):
    (tmp_path / "x").write_text("x")
    code, rows, err = score(f"model.path={tmp_path}", stdin=lines(PAIRS))
    assert (code, rows) == (2, [])
    assert "no config.json in this folder" in err
