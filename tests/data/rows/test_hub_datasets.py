"""Named data sets: `hf://` on folders that `datasets` itself reads, `mteb://` on tasks of mteb's shape."""

import json
import sys
import types

import pytest
from datasets import Dataset
from uprank.configs.errors import UserError
from uprank.data.problems import Problems
from uprank.data.read import read_groups, read_judged
from uprank.data.rows.columns import ALLOWED
from uprank.eval.retrieval.candidates import find_candidates

ROWS = [
    {"query": "what is bm25", "positive": ["a ranking function"], "negative": ["a motorway", "a bus"]},
    {"query": "river", "positive": ["water", "a stream"], "negative": ["a stone"]},
]


@pytest.fixture
def folder(tmp_path):
    """A data set with two splits: Parquet and JSONL."""
    (tmp_path / "set").mkdir()
    Dataset.from_list(ROWS).to_parquet(tmp_path / "set" / "test.parquet")
    other = {"query": "light", "positive": ["the sun"], "negative": ["the night"]}
    Dataset.from_list([other]).to_parquet(tmp_path / "set" / "train.parquet")
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def own_datasets_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def read(path, split="test", reader=read_groups):
    problems = Problems()
    return reader(str(path), problems, split=split), problems


def test_reranking_rows_are_groups(folder):
    groups, problems = read(f"hf://{folder}")
    assert problems == []
    assert [(g.query, g.positives, g.negatives) for g in groups] == [
        (row["query"], tuple(row["positive"]), tuple(row["negative"])) for row in ROWS
    ]
    assert groups[1].where == f"hf://{folder}:2"


def test_the_split_is_that_of_the_use_unless_it_is_given(folder):
    assert [group.query for group in read(f"hf://{folder}", "train")[0]] == ["light"]
    assert [group.query for group in read(f"hf://{folder}::train", "test")[0]] == ["light"]
    for path, split, wanted in ((f"hf://{folder}", "dev", "dev"), (f"hf://{folder}::some", "test", "some")):
        groups, problems = read(path, split)
        assert groups == []
        assert problems == [f"{path}: no split '{wanted}'; there are {', '.join(['train', 'test'])}"]


def test_judged_rows_rank_their_own_passages(folder):
    collection, problems = read(f"hf://{folder}", reader=read_judged)
    assert problems == []
    assert collection.path == f"hf://{folder}"
    assert list(collection.queries.values()) == ["what is bm25", "river"]
    found = find_candidates(collection)
    assert (found.source, [len(row) for row in found.run.values()]) == ("groups", [3, 3])
    with pytest.raises(UserError, match="rows have no corpus to search"):
        find_candidates(collection, "bm25")


