"""Stored scores of dev evaluations: what is damaged is evaluated again, or named."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.configs.schema_train import DevSettings
from uprank.data.groups import Collection
from uprank.data.store import write_folder
from uprank.eval.measures import parse_measures
from uprank.eval.retrieval import Candidates
from uprank.eval.scoring import Scored
from uprank.train.dev import Dev, make_dev


@pytest.fixture
def dev(tmp_path):
    run = {f"q{i}": {f"d{j}": float(np.float32(i / (1 + j))) for j in range(3)} for i in range(4)}
    collection = Collection("dev", dict.fromkeys(run, "?"), {}, {q: {"d1": 1} for q in run}, {})
    dev = Dev(collection, Candidates("bm25", 3, run, "bm25"), parse_measures(["nDCG@10"]), tmp_path)
    scored = Scored(run, 12, 2, 1.5)
    write_folder(tmp_path / "base", lambda folder: dev._keep(scored, {"nDCG@10": 0.63}, folder))
    return dev


def test_what_was_kept_is_read_back(dev):
    assert dev.has("base")
    assert not dev.has("step-000006")
    kept = dev.kept("base")
    assert (kept.run, kept.pairs, kept.truncated, kept.seconds) == (dev.candidates.run, 12, 2, 1.5)
    assert dev.row("base")["dev"] == {"nDCG@10": 0.63}


@pytest.mark.parametrize("name", ["scores.npy", "measures.json"])
def test_every_damage_is_found(dev, name, caplog):
    file = dev.folder / "base" / name
    whole, generator = file.read_bytes(), random.Random(3)
    damages = [whole[:-2], whole[: len(whole) // 2], b"", whole + b"x", b"\xff" * 40]
    for _ in range(60):
        turned = bytearray(whole)
        turned[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        damages.append(bytes(turned))
    for damaged in damages:
        file.write_bytes(damaged)
        assert not dev.has("base")
        with pytest.raises(UserError, match=f"base/{name}"):
            dev.kept("base")
    assert "base" in caplog.text
    file.unlink()
    assert not dev.has("base")


def test_scores_of_an_earlier_version_have_no_hash(dev):
    file = dev.folder / "base" / "measures.json"
    values = json.loads(file.read_text())
    del values["hash"], values["scores"]
    file.write_text(json.dumps(values))
    assert dev.kept("base").run == dev.candidates.run
    file.write_text(json.dumps({**values, "pairs": None}))
    with pytest.raises(UserError, match="pairs must be a whole number, not null"):
        dev.kept("base")


def test_dev_candidates_without_a_relevant_one_are_refused(tmp_path):
    texts = {"d0": "a ranking function", "d1": "a motorway", "d2": "a tower"}
    collection = Collection("dev", {"q": "motorway"}, texts, {"q": {"d2": 1, "d1": 0}}, {"q": ["d0", "d1"]})
    settings = DevSettings(candidates="groups", measures=["nDCG@10"])
    with pytest.raises(UserError, match="no dev candidate is relevant, so that every model would score 0"):
        make_dev(collection, settings, tmp_path, seed=0)
    with pytest.raises(UserError, match="no dev candidate is relevant"):  # and not: every one is
        make_dev(replace(collection, pools={"q": []}), settings, tmp_path, seed=0)


def test_a_sample_of_the_dev_queries_is_known_as_one(tmp_path):
    queries = {f"q{i}": "motorway" for i in range(9)}
    pools, qrels = (dict.fromkeys(queries, value) for value in (["d0", "d1"], {"d1": 1}))
    collection = Collection("dev", queries, {"d0": "a tower", "d1": "a motorway"}, qrels, pools)
    settings = DevSettings(candidates="groups", measures=["nDCG@10"], max_queries=4)
    dev = make_dev(collection, settings, tmp_path, seed=0)
    assert (len(dev.collection.queries), dev.collection.sampled_from) == (4, 9)
