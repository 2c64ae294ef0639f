import pytest
from uprank.configs.schema import EvalModelSettings
from uprank.configs.schema_eval import EvalCommand
from uprank.eval.command.request import make_request, named
from uprank.eval.measures.measure import Measure

MODELS = {"base": EvalModelSettings("b"), "tuned": EvalModelSettings("t")}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qrels.txt").write_text("q 0 a 1\n")
    (tmp_path / "rows.jsonl").write_text('{"query": "q", "pos": ["a"]}\n')
    for name in ("a.run", "b.run"):
        (tmp_path / name).write_text("q Q0 a 1 1.0 t\n")
    (tmp_path / "beir").mkdir()


def plan(models=None, **settings):
    command, problems = EvalCommand(output="out"), []
    for key, value in settings.items():
        target, _, field = key.rpartition("__")
        setattr(getattr(command, target) if target else command, field, value)
    return make_request(command, models or {}, problems), problems


def test_one_collection_has_a_first_stage_and_the_first_of_two_models_as_baseline(files):
    found, problems = plan(MODELS, data__test="beir")
    assert problems == []
    (part,) = found.collections
    assert (part.name, part.candidates, part.first_stage, part.baseline) == ("beir", "bm25", "bm25", "base")
    assert plan({"tuned": MODELS["tuned"]}, data__test="beir")[0].collections[0].baseline == "bm25"


def test_trec_files_alone_need_no_candidates(files):
    found, problems = plan(data__test="qrels.txt", runs=["a.run", "b.run"])
    assert problems == []
    (part,) = found.collections
    assert (part.texts, part.candidates, part.runs) == (False, "", {"a": "a.run", "b": "b.run"})
    assert part.baseline == "a"


def test_a_candidates_file_beside_trec_qrels_is_a_run(files):
    (part,) = plan(data__test="qrels.txt", candidates="a.run", runs={"other": "b.run"})[0].collections
    assert (part.candidates, part.runs) == ("", {"a": "a.run", "other": "b.run"})


def test_runs_alone_search_nothing_unless_it_is_asked_for(files):
    assert plan(data__test="beir", runs="a.run")[0].collections[0].candidates == ""
    found = plan(data__test="beir", runs="a.run", candidates="bm25")[0].collections[0]
    assert (found.candidates, found.baseline) == ("bm25", "bm25")


def test_several_collections_are_named_and_the_first_leads(files):
    found, _ = plan(MODELS, data__test={"own": "beir", "guard": "rows.jsonl"}, candidates="auto")
    assert [(p.name, p.candidates, p.first_stage) for p in found.collections] == [
        ("own", "bm25", "bm25"),
        ("guard", "groups", ""),
    ]