def test_one_text_is_a_list_of_one(tmp_path):
    rows = [{"query": "light", "positive": "the sun", "negative": "the night"}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (group,) = read(f"hf://{tmp_path}", "train")[0]
    assert (group.positives, group.negatives) == (("the sun",), ("the night",))


def test_wrong_rows_are_all_named(tmp_path):
    rows = [{"query": "a", "pos": [], "neg": ["b"]}, {"query": " ", "pos": ["a"], "neg": ["a"]}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    groups, problems = read(f"hf://{tmp_path}", "train")
    assert groups == []
    assert problems == [
        f"hf://{tmp_path}:1: `pos` is empty; a group needs at least one relevant passage",
        f"hf://{tmp_path}:2: `query` is an empty text",
        f"hf://{tmp_path}:2: a positive is also a negative: 'a'",
    ]


@pytest.mark.parametrize("path", ["hf://", "hf://a:b:c:d", "mteb://"])
def test_a_path_that_names_nothing(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", types.ModuleType("mteb"))
    value, problems = read(path, reader=read_judged)
    assert not getattr(value, "queries", None)
    assert problems[0].startswith(f"{path}: allowed are ")


def test_what_cannot_be_loaded_and_unknown_columns(tmp_path):
    groups, problems = read(f"hf://{tmp_path}/none")
    assert groups == []
    assert problems[0].startswith(f"hf://{tmp_path}/none: cannot be loaded: ")
    Dataset.from_list([{"text": "a"}]).to_parquet(tmp_path / "train.parquet")
    path = f"hf://{tmp_path}"
    assert read(path)[1] == [f"{path}: its columns are text (a string); allowed are {ALLOWED}"]


def split_data(**changes):
    """One split as mteb 2 holds it: `task.dataset[subset][split]`."""
    return {
        "queries": Dataset.from_list([{"id": "q1", "text": "river"}, {"id": "q2", "text": "light"}]),
        "corpus": Dataset.from_list(
            [{"id": f"d{k}", "title": "T" if k else "", "text": f"text {k}"} for k in range(4)]
        ),
        "relevant_docs": {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 2}},
        "top_ranked": None,
    } | changes


@pytest.fixture
def mteb(monkeypatch):
    """A stand-in with the two calls that are made of mteb 2.26: `get_task` and the task's `load_data`."""
    module, tasks = types.ModuleType("mteb"), {}

    class Task:
        def __init__(self, tables):
            self.tables = tables

        def load_data(self):
            self.dataset = self.tables

    module.get_task = lambda name: Task(tasks[name])
    monkeypatch.setitem(sys.modules, "mteb", module)
    return tasks


def test_a_retrieval_task_has_a_corpus_to_search(mteb):
    mteb["Words"] = {"default": {"test": split_data()}}
    collection, problems = read("mteb://Words", reader=read_judged)
    assert problems == []
    assert collection.queries == {"q1": "river", "q2": "light"}
    assert collection.passages == {"d0": "text 0", "d1": "T text 1", "d2": "T text 2", "d3": "T text 3"}
    assert collection.qrels == {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 2}}
    assert collection.pools == {}
    assert find_candidates(collection, "bm25", 2).run["q1"] == {}
    assert find_candidates(collection, "auto", 2) == find_candidates(collection, "bm25", 2)


def test_a_reranking_task_has_its_own_candidates(mteb):
    ranked = {"q1": ["d2", "d1", "d0"]}
    mteb["Words"] = {"en": {"test": split_data(top_ranked=ranked), "dev": split_data()}, "fr": {}}
    collection, problems = read("mteb://Words:en", reader=read_judged)
    assert problems == []
    assert collection.pools == {"q1": ["d2", "d1", "d0"], "q2": []}
    found = find_candidates(collection)
    assert ({query: list(row) for query, row in found.run.items()}, found.missing) == (
        {"q1": ["d2", "d1", "d0"], "q2": []},
        ["q2"],
    )
    assert list(find_candidates(collection, depth=2).run["q1"]) == ["d2", "d1"]  # not the first ids


def test_an_order_of_relevance_is_not_what_cuts(mteb):
    """As mteb makes them of rows with positives and negatives: the ids know what is relevant, too."""
    ids = {
        f"q{k}": [f"apositive_{k}_{n}" for n in range(5)] + [f"negative_{k}_{n}" for n in range(5)]
        for k in (1, 2)
    }
    corpus = Dataset.from_list([{"id": doc, "title": "", "text": doc} for row in ids.values() for doc in row])
    judged = {query: {doc: int(doc.startswith("a")) for doc in row} for query, row in ids.items()}
    mteb["Rows"] = {"default": {"test": split_data(top_ranked=ids, corpus=corpus, relevant_docs=judged)}}
    collection, problems = read("mteb://Rows", reader=read_judged)
    assert problems == []
    assert {query: set(row) for query, row in collection.pools.items()} == {
        q: set(row) for q, row in ids.items()
    }
    cut = find_candidates(collection, depth=5).run
    assert 0 < sum(collection.qrels[query][doc] for query, row in cut.items() for doc in row) < 10


def test_what_is_wrong_with_a_task(mteb):
    mteb["Words"] = {"en": {"test": split_data()}, "fr": {"test": split_data()}}
    mteb["Pairs"] = {"default": {"test": Dataset.from_list([{"sentence1": "a"}])}}
    broken = split_data(relevant_docs={"q1": {"d9": 1}, "q7": {"d1": 1}})
    mteb["Broken"] = {"default": {"test": broken}}
    for path, expected in (
        ("mteb://Words", ["mteb://Words: no subset 'default'; there are en, fr"]),
        ("mteb://Words:fr:dev", ["mteb://Words:fr:dev: no split 'dev'; there are test"]),
        ("mteb://Nothing", ["mteb://Nothing: cannot be loaded: 'Nothing'"]),
        (
            "mteb://Pairs",
            ["mteb://Pairs: no retrieval or reranking task: it has no queries, corpus and judgments"],
        ),
        (
            "mteb://Broken",
            [
                "mteb://Broken: document 'd9' is judged or ranked, and not in the corpus",
                "mteb://Broken: query 'q7' is judged, and has no text",
            ],
        ),
    ):
        assert read(path, reader=read_judged)[1] == expected
    assert read("mteb://Words")[1] == [
        "mteb://Words: tasks of mteb are for evaluation; give it as data.test or data.dev"
    ]


def test_ids_that_no_run_file_can_hold_are_all_named(mteb):
    queries = Dataset.from_list([{"id": "q 1", "text": "river"}])
    corpus = Dataset.from_list([{"id": key, "text": "water"} for key in ("d\u00a01", "", "d2")])
    data = split_data(queries=queries, corpus=corpus, relevant_docs={"q 1": {"d2": 1}})
    mteb["Blanks"] = {"default": {"test": data}}
    assert read("mteb://Blanks", reader=read_judged)[1] == [
        f"mteb://Blanks: {what} is empty or has white space, which a TREC run file cannot hold"
        for what in ("query id 'q 1'", "document id 'd\\xa01'", "document id ''")
    ]


def test_mteb_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    assert read("mteb://SciFact", reader=read_judged) == (
        None,
        ['mteb://SciFact: mteb is not installed: pip install "uprank[mteb]"'],
    )
