"""Data of several files as a mapping: its keys, their meaning, and their problems."""

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from uprank.data.judged import by_role as sources
from uprank.data.judged.beir import read_beir_collection
from uprank.data.judged.by_role import describe_files, read_role_groups, read_role_judged, role_problems
from uprank.data.problems import Problems

FORMS = "{qrels, run, queries, corpus, depth} or {triples, queries, corpus, depth}"
FORMATS = ".jsonl with `_id` and `text`, or .tsv with id<TAB>text, each also .gz or .zst, or a BEIR folder"


@pytest.fixture
def given(tmp_path):
    """Files of every kind, by key."""
    contents = {
        "qrels.txt": "q1 0 d1 2\n",
        "bm25.run": "".join(f"q1 Q0 d{k} 1 {-k} t\n" for k in range(1, 200)),
        "triples.tsv": "q1\td1\td2\nq1\td1\td3\n",
        "queries.tsv": "q1\tone\nq2\ttwo\n",
        "collection.tsv": "".join(f"d{k}\ttext {k}\n" for k in range(1, 200)),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    keys = ("qrels", "run", "triples", "queries", "corpus")
    return dict(zip(keys, (str(tmp_path / name) for name in contents), strict=True))


def only(given, *keys, **others):
    return {key: given[key] for key in keys} | others


def groups(source, **options):
    found = Problems()
    return list(read_role_groups(source, found, **options)), found


def test_a_source_in_one_line(given):
    assert describe_files("train.jsonl") == "train.jsonl"
    source = only(given, "triples", "corpus", depth=3)
    assert describe_files(source) == f"{{triples: {given['triples']}, corpus: {given['corpus']}, depth: 3}}"
    assert describe_files(OmegaConf.create(source)) == describe_files(source)
    assert OmegaConf.create(describe_files({"run": "a", "depth": 3})) == {"run": "a", "depth": 3}


@pytest.mark.parametrize("wrap", [dict, OmegaConf.create])
def test_judgments_with_a_run_and_a_depth(given, wrap):
    source = wrap(only(given, "qrels", "run", "queries", "corpus"))
    found, wrong = groups(source)
    assert wrong == []
    assert [(g.query, g.positives, g.grades) for g in found] == [("one", ("text 1",), (2,))]
    assert found[0].where == f"{given['qrels']}:1"
    assert found[0].negatives == tuple(
        f"text {k}" for k in range(2, 101)
    )  # the first 100 without the positive
    source["depth"] = 4
    assert groups(source)[0][0].negatives == ("text 2", "text 3", "text 4")


def test_wrong_lines_can_be_skipped(given):
    Path(given["qrels"]).write_text("q1 0 d1 2\nq1 0 d2 x\n")
    skipped = Problems()
    found, wrong = groups(only(given, "qrels", "run", "queries", "corpus"), skipped=skipped)
    assert (len(found), wrong) == (1, [])
    assert skipped == [f"{given['qrels']}:2: relevance 'x' is not a whole number"]


def test_triples(given):
    found, wrong = groups(only(given, "triples", "queries", "corpus"))
    assert wrong == []
    assert [(g.query, g.positives, g.negatives) for g in found] == [
        ("one", ("text 1",), ("text 2", "text 3"))
    ]
    assert len(groups(only(given, "triples", "queries", "corpus", depth=1))[0][0].negatives) == 1


def test_judgments_alone_are_there_to_be_mined(given):
    source = only(given, "qrels", "queries", "corpus")
    assert [g.negatives for g in groups(source, need_negatives=False)[0]] == [()]
    assert groups(source)[1] == [
        f"{describe_files(source)}: no query has judged negatives; find hard ones first: "
        f"uprank mine data.train={describe_files(source)} output=train.jsonl"
    ]


def test_a_beir_folder_as_corpus_has_its_own_queries(beir, tmp_path):
    table = shutil.copy(beir / "qrels" / "train.tsv", tmp_path / "judged")
    source = {"qrels": str(table), "corpus": str(beir)}
    found, wrong = groups(source, need_negatives=False)
    expected = read_beir_collection(beir, "train", wrong)
    assert wrong == []
    assert {g.query for g in found} == set(expected.queries.values())
    collection = read_role_judged(source, wrong)
    assert (collection.queries, collection.qrels) == (expected.queries, expected.qrels)
    assert (collection.passages, collection.pools) == (expected.passages, {})
    assert (collection.path, wrong) == (describe_files(source), [])


def test_judged_queries_of_trec_judgments(given):
    wrong = Problems()
    collection = read_role_judged(only(given, "qrels", "run", "queries", "corpus"), wrong)
    assert wrong == []
    assert (collection.queries, collection.qrels) == ({"q1": "one"}, {"q1": {"d1": 2}})
    assert len(collection.passages) == 199
    Path(given["qrels"]).write_text("q1 0 d1 2\n\nq1 0 d999 1\nq7 0 d1 1\n")
    collection = read_role_judged(only(given, "qrels", "queries", "corpus"), wrong)
    assert wrong == []
    assert [note.partition("first is ")[2] for note in collection.notes] == [
        f"{given['qrels']}:4: 'q7'; they are left out",
        f"{given['qrels']}:3: 'd999'; relevant ones count as not found: 1",
    ]
    source, wrong = only(given, "triples", "queries", "corpus"), Problems()
    assert read_role_judged(source, wrong) is None
    assert wrong == [f"{describe_files(source)}: triples are for training; judged queries need qrels"]


def wrong_with(source):
    """Return the problems of a source; the cheap check and both readers must agree."""
    found, read, judged = role_problems(source), Problems(), Problems()
    assert list(read_role_groups(source, read)) == []
    assert read_role_judged(source, judged) is None
    assert found == read == judged
    assert set(found.kinds) <= {"file"}
    return [problem.removeprefix(f"{describe_files(source)}: ") for problem in found]


def test_wrong_keys_are_all_named(given):
    assert wrong_with({}) == [
        f"give either qrels or triples; allowed is {FORMS}",
        "corpus: missing; give the file with the passages",
        "queries: missing; give the file with the queries (a BEIR folder as corpus has its own)",
    ]
    assert wrong_with(
        only(given, "qrels", "triples", "run", queris="x", other=1, corpus=given["corpus"])
    ) == [
        f"unknown key queris; did you mean queries? allowed is {FORMS}",
        f"unknown key other; allowed is {FORMS}",
        f"give either qrels or triples; allowed is {FORMS}",
        "run: goes with qrels; triples have their own negatives",
        "queries: missing; give the file with the queries (a BEIR folder as corpus has its own)",
    ]
    assert wrong_with(only(given, "qrels", "queries", "corpus", depth=5)) == [
        "depth: needs a run or triples; give run"
    ]


@pytest.mark.parametrize("depth", [0, -1, True, "10", 1.0, None])
def test_wrong_values(given, depth):
    source = only(given, "qrels", "run", "corpus", queries=3, depth=depth) | {"run": ""}
    assert wrong_with(source) == [
        "run: ''; must be a path",
        "queries: 3; must be a path",
        f"depth: {depth!r}; must be a whole number above 0",
    ]


def test_files_that_are_not_there_or_of_no_known_form(given, tmp_path):
    (tmp_path / "folder").mkdir()
    other = tmp_path / "corpus.csv"
    other.write_text("x")
    source = {
        "qrels": "no.qrels",
        "run": str(tmp_path),
        "queries": str(tmp_path / "folder"),
        "corpus": str(other),
    }
    assert wrong_with(source) == [
        "qrels: no.qrels: no such file",
        f"run: {tmp_path}: no such file",
        f"queries: {tmp_path}/folder/queries.jsonl: no such file",
        f"corpus: {other}: allowed is {FORMATS}",
    ]
    assert wrong_with(only(given, "queries", triples="t", corpus="none.tsv")) == [
        "triples: t: no such file",
        "corpus: none.tsv: no such file",
    ]


def test_the_check_of_a_source_reads_no_file(given, monkeypatch):
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr("pathlib.Path.open", None)
    assert sources.role_problems(only(given, "qrels", "run", "queries", "corpus", depth=7)) == []
