"""Models as other libraries save them: read as those libraries read them, or refused in a sentence."""

import ast
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import uprank
from safetensors.torch import load_file, save_file
from uprank.configs.errors import UserError
from uprank.configs.schema import ScoredModelSettings
from uprank.model.backends import load_model
from uprank.model.backends.onnx import FastTokenizer
from uprank.model.load import load, load_tokenizer
from uprank.model.locate import locate
from uprank.model.reranker import Reranker

ROOT = Path(uprank.__file__).parent
MODULES = {"sentence_transformers": "sentence_transformers", "flag_embedding": "FlagEmbedding"}
BACKENDS = ["uprank", *(name for name, module in MODULES.items() if find_spec(module))]
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}


def edited(folder, target, **changes):
    """Copy a model with another config.json; None takes a key out."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(kept))
    return target


def made(folder, tokenizer_of, config, *, kind=transformers.AutoModelForSequenceClassification):
    """Write a random model of a config with the tokenizer of another folder."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of)
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    config.eos_token_id = tokenizer.sep_token_id
    if kind is transformers.AutoModelForSequenceClassification:
        config.num_labels = 1
    torch.manual_seed(5)
    kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def one_by_one(folder, pairs):
    """Return the logits of transformers' own forward, pair by pair."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return [float(model(**tokenizer(*pair, return_tensors="pt")).logits[0, 0]) for pair in pairs]


def test_no_load_may_run_code_of_a_model():
    loads = ("from_pretrained", "CrossEncoder", "SentenceTransformer", "FlagReranker")
    lacking = []
    for file in ROOT.rglob("*.py"):
        if file.relative_to(ROOT).parts[0] in ("tests", "benchmarks", "build", ".venv", ".typing"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                named = {word.arg: word.value for word in node.keywords}
                closed = getattr(named.get("trust_remote_code"), "value", None) is False
                if name in loads and not closed:
                    lacking.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert lacking == []


@pytest.mark.parametrize("known", [True, False], ids=["known type", "unknown type"])
def test_code_of_a_model_never_runs_and_nothing_is_asked(tiny_xlmr, tmp_path, monkeypatch, known):
    kind = {} if known else {"model_type": "evil"}
    maps = {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"}
    folder = edited(tiny_xlmr, tmp_path / "model", auto_map=maps, **kind)
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'RAN')!r}).touch()")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on stdin"))
    for backend in BACKENDS:
        settings = ScoredModelSettings(path=str(folder), backend=backend)
        if known:
            load_model(settings)  # transformers' own class is used
        else:
            with pytest.raises(UserError, match=r"Python code of its own .* Uprank never runs"):
                load_model(settings)
    assert not (tmp_path / "RAN").exists()


def test_a_tokenizer_with_code_of_its_own_is_not_run(tiny_xlmr, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_xlmr, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.T", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'RAN')!r}).touch()")
    load_tokenizer(str(folder))  # what tokenizer.json says
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_weight_is_never_drawn_in_silence(tiny_xlmr, tmp_path, backend):
    folder = tmp_path / "model"
    shutil.copytree(tiny_xlmr, folder)
    state = load_file(folder / "model.safetensors")
    state.pop(next(name for name in state if name.endswith("query.weight")))
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="1 weights missing"):
        load_model(ScoredModelSettings(path=str(folder), backend=backend))


def test_a_pair_is_read_as_the_tokenizer_gives_it(tiny_bert, tmp_path, pairs):
    folder = tmp_path / "no-types"
    shutil.copytree(tiny_bert, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    few = pairs[:8]
    scores = Reranker.load(folder, query_tokens=60).score(few)
    np.testing.assert_allclose(scores, one_by_one(folder, few), atol=1e-5)
    assert np.abs(scores - Reranker.load(tiny_bert, query_tokens=60).score(few)).max() > 0.01


def test_a_graph_is_given_the_token_types_that_its_tokenizer_gives(tiny_bert, tmp_path):
    for names in (["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]):
        folder = tmp_path / str(len(names))
        shutil.copytree(tiny_bert, folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_input_names": names}))
        theirs = transformers.AutoTokenizer.from_pretrained(folder)("one", "two words")
        ours = FastTokenizer(folder)("one", "two words")
        assert ours == {name: theirs[name] for name in ("input_ids", "token_type_ids") if name in theirs}


def test_a_model_that_reads_padding_is_scored_without(tiny_bert, tmp_path, pairs, caplog):
    config = transformers.ConvBertConfig(**SIZES, embedding_size=32, initializer_range=0.4)
    folder = made(tmp_path / "convbert", tiny_bert, config)
    few = [("one", "two"), *pairs[:5], ("one", "two " * 60)]
    with caplog.at_level("INFO"):
        reranker = Reranker.load(folder, query_tokens=60)
    assert "`uprank publish` will refuse it" in caplog.text
    np.testing.assert_allclose(reranker.score(few), one_by_one(folder, few), atol=1e-5)
    pytest.importorskip("sentence_transformers")
    library = load_model(ScoredModelSettings(path=str(folder), backend="sentence_transformers"))
    assert library.alone
    np.testing.assert_allclose(library.score(few), one_by_one(folder, few), atol=1e-5)


def test_a_language_model_without_its_prompt_template_is_a_warning(tiny_bert, tmp_path, caplog):
    config = transformers.GPTNeoXConfig(**SIZES, max_position_embeddings=128)
    folder = made(tmp_path / "decoder", tiny_bert, config)
    reranker = Reranker.load(folder)
    assert "it ranks nearly at random without: set model.query_prompt" in caplog.text
    caplog.clear()
    Reranker.load(folder, query_prompt="<Query>: ")
    reranker.save(tmp_path / "trained")  # by Uprank: its prompts are known to be none
    Reranker.load(tmp_path / "trained")
    for config in (
        transformers.ElectraConfig(**SIZES, embedding_size=32),
        transformers.FunnelConfig(
            block_sizes=[1, 1], d_model=32, n_head=4, d_head=8, d_inner=64, num_decoder_layers=1
        ),
    ):
        Reranker.load(made(tmp_path / config.model_type, tiny_bert, config))
    assert "language model" not in caplog.text


def test_a_model_whose_score_depends_on_the_past_is_refused(tiny_bert, tmp_path):
    sparse = {"attention_type": "block_sparse", "block_size": 8, "num_random_blocks": 1}
    config = transformers.BigBirdConfig(**SIZES, **sparse, initializer_range=0.4, max_position_embeddings=256)
    folder = made(tmp_path / "bigbird", tiny_bert, config)
    with pytest.raises(UserError, match="depends on the pairs scored before") as caught:
        Reranker.load(folder)
    assert "original_full" in caught.value.advice
    Reranker.load(edited(folder, tmp_path / "full", attention_type="original_full"))


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "t5"])
def test_an_encoder_gets_a_new_head_whatever_its_name(tiny_bert, tmp_path, family):
    configs = {
        "distilbert": transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64),
        "modernbert": transformers.ModernBertConfig(**SIZES, max_position_embeddings=128),
        "t5": transformers.T5Config(
            d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
        ),
    }
    folder = made(tmp_path / family, tiny_bert, configs[family], kind=transformers.AutoModel)
    loaded = load(str(folder))
    assert loaded.new_head
    prefix = loaded.model.base_model_prefix
    assert loaded.drawn
    assert not any(name.startswith(f"{prefix}.") for name in loaded.drawn)


def test_the_weights_say_whether_there_is_a_head(tiny_bert, tmp_path):
    expected = Reranker.load(tiny_bert, query_tokens=60).weights_hash()
    unnamed = edited(tiny_bert, tmp_path / "a", architectures=None)
    unlabelled = edited(tiny_bert, tmp_path / "b", id2label=None, label2id=None, num_labels=None)
    for folder in (unnamed, unlabelled):
        reranker = Reranker.load(folder, query_tokens=60)
        assert not reranker.new_head
        assert reranker.weights_hash() == expected
    state = load_file(tiny_bert / "model.safetensors")
    two = edited(tiny_bert, tmp_path / "c", id2label=None, label2id=None)
    save_file(
        state | {"classifier.weight": torch.zeros(2, 32), "classifier.bias": torch.zeros(2)},
        two / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match="its head has 2 outputs"):
        load(str(two))


def test_a_tokenizer_larger_than_the_word_table_is_refused(tiny_bert, tmp_path):
    folder = tmp_path / "added"
    shutil.copytree(tiny_bert, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=f"ids up to {rows}, the word table has {rows} rows"):
        load(str(folder))


def test_the_padding_token_of_the_tokenizer_is_taken(tiny_electra, tmp_path, pairs):
    shutil.copytree(tiny_electra, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    scores = Reranker.load(tmp_path / "model", query_tokens=60).score(pairs[:4])
    np.testing.assert_array_equal(scores, Reranker.load(tiny_electra, query_tokens=60).score(pairs[:4]))


def test_adapters_without_their_base_are_refused_and_merged_as_advised(tiny_bert, tmp_path, pairs):
    peft = pytest.importorskip("peft")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    wanted = peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS", init_lora_weights=False)
    tuned = peft.get_peft_model(base, wanted)
    tuned.save_pretrained(tmp_path / "adapters")
    with pytest.raises(UserError, match=f"adapters of peft for {tiny_bert}") as caught:
        locate(str(tmp_path / "adapters"))
    for line in re.findall(r"Auto\S+\([^)]*\)\S*", caught.value.advice):
        line = line.replace("'MERGED'", repr(str(tmp_path / "merged"))).removesuffix(".")
        call = line.partition(".")[0]
        eval(line, {call: getattr(peft, call, None) or getattr(transformers, call)})
    scores = Reranker.load(tmp_path / "merged", query_tokens=60).score(pairs[:3])
    tokens = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    with torch.no_grad():
        expected = [float(tuned(**tokens(*pair, return_tensors="pt")).logits[0, 0]) for pair in pairs[:3]]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_dropout_of_a_padded_model_is_set_in_its_configuration(tiny_electra, pairs):
    reranker = Reranker.load(tiny_electra, query_tokens=60)
    before = reranker.score(pairs[:3])
    reranker.set_dropout(attention=0.0, hidden=0.0)
    np.testing.assert_allclose(reranker.score(pairs[:3]), before, atol=1e-5)
    rates = {m.p for m in reranker.model.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.0}
    reranker.set_dropout(attention=0.3, hidden=None)
    assert {m.p for m in reranker.model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0, 0.3}


def test_a_rate_that_a_configuration_does_not_have_is_refused(tiny_bert, tmp_path):
    config = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    reranker = Reranker.load(made(tmp_path / "t5", tiny_bert, config))
    with pytest.raises(UserError, match=r"model\.attention_dropout=0\.0"):
        reranker.set_dropout(attention=0.0, hidden=None)


@pytest.fixture(scope="module")
def modular(tiny_bert, tmp_path_factory):
    """Folder of a cross-encoder whose head is a Dense module of sentence-transformers."""
    modules = pytest.importorskip("sentence_transformers.cross_encoder.modules")
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder = tmp_path_factory.mktemp("modular")
    loaded = load(str(tiny_bert))
    loaded.model.base_model.save_pretrained(folder / "encoder")
    loaded.tokenizer.save_pretrained(folder / "encoder")
    torch.manual_seed(0)
    dense = modules.Dense(
        32,
        1,
        activation_function=torch.nn.Identity(),
        module_input_name="sentence_embedding",
        module_output_name="scores",
    )
    parts = [Transformer(str(folder / "encoder")), Pooling(32, pooling_mode="cls"), dense]
    CrossEncoder(modules=parts, device="cpu").save(str(folder / "model"))
    return folder / "model"


def test_a_head_in_modules_is_never_replaced_by_a_random_one(modular):
    for refused in (Reranker.load, lambda path: load_tokenizer(str(path)), lambda path: locate(str(path))):
        with pytest.raises(UserError, match="head lies in modules of its own") as caught:
            refused(modular)
        assert "backend=sentence_transformers" in caught.value.advice


def test_a_head_in_modules_is_scored_by_its_library(modular, pairs):
    from sentence_transformers import CrossEncoder

    few = pairs[:5]
    scores = load_model(ScoredModelSettings(path=str(modular), backend="sentence_transformers")).score(few)
    model = CrossEncoder(str(modular), device="cpu")
    np.testing.assert_allclose(scores, model.predict(few, activation_fn=torch.nn.Identity()), atol=1e-5)
    with pytest.raises(UserError, match="head lies in modules of its own"):
        load_model(ScoredModelSettings(path=str(modular), backend="flag_embedding"))
