"""The Python face and the ways a model cannot be loaded."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
import uprank
from safetensors.torch import load_file
from uprank.__main__ import main
from uprank.configs.errors import UserError
from uprank.model.load import load, usable_positions
from uprank.model.locate import locate
from uprank.model.reranker import Reranker
from uprank.model.weights import hash_weights


def test_the_three_lines_of_the_readme(tiny_xlmr):
    reranker = uprank.Reranker.load(tiny_xlmr)
    documents = ["river stone", "heart blood", "drug trial risk", "heart blood"]
    ranked = reranker.rerank("heart", documents, top_k=3)
    scores = reranker.score([("heart", document) for document in documents])
    assert scores.dtype == np.float32
    assert [place.score for place in ranked] == sorted(scores.tolist(), reverse=True)[:3]
    assert [documents[place.index] for place in ranked] == [place.document for place in ranked]
    equal = [place.index for place in ranked if place.document == "heart blood"]
    assert equal == sorted(equal)  # equal scores keep the order given


def test_order_is_kept_and_equal_pairs_are_scored_once(tiny_xlmr, pairs):
    reranker = Reranker.load(tiny_xlmr, query_tokens=60)
    seen = []
    many = pairs + pairs[::-1] + pairs[:3]
    scores = reranker.score(iter(many), progress=seen.append)
    single = {pair: reranker.score([pair])[0] for pair in pairs}
    np.testing.assert_allclose(scores, [single[pair] for pair in many], atol=1e-5)
    assert sum(seen) == len(set(pairs))


def test_no_pairs_no_scores(tiny_xlmr):
    assert Reranker.load(tiny_xlmr).score([]).shape == (0,)
    assert Reranker.load(tiny_xlmr).rerank("heart", []) == []


@pytest.mark.parametrize("pair", [("one",), "ab", ("a", None), ("a", "b", "c")])
def test_a_pair_is_two_strings(tiny_xlmr, pair):
    with pytest.raises(UserError, match="pair 1: a pair is"):
        Reranker.load(tiny_xlmr).score([("a", "b"), pair])


def test_saved_and_loaded_again_it_is_the_same_model(tiny_bert, tmp_path, pairs):
    reranker = Reranker.load(tiny_bert, query_tokens=60)
    reranker.save(tmp_path / "copy")
    again = Reranker.load(tmp_path / "copy", query_tokens=60)
    assert again.weights_hash() == reranker.weights_hash()
    np.testing.assert_array_equal(again.score(pairs), reranker.score(pairs))


def test_the_weights_hash_sees_every_change_and_only_content(tiny_bert):
    state = load_file(tiny_bert / "model.safetensors")
    name = next(iter(state))
    assert hash_weights(dict(reversed(list(state.items())))) == hash_weights(state)
    changed = {**state, name: state[name].clone()}
    changed[name].view(-1)[0] += 1e-3
    renamed = {("x" if key == name else key): value for key, value in state.items()}
    half = {key: value.half() for key, value in state.items()}
    assert len({hash_weights(values) for values in (state, changed, renamed, half)}) == 4


def test_budgets_never_pass_the_positions(tiny_xlmr, tiny_bert, caplog):
    with caplog.at_level("INFO"):
        reranker = Reranker.load(tiny_xlmr, query_tokens=20, max_tokens=512)
    assert reranker.pairs.max_tokens == usable_positions(reranker.model) == 128  # 130 less padding_idx + 1
    assert "128 positions" in caplog.text
    assert usable_positions(load(str(tiny_bert)).model) == 128


def test_an_encoder_gets_a_new_head_from_the_seed_and_the_log_says_so(tiny_encoder, caplog):
    with caplog.at_level("INFO"):
        one = Reranker.load(tiny_encoder, query_tokens=20, seed=1)
    assert one.new_head
    assert "made a new one-logit head" in caplog.text
    assert one.model.config.num_labels == 1
    assert one.weights_hash() == Reranker.load(tiny_encoder, query_tokens=20, seed=1).weights_hash()
    assert one.weights_hash() != Reranker.load(tiny_encoder, query_tokens=20, seed=2).weights_hash()
    body = load_file(tiny_encoder / "model.safetensors")
    state = one.model.base_model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in body.items())


def copy_with(folder, tmp_path, **changes):
    target = tmp_path / "model"
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target


def test_what_cannot_be_loaded_is_said_in_a_sentence(tiny_xlmr, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        locate("./not/there/at all")
    with pytest.raises(UserError, match=r"no config\.json") as caught:
        locate(str(tmp_path))
    assert len(caught.value.problems) == 3  # config, weights and tokenizer, all at once
    with pytest.raises(UserError, match="no such Python package is installed"):
        locate("package:no_such_package_here")
    with pytest.raises(UserError, match="3 outputs, a reranker has one"):
        load(str(copy_with(tiny_xlmr, tmp_path / "a", id2label={"0": "a", "1": "b", "2": "c"})))
    with pytest.raises(UserError, match="is a decoder"):
        load(str(copy_with(tiny_xlmr, tmp_path / "b", architectures=["XLMRobertaForCausalLM"])))
    with pytest.raises(UserError, match="of another shape"):
        load(str(copy_with(tiny_xlmr, tmp_path / "c", intermediate_size=64)))
    with pytest.raises(UserError, match="weights missing"):
        load(str(copy_with(tiny_xlmr, tmp_path / "d", num_hidden_layers=4)))


def test_a_cut_off_weight_file_is_named(tiny_xlmr, tmp_path):
    folder = copy_with(tiny_xlmr, tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="cannot be loaded"):
        load(str(folder))


@pytest.fixture
def asked(monkeypatch):
    """A hub that has no model; the list of what it was asked for."""
    import transformers.utils

    names = []

    def cached_file(location, name, **given):
        names.append((location, name))
        raise OSError(f"{location} is not a valid model identifier\nMore on tokens")

    monkeypatch.setattr(transformers.utils, "cached_file", cached_file)
    return names


def test_a_model_that_is_not_there_is_asked_for_once(asked):
    with pytest.raises(UserError, match=r"a/b: no such folder, and nothing from the hub: a/b is not a valid"):
        load("a/b")
    assert asked == [("a/b", "config.json")]


def test_all_models_of_a_comparison_are_looked_at_first(asked, monkeypatch, capsys, tmp_path):
    words = ["eval", "models=[x/one, x/two]", f"data.test={tmp_path}/no", f"output={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["uprank", *words])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert all(f"model.path=x/{name}: no such folder, and nothing" in said for name in ("one", "two"))
    assert f"data.test={tmp_path}/no: no such file" in said
    assert asked == [("x/one", "config.json"), ("x/two", "config.json")]


def test_a_hub_id_that_is_not_in_the_cache_is_an_error_in_a_sentence(monkeypatch):
    with pytest.raises(UserError, match="nobody/nothing-at-all"):
        load("nobody/nothing-at-all")


def test_pickled_weights_are_not_read(tiny_xlmr, tmp_path):
    folder = copy_with(tiny_xlmr, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="is a pickle and is not read"):
        locate(str(folder))


def test_devices_and_precisions_that_are_not_there(tiny_xlmr):
    with pytest.raises(UserError, match=r"model\.device=abc"):
        Reranker.load(tiny_xlmr, device="abc")
    with pytest.raises(UserError, match="allowed are auto, fp32, bf16, fp16"):
        Reranker.load(tiny_xlmr, precision="fp8")


def test_the_folder_of_a_run_is_answered_with_its_best_model(tiny_bert, tmp_path):
    shutil.copytree(tiny_bert, tmp_path / "run" / "best")
    with pytest.raises(UserError, match="the folder of a run; its best model is") as caught:
        locate(str(tmp_path / "run"))
    assert caught.value.problems[0].endswith(str(tmp_path / "run" / "best"))
