"""`uprank eval`: mistakes are found, all at once, before anything is ranked."""

import pytest
from uprank.eval.results import Report
from uprank.eval.retrieval import candidates as candidates_module
from uprank.model.reranker import Reranker

SMALL = ("depth=8", "model.max_tokens=64", "model.query_tokens=16", "threads=1")


@pytest.fixture
def refused(call, monkeypatch, capsys, tmp_path):
    """What a wrong command is told; nothing is ranked, no model is loaded, nothing is written."""

    def forbidden(*arguments, **options):
        raise AssertionError("this must not be reached")

    def refused(*arguments, output=tmp_path / "out"):
        monkeypatch.setattr(candidates_module, "search_bm25", forbidden)
        monkeypatch.setattr(Reranker, "load", forbidden)
        before = sorted(tmp_path.rglob("*"))
        code = call(f"output={output}", *arguments)
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return refused


def test_an_unknown_measure(refused, beir):
    err = refused(f"data.test={beir}", "measures=[NDGC@10,P,MRR@10]")
    assert "unknown measure 'NDGC'; did you mean 'nDCG'?" in err
    assert "P needs a cutoff" in err


def test_a_list_with_brackets_is_answered_with_what_works(call, refused, beir, tmp_path, monkeypatch):
    err = refused(f"data.test={beir}", "measures=[nDCG@10,P@5(rel=2)]")
    assert '\'measures=["…","…"]\'' in err
    monkeypatch.undo()
    for number, measures in enumerate(['[nDCG@10,"P@5(rel=2)"]', "nDCG@10"]):
        output = tmp_path / str(number)
        code = call(f"data.test={beir}", f"measures={measures}", f"output={output}")
        assert code == 0
        assert Report.load(output).measures == ["nDCG@10", "P@5(rel=2)"][: 2 - number]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("models={a: null}", "model.path="), "model.path is empty"),
        (("candidates=bm52",), "candidates 'bm52': no such file; allowed are bm25, dense, hybrid,"),
        (("candidates=groups", "baseline=null"), "nothing to evaluate"),
        (("depth=0",), "depth=0: allowed are whole numbers from 1"),
        (("baseline=bm52",), "baseline=bm52: no such system; there are bm25"),
        (("models={bm25: x}",), "two systems are called 'bm25'"),
        (("model.path=x", "models={a: y}"), "model.path and models are both set"),
        (("seed=-1",), "seed=-1: allowed are"),
        (("runs=[no.run]",), "runs: no.run: no such file"),
        (("gate.measure=NDCG", "gate.alpha=2"), "3 problems"),
        (("gate.measure=MAP",), "gate.measure=MAP: bm25 has nothing to be compared with"),
        (("data.train=nowhere",), "data.train=nowhere: no such file or folder"),
        (("model.precision=int8", "tokens_per_batch=0", "threads=0"), "3 problems"),
        (("model.path=./nowhere",), "model.path=./nowhere: no such folder"),
        (("data.test=nowhere.tsv",), "nowhere.tsv: no such file or folder"),
    ],
)
def test_settings_that_cannot_be_meant(refused, beir, arguments, message):
    given = () if any(argument.startswith("data.test") for argument in arguments) else (f"data.test={beir}",)
    assert message in refused(*given, *arguments)


def test_an_existing_output_is_not_touched(refused, beir, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "exists" in refused(f"data.test={beir}", output=tmp_path / "full")
    assert "exists" in refused(f"data.test={beir}", output=tmp_path / "full" / "mine.txt")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_model_folder_without_config_is_found_before_the_data_is_ranked(refused, beir, tmp_path):
    (tmp_path / "model").mkdir()
    err = refused(f"data.test={beir}", f"model.path={tmp_path / 'model'}")
    for part in ("no config.json", "no *.safetensors", "no tokenizer"):
        assert part in err


def test_every_model_that_cannot_be_found_is_named(refused, beir, tiny_bert):
    err = refused(f"data.test={beir}", f"models={{good: '{tiny_bert}', one: ./none1, two: ./none2}}")
    assert "./none1: no such folder" in err
    assert "./none2: no such folder" in err


def test_wrong_data_is_listed_with_its_lines(refused, tmp_path, tiny_bert):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query": 1, "pos": ["p"]}\n{}\n')
    err = refused(f"data.test={rows}", f"model.path={tiny_bert}")
    assert f"{rows}:1: `query` is a number, not a string" in err
    assert f"{rows}:2: `query` is missing" in err


def test_a_run_of_documents_that_are_not_there(refused, beir, tmp_path):
    (tmp_path / "bad.run").write_text("q18 Q0 nowhere 1 1.0 t\n")
    assert "document 'nowhere' (query 'q18') is not in the corpus" in refused(
        f"data.test={beir}", f"candidates={tmp_path / 'bad.run'}"
    )
