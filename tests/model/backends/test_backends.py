"""Other libraries behind the same face: the same scores for what fits, clear refusals for the rest."""

import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from uprank.configs.errors import UserError
from uprank.configs.schema import ScoredModelSettings
from uprank.eval.command.models import parse_models, score_collections
from uprank.model.backends import load as backends
from uprank.model.backends.load import backend_problems, hash_tokenizer, identity
from uprank.model.backends.load import load_model as load_by_settings
from uprank.model.backends.peer import _batches
from uprank.model.reranker import Reranker

LIBRARIES = ["sentence_transformers", "flag_embedding", "onnx"]


def load_model(path, tokens_per_batch=None, **settings):
    return load_by_settings(ScoredModelSettings(str(path), **settings), tokens_per_batch=tokens_per_batch)


def needs(backend):
    if importlib.util.find_spec(backends.PACKAGES[backend][0]) is None:
        pytest.skip(f"{backend} is not installed")


def export(folder, target):
    """The folder as `onnx/model.onnx` with tokenizer and config, without weights of torch."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] if model.config.type_vocab_size > 1 else []

    class Forward(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            return self.model(**dict(zip(names, inputs, strict=True))).logits

    (target / "onnx").mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(folder / name, target / name)
    inputs = tuple(torch.ones((2, 7), dtype=torch.int64) for _ in names)
    torch.onnx.export(
        Forward().eval(),
        inputs,
        str(target / "onnx" / "model.onnx"),
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}},
        dynamo=False,
        opset_version=17,
    )
    return target


@pytest.fixture(scope="module")
def onnx_xlmr(tiny_xlmr, tmp_path_factory):
    return export(tiny_xlmr, tmp_path_factory.mktemp("onnx") / "tiny-xlmr")


@pytest.fixture(scope="module")
def onnx_bert(tiny_bert, tmp_path_factory):
    return export(tiny_bert, tmp_path_factory.mktemp("onnx") / "tiny-bert")


def fitting(reranker, pairs):
    fits = reranker.pairs.full_lengths(pairs) <= reranker.pairs.max_tokens
    return [pair for pair, right in zip(pairs, fits, strict=True) if right]


@pytest.mark.parametrize("backend", LIBRARIES)
@pytest.mark.parametrize("family", ["xlmr", "bert"])
def test_scores_equal_uprank_for_pairs_that_fit(backend, family, request, pairs):
    needs(backend)
    folder = request.getfixturevalue(f"tiny_{family}")
    own = request.getfixturevalue(f"onnx_{family}") if backend == "onnx" else folder
    reranker = Reranker.load(folder, device="cpu")
    peer = load_model(own, backend=backend, device="cpu", tokens_per_batch=500)
    chosen = fitting(reranker, pairs)
    if backend == "flag_embedding":  # it decodes ids to text and encodes that anew: other ids for some texts
        chosen = [pair for pair in chosen if all(text.isascii() for text in pair)]
    assert len(chosen) > 8
    chosen += chosen[:3]
    told = []
    found = peer.score(iter(chosen), progress=told.append)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reranker.score(chosen), atol=1e-4)
    assert found.min() < 0 < found.max()  # raw logits, not probabilities
    assert sum(told) == len(set(chosen))
    assert len(told) > 1
    assert peer.budgets[1] == reranker.budgets[1]
    assert (peer.backend, peer.precision, peer.new_head) == (backend, "fp32", False)
    long = [(pairs[0][0], "river " * 500)]
    assert np.isfinite(peer.score(long)).all()
    assert len(peer.score([])) == 0
    if backend == "onnx":
        np.testing.assert_allclose(peer.score(pairs), reranker.score(pairs), atol=1e-4)  # cut ones, too
        assert peer.weights_hash() != reranker.weights_hash()
    else:
        assert peer.weights_hash() == reranker.weights_hash()


def test_onnx_encodes_every_text_as_uprank_does(onnx_xlmr, tiny_xlmr, onnx_bert, tiny_bert, pairs):
    odd = [("<s> </s> [SEP]", "<unk> [UNK] <mask>"), ("", "word"), ("word", ""), ("naïve", "重排序 \u200b")]
    for graph, folder in ((onnx_xlmr, tiny_xlmr), (onnx_bert, tiny_bert)):
        peer, reranker = load_model(graph, backend="onnx"), Reranker.load(folder)
        assert peer.budgets == reranker.budgets
        for pair in [*pairs, *odd]:
            expected, found = reranker.pairs.encode(*pair), peer.pairs.encode(*pair)
            assert found.ids.tolist() == expected.ids.tolist()
            assert found.types.tolist() == expected.types.tolist()


def test_onnx_takes_the_budgets_that_the_folder_states(onnx_xlmr, tmp_path):
    folder = shutil.copytree(onnx_xlmr, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["uprank"] = {"query_tokens": 9, "max_tokens": 40}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_model(folder, backend="onnx").budgets == (9, 40)
    assert load_model(folder, backend="onnx", query_tokens=7, max_tokens=999).budgets == (7, 128)
    by_file = load_model(folder / "onnx" / "model.onnx", backend="onnx")
    assert by_file.budgets == (9, 40)
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 3}))
    assert identity(load_model(folder, backend="onnx")) != identity(by_file)


def test_onnx_weights_in_a_file_of_any_name_are_hashed(onnx_xlmr, tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = shutil.copytree(onnx_xlmr, tmp_path / "model")
    graph = onnx.load(folder / "onnx" / "model.onnx")
    onnx.save(graph, folder / "onnx" / "model.onnx", save_as_external_data=True, location="weights.bin")
    before = load_model(folder, backend="onnx").weights_hash()
    (folder / "onnx" / "README.md").write_text("no weights")
    assert load_model(folder, backend="onnx").weights_hash() == before
    content = (folder / "onnx" / "weights.bin").read_bytes()
    (folder / "onnx" / "weights.bin").write_bytes(bytes(len(content)))
    assert load_model(folder, backend="onnx").weights_hash() != before


def test_a_dynamically_quantised_graph_scores_a_pair_alike_in_every_company(onnx_bert, tmp_path, pairs):
    pytest.importorskip("onnx")
    from onnxruntime.quantization import quantize_dynamic

    folder = shutil.copytree(onnx_bert, tmp_path / "int8")
    quantize_dynamic(onnx_bert / "onnx" / "model.onnx", folder / "onnx" / "model.onnx")
    peer = load_model(folder, backend="onnx")
    alone = np.concatenate([peer.score([pair]) for pair in pairs])
    assert (peer.score(pairs) == alone).all()
    peer.alone = False
    assert (peer.score(pairs) != alone).any()
    assert not load_model(onnx_bert, backend="onnx").alone


def test_onnx_runs_without_torch_and_transformers(onnx_xlmr):
    code = (
        "import sys\n"
        "from uprank.configs.schema import ScoredModelSettings\n"
        "from uprank.model.backends.load import load_model\n"
        f"settings = ScoredModelSettings({str(onnx_xlmr)!r}, backend='onnx')\n"
        "print(load_model(settings).score([('a', 'b')]))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_what_is_no_reranker_is_refused(tiny_encoder, tiny_xlmr, tmp_path):
    for backend in ("sentence_transformers", "flag_embedding"):
        needs(backend)
        with pytest.raises(UserError, match="an encoder without a head"):
            load_model(tiny_encoder, backend=backend, device="cpu")
    with pytest.raises(UserError, match=r"neither onnx/model.onnx nor model.onnx"):
        load_model(tiny_xlmr, backend="onnx")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"no tokenizer.json"):
        load_model(broken, backend="onnx")
    shutil.copy(tiny_xlmr / "tokenizer.json", broken)
    needs("onnx")
    with pytest.raises(UserError, match=r"model.onnx cannot be run"):
        load_model(broken, backend="onnx")


def test_a_graph_with_other_inputs_or_outputs_is_refused(tmp_path, tiny_xlmr):
    onnx = pytest.importorskip("onnx")
    needs("onnx")
    from onnx import TensorProto, helper

    def graph(name, inputs, shape):
        folder = tmp_path / name
        folder.mkdir()
        nodes = [helper.make_node("Cast", [inputs[0]], ["logits"], to=TensorProto.FLOAT)]
        taken = [helper.make_tensor_value_info(one, TensorProto.INT64, ["b", "s"]) for one in inputs]
        given = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(
            helper.make_graph(nodes, "g", taken, given), opset_imports=opset, ir_version=9
        )
        onnx.save(model, folder / "model.onnx")
        shutil.copy(tiny_xlmr / "tokenizer.json", folder)
        return str(folder)

    with pytest.raises(UserError, match="inputs pixels; those of a reranker are input_ids"):
        load_model(graph("image", ["pixels"], ["b", "s"]), backend="onnx")
    with pytest.raises(UserError, match="a reranker gives one logit each"):
        load_model(graph("tokens", ["input_ids"], ["b", "s"]), backend="onnx")


def test_a_missing_library_and_impossible_settings_are_named_at_once(monkeypatch, tiny_xlmr):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    path = str(tiny_xlmr)
    asked = ScoredModelSettings(path, backend="flag_embedding", precision="bf16", revision="v1")
    assert backend_problems(asked, "m") == [
        'm.backend=flag_embedding: FlagEmbedding is not installed: pip install "uprank[flag]"',
        "m.precision=bf16: backend flag_embedding scores in fp32",
        "m.revision=v1: backend flag_embedding takes folders and main branches only",
    ]
    assert any("uprank[onnx]" in line for line in backend_problems(ScoredModelSettings(path, backend="onnx")))
    assert backend_problems(ScoredModelSettings(path, precision="bf16", revision="v1")) == []
    assert "no such folder" in backend_problems(ScoredModelSettings("no/such/folder here"))[0]


def test_the_way_of_scoring_differs_where_scores_may(tiny_xlmr, tiny_bert, onnx_xlmr):
    ways = [
        identity(Reranker.load(tiny_xlmr, device="cpu")),
        identity(Reranker.load(tiny_xlmr, device="cpu", precision="bf16")),
        identity(Reranker.load(tiny_xlmr, device="cpu", max_tokens=50)),
        identity(Reranker.load(tiny_xlmr, device="cpu", query_tokens=9)),
        identity(Reranker.load(tiny_bert, device="cpu")),
        identity(load_model(onnx_xlmr, backend="onnx")),
        identity(load_model(tiny_xlmr, backend="sentence_transformers", device="cpu")),
    ]
    assert len({json.dumps(way, sort_keys=True) for way in ways}) == len(ways)
    reranker = Reranker.load(tiny_xlmr, device="cpu", tokens_per_batch=99)
    reranker.score([("a b", "river " * 300)])
    reranker.tokenizer(["a", "b c"], padding=True, truncation=True, max_length=9)
    assert identity(reranker) == ways[0]  # neither use nor batching changes it
    other = Reranker.load(tiny_xlmr).tokenizer
    other.add_tokens(["river"])
    assert hash_tokenizer(other) != ways[0]["tokenizer"]


def test_batches_keep_to_the_budget():
    lengths = np.array([5, 80, 7, 6, 50, 300])
    batches = list(_batches(lengths, 100))
    assert batches == [[5], [1], [4, 2], [3, 0]]


def settings(**values):
    from uprank.configs.schema_eval import EvalCommand

    model = values.pop("model", {})
    made = EvalCommand(data=None, output="x", **values)
    for key, value in model.items():
        setattr(made.model, key, value)
    return made


def test_two_backends_on_the_same_candidates_and_from_the_cache(tiny_xlmr, onnx_xlmr, beir):
    from uprank.data.read import read_judged
    from uprank.eval.retrieval.candidates import find_candidates

    collection = read_judged(str(beir), [], split="dev")
    candidates = find_candidates(collection, "bm25", 9)
    command = settings(
        models={"torch": str(tiny_xlmr), "graph": {"path": str(onnx_xlmr), "backend": "onnx"}},
        model={"device": "cpu"},
    )
    models = parse_models(command)

    def score():
        return score_collections(command, models, [(collection, candidates)])[0]

    first = score()
    assert [(entry.name, entry.backend) for entry in first] == [("torch", "uprank"), ("graph", "onnx")]
    torch_run, graph_run = (entry.scored.run for entry in first)
    for query, row in torch_run.items():
        assert graph_run[query] == pytest.approx(row, abs=1e-4)
    assert torch_run != graph_run  # each has its own place in the cache
    again = score()
    assert [entry.scored.cached for entry in first] == [0, 0]
    assert [entry.scored.cached for entry in again] == [len(candidates.pairs)] * 2
    assert [entry.scored.run for entry in again] == [torch_run, graph_run]
    command.cache = False
    assert score()[0].scored.cached == 0


def test_uprank_score_by_another_backend(onnx_xlmr, tiny_xlmr, tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"query": "river", "passage": "green stone"}\n')
    command = [sys.executable, "-m", "uprank", "score", f"input={file}"]

    def run(*words):
        return subprocess.run([*command, *words], capture_output=True, text=True, timeout=300)

    done = run(f"model.path={onnx_xlmr}", "model.backend=onnx")
    assert done.returncode == 0, done.stderr
    expected = Reranker.load(tiny_xlmr, device="cpu").score([("river", "green stone")])
    assert json.loads(done.stdout)["score"] == pytest.approx(float(expected[0]), abs=1e-4)
    wrong = run(f"model.path={onnx_xlmr}", "model.backend=tensorflow")
    assert wrong.returncode == 2
    assert "model.backend=tensorflow: allowed are uprank, sentence_transformers" in wrong.stderr