def test_the_measure_of_the_gate_is_computed_too(files):
    found, _ = plan(MODELS, data__test="beir", gate__measure="MRR@5")
    assert [str(m) for m in found.measures] == ["nDCG@10", "MRR@10", "MRR@5"]
    assert found.gate == Measure("MRR", 5)
    found, _ = plan(MODELS, data__test="beir", gate__measure="MRR@10")
    assert [str(m) for m in found.measures] == ["nDCG@10", "MRR@10"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": MODELS, "data__test": "qrels.txt"}, "has no texts: models cannot score"),
        ({"data__test": "qrels.txt"}, "nothing to evaluate: qrels.txt is a TREC qrels file"),
        ({"data__test": "qrels.txt", "candidates": "bm25", "runs": "a.run"}, "bm25 is not possible"),
        ({"data__test": "qrels.txt", "candidates": "none.run"}, "candidates 'none.run': no such file"),
        ({"data__test": "qrels.txt", "runs": "none.run"}, "runs: none.run: no such file"),
        ({"data__test": "qrels.txt", "runs": ["a.run", "a.run"]}, "runs: a.run is given twice"),
        ({"data__test": "beir", "runs": {"bm25": "a.run"}, "candidates": "bm25"}, "two systems are called"),
        ({"data__test": "beir", "runs": 3}, "runs=3: allowed are PATH, [PATH, …] and {NAME: PATH, …}"),
        ({"data__test": {"../x": "beir"}}, "'../x' cannot be a name"),
        ({"data__test": "beir", "data__train": "nowhere"}, "data.train=nowhere: no such file or folder"),
        ({"data__test": "beir", "gate__measure": "NDCG"}, "gate.measure: unknown measure 'NDCG'"),
        ({"data__test": "beir", "gate__measure": "MAP"}, "gate.measure=MAP: bm25 has nothing to be compared"),
        ({"data__test": "beir", "gate__alpha": 0.0}, "gate.alpha=0.0: allowed is above 0 up to 1"),
        ({"data__test": "beir", "gate__min_delta": float("nan")}, "gate.min_delta=nan: must be a number"),
        ({"data__test": []}, "data.test=[]: nothing is given"),
        ({"data__test": {}}, "data.test={}: nothing is given"),
        ({"data__test": None}, "data.test=None: nothing is given"),
        ({"data__test": {"a": None}}, "data.test.a=None: is no path"),
        ({"data__test": {"a": ["beir"]}}, "data.test.a=['beir']: is no path"),
        ({"data__test": {"Report.html": "beir", "b": "rows.jsonl"}}, "'Report.html' cannot be the name"),
        ({"data__test": "none.jsonl", "models": MODELS}, "data.test=none.jsonl: no such file or folder"),
        ({"data__test": "qrels.txt", "runs": "a.run", "data__train": "rows.jsonl"}, "data.train cannot be"),
        ({"data__test": "beir", "gate__alpha": 0.1}, "gate.alpha=0.1: there is no gate without gate.measure"),
        ({"data__test": "beir", "gate__min_delta": 0.1}, "gate.min_delta=0.1: there is no gate without"),
        ({"data__test": "beir", "models": {"m": MODELS["base"]}, "baseline": "m", "gate__measure": "MAP"},
         "gate.measure=MAP: nothing to judge: m is the baseline"),
        ({"data__test": "beir", "measures": None}, "measures=None: allowed are MEASURE and [MEASURE"),
        ({"data__test": "beir", "measures": [10]}, "'measures=[nDCG@10,\"P@5(rel=2)\"]'"),
        ({"data__test": "beir", "baseline": "x"}, "baseline=x: no such system; there are bm25"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(files, settings, message):
    found, problems = plan(**settings)
    assert found is None
    assert any(message in problem for problem in problems), problems


def test_all_mistakes_at_once_and_each_once(files):
    settings = {"data__test": ["beir", "qrels.txt"], "depth": 0, "runs": "none.run", "measures": ["x"]}
    found, problems = plan(**settings, gate__alpha=2.0, gate__measure="MAP")
    assert found is None
    for part in ("gate.alpha=2.0", "runs: none.run", "unknown measure 'x'", "depth=0"):
        assert sum(part in problem for problem in problems) == 1


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/b.tsv"], ["b"]),
        (["one/test.jsonl", "two/test.jsonl"], ["one-test", "two-test"]),
        (["/x/b", "/y/c/b", "/z/c/b"], ["x-b", "y-c-b", "z-c-b"]),
        (["..", "."], ["data-1", "data-2"]),
        (["."], ["data"]),
    ],
)
def test_short_names_tell_the_paths_apart(paths, names):
    found = named("data.test", paths)
    assert list(found.values()) == paths
    assert names == list(found)


def test_nothing_given_is_nothing():
    assert named("runs", None) == {}


def test_one_measure_needs_no_brackets(files):
    found, problems = plan(data__test="beir", measures="nDCG@5")
    assert problems == []
    assert found.measures == [Measure("nDCG", 5)]


def test_a_folder_keeps_what_looks_like_a_suffix(tmp_path):
    (tmp_path / "v1.5").mkdir()
    assert list(named("data.test", [str(tmp_path / "v1.5")])) == ["v1.5"]


def test_missing_data_do_not_hide_the_other_mistakes(files):
    found, problems = plan(data__test=["no", "nor"], candidates="none.run", runs=["none.txt"], depth=0)
    assert found is None
    for part in ("data.test=no:", "data.test=nor:", "candidates 'none.run'", "runs: none.txt", "depth=0"):
        assert sum(part in problem for problem in problems) == 1, problems
