"""What the cache is told of a way of scoring: config and prompts, where they decide scores."""

import json
import shutil

from uprank.configs.schema import ScoredModelSettings
from uprank.model.backends.load import identity, load_model
from uprank.model.reranker import Reranker


def changed(folder, target, **values):
    """A copy of a model with other values in its config."""
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | values))
    return target


def ways(models):
    return {json.dumps(identity(model), sort_keys=True) for model in models}


def scores(models):
    return {float(model.score([("stone", "green light")])[0]) for model in models}


def test_the_config_decides_but_not_its_bookkeeping(tiny_bert, tmp_path):
    other = changed(tiny_bert, tmp_path / "other", layer_norm_eps=0.1)
    same = changed(tiny_bert, tmp_path / "same", architectures=["X"], transformers_version="1", uprank={})
    models = [Reranker.load(folder, device="cpu") for folder in (tiny_bert, other)]
    assert len({model.weights_hash() for model in models}) == 1
    assert len(ways(models)) == len(scores(models)) == 2
    assert identity(Reranker.load(same, device="cpu")) == identity(models[0])


def test_config_and_saved_prompts_of_sentence_transformers_decide(tiny_bert, tmp_path):
    from sentence_transformers import CrossEncoder

    other = changed(tiny_bert, tmp_path / "other", layer_norm_eps=0.1)
    for name, prompt in (("river", "river "), ("stone", "stone stone ")):
        prompted = CrossEncoder(
            str(tiny_bert), prompts={"ask": prompt}, default_prompt_name="ask", device="cpu"
        )
        prompted.save(str(tmp_path / name))
    models = [
        load_model(ScoredModelSettings(str(folder), backend="sentence_transformers", device="cpu"))
        for folder in (tiny_bert, other, tmp_path / "river", tmp_path / "stone")
    ]
    assert len({model.weights_hash() for model in models}) == 1
    assert len(ways(models)) == len(scores(models)) == 4
