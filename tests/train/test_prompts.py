"""Prompts of a model: trained, evaluated, scored, saved and published alike."""

import dataclasses
import json

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.configs.schema import ScoredModelSettings
from uprank.configs.schema_data import MineCommand, MineDataSettings, TeacherSettings
from uprank.data.groups import Group
from uprank.data.prompts import Prompts
from uprank.data.read import read_judged
from uprank.eval.retrieval.candidates import find_candidates
from uprank.eval.score_cache import ScoreCache
from uprank.eval.scoring import score_candidates
from uprank.model.backends.load import identity, load_model
from uprank.model.reranker import Reranker
from uprank.train.mine.command import mine
from uprank.train.run import train

PROMPTS = {"query_prompt": "list rank ", "passage_prompt": "stone: "}


def with_prompts(path, target):
    """The rows of a file with the prompts written into their texts, those of the row where it has some."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["query"] = row.pop("query_prompt", PROMPTS["query_prompt"]) + row["query"]
        before = row.pop("passage_prompt", PROMPTS["passage_prompt"])
        for key in ("pos", "neg"):
            row[key] = [before + text for text in row[key]]
    target.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return target


@pytest.fixture
def mixed(jsonl, tmp_path):
    """Training and dev rows, of which every third has a prompt of its own, every sixth also for passages."""
    files = []
    for path in jsonl:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows):
            row |= {"query_prompt": "mouse "} if number % 3 == 0 else {}
            row |= {"passage_prompt": "heart "} if number % 6 == 0 else {}
        files.append(tmp_path / path.name)
        files[-1].write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return files


def test_scores_with_prompts_are_those_of_texts_with_them(tiny_xlmr, pairs):
    plain, prompted = Reranker.load(tiny_xlmr), Reranker.load(tiny_xlmr, **PROMPTS)
    written = [(PROMPTS["query_prompt"] + query, PROMPTS["passage_prompt"] + text) for query, text in pairs]
    assert np.array_equal(prompted.score(pairs), plain.score(written))
    assert not np.allclose(prompted.score(pairs), plain.score(pairs), atol=1e-2)
    assert np.array_equal(prompted.as_read.score(pairs), plain.score(pairs))
    documents = [text for _, text in pairs[:8]]
    ranked = prompted.rerank("river", documents)
    assert sorted(place.document for place in ranked) == sorted(documents)  # as they were given
    read = plain.score(Prompts(*PROMPTS.values()).pairs(("river", place.document) for place in ranked))
    assert [place.score for place in ranked] == pytest.approx(read.tolist(), abs=1e-5)


@pytest.mark.parametrize("backend", ["sentence_transformers", "flag_embedding"])
def test_other_libraries_are_given_the_prompts_that_a_folder_states(tiny_xlmr, tmp_path, backend):
    pytest.importorskip({"flag_embedding": "FlagEmbedding"}.get(backend, backend))
    Reranker.load(tiny_xlmr, **PROMPTS).save(tmp_path / "m")
    pairs = [("river stone", "light cell 3"), ("mouse", "gene virus")]
    peer = load_model(ScoredModelSettings(str(tmp_path / "m"), backend=backend), device="cpu")
    np.testing.assert_allclose(peer.score(pairs), Reranker.load(tmp_path / "m").score(pairs), atol=1e-5)
    none = ScoredModelSettings(str(tmp_path / "m"), backend=backend, query_prompt="", passage_prompt="")
    plain = load_model(none, device="cpu")
    np.testing.assert_allclose(plain.score(pairs), Reranker.load(tiny_xlmr).score(pairs), atol=1e-5)


def test_a_model_keeps_its_prompts_and_a_setting_is_stronger(tiny_xlmr, tmp_path):
    assert not Reranker.load(tiny_xlmr).prompts
    Reranker.load(tiny_xlmr, **PROMPTS).save(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["uprank"].items() >= PROMPTS.items()
    assert Reranker.load(tmp_path / "m").prompts == Prompts(*PROMPTS.values())
    assert Reranker.load(tmp_path / "m", query_prompt="").prompts == Prompts("", PROMPTS["passage_prompt"])
    Reranker.load(tmp_path / "m", query_prompt="", passage_prompt="").save(tmp_path / "none")
    assert json.loads((tmp_path / "none" / "config.json").read_text())["uprank"].keys() == {
        "query_tokens", "max_tokens",
    }  # fmt: skip


def test_the_prompts_of_a_row_win():
    prompts = Prompts("q: ", "p: ")
    plain = Group("a", ("b",), ("c", "d"), "")
    assert prompts.group(plain).prompted.texts == ("q: a", "p: b", "p: c", "p: d")
    own = dataclasses.replace(plain, query_prompt="own ")
    assert prompts.group(own).prompted.texts == ("own a", "p: b", "p: c", "p: d")
    assert Prompts().group(own) is own


def test_evaluation_reads_rows_as_training_does(mixed, tmp_path, tiny_xlmr):
    """Rows of which some have prompts of their own, against the same rows with all of it written out."""
    _, dev = mixed
    written = with_prompts(dev, tmp_path / "written.jsonl")
    found = []
    for path, prompts in ((dev, PROMPTS), (written, {})):
        collection = read_judged(str(path), [], split="dev")
        candidates = find_candidates(collection, "groups", 100)
        scored = score_candidates(Reranker.load(tiny_xlmr, **prompts), collection, candidates)
        found.append([sorted(row.values()) for row in scored.run.values()])
    for one, two in zip(*found, strict=True):
        assert one == pytest.approx(two, abs=1e-5)


def test_the_cache_keeps_texts_as_they_were_scored(beir, tiny_xlmr):
    collection = read_judged(str(beir), [], split="dev")
    candidates = find_candidates(collection, "bm25", 10)
    plain, prompted = Reranker.load(tiny_xlmr), Reranker.load(tiny_xlmr, **PROMPTS)
    cache = ScoreCache.of(identity(plain))
    first = score_candidates(plain, collection, candidates, cache=cache)
    second = score_candidates(prompted, collection, candidates, cache=cache)
    assert (first.cached, second.cached) == (0, 0)
    assert first.run != second.run
    again = score_candidates(prompted, collection, candidates, cache=cache)
    assert again.cached == again.pairs
    assert again.run == second.run


def test_training_with_prompts_is_training_on_texts_with_them(settings, mixed, tiny_xlmr, tmp_path):
    """The same losses, dev values and weights, whether the prompts are settings or part of the rows."""
    written = [with_prompts(path, tmp_path / f"w-{path.name}") for path in mixed]
    options = {"train__epochs": 1.0, "train__eval_every": 3}
    prompts = {f"model__{key}": text for key, text in PROMPTS.items()}
    train(settings(tiny_xlmr, mixed, tmp_path / "a", **options, **prompts))
    train(settings(tiny_xlmr, written, tmp_path / "b", **options))
    rows = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in "ab"
    ]
    for one, two in zip(*rows, strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() & {"loss", "grad_norm", "score_spread"}:
            assert one[key] == pytest.approx(two[key], rel=1e-4)
        if "dev" in one:
            assert one["dev"] == pytest.approx(two["dev"], abs=1e-6)
    assert sum("loss" in row for row in rows[0]) == 3
    best = tmp_path / "a" / "best"
    assert Reranker.load(best).prompts == Prompts(*PROMPTS.values())
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["prompts"] == PROMPTS
    report = json.loads((tmp_path / "a" / "eval" / "final" / "report.json").read_text())
    told = {system["name"]: system["query_prompt"] for system in report["systems"]}
    assert (told["base"], told["tuned"]) == (PROMPTS["query_prompt"],) * 2


def test_other_prompts_do_not_continue_a_run(settings, jsonl, tiny_xlmr, tmp_path):
    one = settings(tiny_xlmr, jsonl, tmp_path / "a", train__max_steps=1)
    train(one)
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"finished": None}))
    one.model.query_prompt = "query: "
    with pytest.raises(UserError, match=r"model\.query_prompt=query:  differs from None"):
        train(one)


def test_a_teacher_reads_its_own_prompts(beir, tiny_bert, tmp_path):
    teacher = TeacherSettings(path=str(tiny_bert), scores=True, margin=-1e9, **PROMPTS)
    data, output = MineDataSettings(train=str(beir)), tmp_path / "out.jsonl"
    mine(MineCommand(data=data, output=str(output), negatives=3, teacher=teacher))
    row = json.loads(output.read_text().splitlines()[0])
    expected = Reranker.load(tiny_bert, **PROMPTS).score((row["query"], text) for text in row["neg"])
    assert row["neg_scores"] == pytest.approx(expected.tolist(), abs=1e-5)
