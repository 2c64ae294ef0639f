"""Judged collections as they are published: small faults are told, and stop nothing."""

import json
import sys

import pytest
from uprank.configs.errors import UserError
from uprank.data.problems import Problems
from uprank.data.read import read_groups, read_judged
from uprank.eval.__main__ import main
from uprank.eval.retrieval import find_candidates, own_documents
from uprank.train.mine.command import main as mine

TEXTS = {"d1": "a river runs over stone", "d2": "the heart pumps blood", "d3": "light falls on a leaf"}


def folder(path, *, corpus=TEXTS, queries=None, qrels=()):
    """Write a BEIR folder with the splits train and test; judgments are (query, document, grade)."""
    queries = {"q1": "river stone", "q2": "heart blood"} if queries is None else queries
    (path / "qrels").mkdir(parents=True)
    for name, texts in ("corpus", corpus), ("queries", queries):
        rows = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    qrels = qrels or [("q1", "d1", 1), ("q2", "d2", 1)]
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in qrels)]
    for split in ("train", "dev", "test"):
        (path / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    def call(command, *words):
        monkeypatch.setattr(sys, "argv", ["uprank", *map(str, words)])
        code = 0
        try:
            command()
        except SystemExit as error:
            code = error.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def report(place):
    return json.loads((place / "report.json").read_text())


def test_a_query_does_not_rank_its_own_document(tmp_path, tiny_bert, run):
    texts = TEXTS | {"q1": "a river of stone runs here", "q2": "Title: heart blood and bone, all of it"}
    queries = {"q1": "A river of stone runs here.", "q2": "heart blood and bone, all of it", "d3": "light"}
    path = folder(
        tmp_path / "a",
        corpus=texts,
        queries=queries,
        qrels=[("q1", "d1", 1), ("q2", "d2", 1), ("d3", "d3", 1)],
    )
    problems = Problems()
    collection = read_judged(str(path), problems, split="test")
    assert own_documents(collection) == {"q1", "q2"}  # d3 is another text, and judged
    found = find_candidates(collection, "bm25", 1)
    assert {query: list(row) for query, row in found.run.items()} == {
        "q1": ["d1"],
        "q2": ["d2"],
        "d3": ["d3"],
    }
    run_file = tmp_path / "mine.run"
    run_file.write_text("q1 Q0 q1 1 9 x\nq1 Q0 d1 2 8 x\nq2 Q0 d2 1 9 x\nd3 Q0 d3 1 9 x\n")
    words = (f"data.test={path}", f"model.path={tiny_bert}", f"runs={run_file}", f"output={tmp_path / 'out'}")
    assert run(main, *words)[0] == 0
    found = report(tmp_path / "out")
    by_name = {system["name"]: system["results"]["nDCG@10"]["mean"] for system in found["systems"]}
    assert by_name["bm25"] == by_name["mine"] == 1.0
    assert any("2 queries of the same id and text as a document" in one["text"] for one in found["audits"])


def test_equal_numbers_of_other_texts_stay(tmp_path):
    corpus = {str(k): f"a text about thing {k} and more of it" for k in range(1, 4)}
    queries = {str(k): f"thing {k}" for k in range(1, 4)}
    path = folder(tmp_path / "a", corpus=corpus, queries=queries, qrels=[(k, 4 - k, 1) for k in range(1, 4)])
    collection = read_judged(str(path), Problems(), split="test")
    assert own_documents(collection) == set()
    assert set(find_candidates(collection, "bm25", 3).run["1"]) == {"1", "2", "3"}


FAULTS = {
    "empty": ({"corpus": TEXTS | {"d4": " "}}, "rows without text are left out: 1"),
    "document": (
        {"qrels": [("q1", "d1", 1), ("q1", "d9", 1), ("q2", "d2", 1)]},
        "relevant ones count as not found: 1",
    ),
    "query": (
        {"qrels": [("q1", "d1", 1), ("q2", "d2", 1), ("q9", "d2", 1)]},
        "judged queries that are not there: 1, the first is",
    ),
    "twice": ({"qrels": [("q1", "d1", 1), ("q1", "d1", 1), ("q2", "d2", 1)]}, "1 judgments stand twice"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_harmless_faults_are_told_and_stop_nothing(tmp_path, tiny_bert, run, caplog, fault):
    given, sentence = FAULTS[fault]
    path = folder(tmp_path / "a", **given)
    words = (f"data.test={path}", f"model.path={tiny_bert}", f"output={tmp_path / 'out'}")
    assert run(main, *words)[0] == 0
    assert sentence in caplog.text
    found = report(tmp_path / "out")
    assert fault == "twice" or any(one["loud"] and sentence in one["text"] for one in found["audits"])
    recall = {"document": 0.75}.get(fault, 1.0)  # as trec_eval has it: not found
    assert found["recall"] == recall
    assert run(mine, f"data.train={path}", "retriever=random", f"output={tmp_path / 'm.jsonl'}")[0] == 0
    groups = read_groups(str(path), problems := Problems(), split="test", need_negatives=False)
    assert (len(groups), list(problems)) == (2, [])


def test_contradicting_judgments_and_foreign_files_stay_errors(tmp_path):
    path = folder(tmp_path / "a", qrels=[("q1", "d1", 1), ("q1", "d1", 0)])
    assert read_judged(str(path), problems := Problems(), split="test") is not None
    assert "appears again" in problems[0]
    path = folder(tmp_path / "b", qrels=[("q1", "x1", 1), ("q2", "x2", 1)])
    read_judged(str(path), problems := Problems(), split="test")
    assert "qrels/test.tsv:2: documents of other files: no id is in the documents given" in problems[0]
    path = folder(tmp_path / "c", qrels=[("q1", "d1", 0), ("q2", "d2", 0)])
    read_judged(str(path), problems := Problems(), split="test")
    assert problems[0] == f"{path}: no passage of any query is relevant"


def test_files_by_role_are_measured_and_mined(tmp_path, tiny_bert, run):
    (tmp_path / "qrels.dev.tsv").write_text("1 0 10 1\n2 0 20 1\n")
    (tmp_path / "queries.dev.tsv").write_text("1\triver stone\n2\theart blood\n")
    (tmp_path / "collection.tsv").write_text("10\ta river runs\n20\tthe heart pumps\n30\tlight falls\n")
    (tmp_path / "top.run").write_text("1 Q0 30 1 9 x\n1 Q0 10 2 8 x\n2 Q0 20 1 9 x\n2 Q0 30 2 8 x\n")
    names = {"qrels": "qrels.dev.tsv", "queries": "queries.dev.tsv", "corpus": "collection.tsv"}
    roles = ", ".join(f"{role}: {tmp_path / name}" for role, name in names.items())
    test = (f"model.path={tiny_bert}", f"candidates={tmp_path / 'top.run'}", f"output={tmp_path / 'a'}")
    assert run(main, f"data.test={{{roles}}}", *test)[0] == 0
    named = f"data.test={{marco: {{{roles}, run: {tmp_path / 'top.run'}}}}}"
    assert run(main, named, f"model.path={tiny_bert}", f"output={tmp_path / 'b'}")[0] == 0
    one, other = report(tmp_path / "a"), report(tmp_path / "b")
    assert one["systems"][0]["name"] == other["systems"][0]["name"] == "top"
    assert one["systems"][0]["results"]["MRR@10"]["mean"] == 0.75
    again = read_judged(one["data"], Problems(), split="test")  # as publishing reads it
    assert again.queries == {"1": "river stone", "2": "heart blood"}
    words = (f"data.train={{{roles}}}", f"retriever={tmp_path / 'top.run'}", "near_duplicates=null")
    assert run(mine, *words, f"output={tmp_path / 'm.jsonl'}")[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [row["neg"] for row in rows] == [["light falls"], ["light falls"]]
    assert rows[0]["neg_sources"][0]["retriever"] == "top"


def test_a_run_that_names_other_documents_is_refused_by_mining(tmp_path, run):
    path = folder(tmp_path / "a")
    (tmp_path / "other.run").write_text("q1 Q0 x9 1 1.0 t\n")
    code, _, error = run(
        mine, f"data.train={path}", f"retriever={tmp_path / 'other.run'}", f"output={tmp_path / 'm'}"
    )
    assert code == 2
    assert "not in the corpus, as 'x9' of query 'q1'" in error


def test_rows_of_several_files_are_mined_together(tmp_path, run):
    for name, query in ("a", "river stone"), ("b", "heart blood"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"query": query, "pos": [f"{query} here"]}) + "\n")
    corpus = folder(tmp_path / "corpus")
    words = (f"data.train=[{tmp_path / 'a.jsonl'}, {tmp_path / 'b.jsonl'}]", f"corpus={corpus}")
    assert run(mine, *words, f"output={tmp_path / 'm.jsonl'}")[0] == 0
    rows = [json.loads(line)["query"] for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert rows == ["river stone", "heart blood"]


def test_rows_with_problems_may_be_skipped(tmp_path, tiny_bert, run):
    good = json.dumps({"query": "river", "pos": ["a river"], "neg": ["a leaf"]})
    (tmp_path / "a.jsonl").write_text(f"{good}\n" + '{"query": "x", "pos": []}\n{broken\n')
    words = (f"data.test={tmp_path / 'a.jsonl'}", f"model.path={tiny_bert}", f"output={tmp_path / 'out'}")
    assert run(main, *words)[0] == 2
    assert run(main, *words, "data.on_error=skip")[0] == 0
    text = "rows left out by data.on_error=skip: 2, the first is"
    assert any(one["loud"] and text in one["text"] for one in report(tmp_path / "out")["audits"])


def test_dev_queries_without_a_relevant_passage_are_refused_before_training(tmp_path, tiny_bert):
    from uprank.configs.schema_train import TrainCommand
    from uprank.train.start.preflight import read_inputs

    path = folder(tmp_path / "a", qrels=[("q1", "d1", 0), ("q2", "d2", 0)])
    (tmp_path / "t.jsonl").write_text(json.dumps({"query": "x", "pos": ["y"], "neg": ["z"]}) + "\n")
    settings = TrainCommand(output=str(tmp_path / "run"))
    settings.model.path, settings.data.train, settings.data.dev = (
        str(tiny_bert),
        str(tmp_path / "t.jsonl"),
        str(path),
    )
    with pytest.raises(UserError, match="no passage of any query is relevant"):
        read_inputs(settings)
