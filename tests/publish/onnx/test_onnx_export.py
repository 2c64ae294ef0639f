"""The exported graph against transformers' forward, smaller graphs against products by hand."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification
from uprank.configs.errors import UserError
from uprank.configs.schema import ScoredModelSettings
from uprank.model.backends import onnx as backend
from uprank.model.backends.load import load_model
from uprank.model.reranker import Reranker
from uprank.publish.folder import folder
from uprank.publish.onnx import export as onnx_export
from uprank.publish.onnx import quantise
from uprank.publish.parity.probes import RECORDED

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def written(path, place):
    """Write model files and graph of a published folder; return the folder and the reranker."""
    reranker = Reranker.load(path, query_tokens=24, max_tokens=96, device="cpu")
    folder.write_model(reranker, place)
    (place / "onnx").mkdir()
    onnx_export.export(reranker, place / "onnx" / "model.onnx")
    return place, reranker


@pytest.fixture(scope="module")
def xlmr(published_source, tmp_path_factory):
    return written(published_source.run / "best", tmp_path_factory.mktemp("xlmr"))


@pytest.fixture(scope="module")
def bert(tiny_bert, tmp_path_factory):
    return written(tiny_bert, tmp_path_factory.mktemp("bert"))


def run(file, inputs):
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]


@pytest.mark.parametrize("family", ["xlmr", "bert"])
@pytest.mark.parametrize(("batch", "length"), [(1, 3), (2, 7), (5, 40), (3, 96)])
def test_any_batch_and_length_gives_the_logits_of_transformers(family, batch, length, request):
    place, _ = request.getfixturevalue(family)
    model = AutoModelForSequenceClassification.from_pretrained(place).eval()
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(5, model.config.vocab_size, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, length // 2 + 1 :] = 0
    ids[mask == 0] = model.config.pad_token_id
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "bert":
        inputs["token_type_ids"] = (torch.arange(length) > length // 2).long().repeat(batch, 1) * mask
    with torch.inference_mode():
        expected = model(**inputs).logits.numpy()
    assert np.ptp(expected) > 1e-3 or batch == 1  # the rows differ, or rows mixed up would not be seen
    np.testing.assert_allclose(run(place / "onnx/model.onnx", inputs), expected, atol=3e-5)  # CPUs differ


@pytest.mark.parametrize("family", ["xlmr", "bert"])
def test_the_graph_is_plain_onnx_with_named_dynamic_axes(family, request):
    place, reranker = request.getfixturevalue(family)
    model = onnx.load(place / "onnx/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", onnx_export.OPSET)]
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if family == "bert" else [])
    shapes = {
        entry.name: [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim]
        for entry in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {name: ["batch", "length"] for name in names} | {"logits": ["batch", 1]}
    assert reranker.model.config._attn_implementation != "eager"  # as it was before


@pytest.mark.parametrize("family", ["xlmr", "bert"])
def test_backend_takes_the_folder_as_it_is(family, request):
    place, reranker = request.getfixturevalue(family)
    expected = reranker.score(RECORDED)
    peer = load_model(ScoredModelSettings(str(place), backend="onnx"))
    assert peer.budgets == reranker.budgets == (24, 96)
    np.testing.assert_allclose(peer.score(RECORDED), expected, atol=1e-4)


def test_the_word_table_is_the_whole_one_and_the_model_is_as_before(published_source, tmp_path):
    reranker = Reranker.load(published_source.run / "best", device="cpu")
    before, table = reranker.weights_hash(), reranker.model.get_input_embeddings().weight
    expected = table.detach().clone().numpy()
    onnx_export.export(reranker, tmp_path / "model.onnx")
    assert reranker.weights_hash() == before
    assert reranker.model.get_input_embeddings().weight is table
    stored = {tensor.name: tensor for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    (name,) = [name for name in stored if name.endswith("word_embeddings.weight")]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored[name]), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    again = onnx.load(tmp_path / "model.onnx").SerializeToString()
    assert len(again) == (tmp_path / "model.onnx").stat().st_size


def test_a_model_above_two_gigabytes_is_refused_before_anything_is_traced(xlmr, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_export, "LARGEST", 1000)
    with pytest.raises(UserError, match=r"GB of weights; an ONNX file holds 2\.1 GB at most"):
        onnx_export.export(xlmr[1], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


# ---- int8


def product_graph(weight, path, *, gelu=False):
    """Save y = x @ weight for x (rows, K), or for GELU(x)."""
    helper = onnx.helper
    x = helper.make_tensor_value_info("x", 1, ["rows", weight.shape[0]])
    y = helper.make_tensor_value_info("y", 1, ["rows", weight.shape[1]])
    nodes = [helper.make_node("Gelu", ["x"], ["gelu"])] if gelu else []
    nodes.append(helper.make_node("MatMul", ["gelu" if gelu else "x", "w"], ["y"]))
    graph = helper.make_graph(nodes, "g", [x], [y], [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def run_exactly(path, x):
    """Run a graph as the backend does: without the option, sums saturate on x86 CPUs without VNNI."""
    options = ort.SessionOptions()
    options.add_session_config_entry(*backend.EXACT_PRODUCTS)
    return ort.InferenceSession(str(path), options).run(None, {"x": x})


def test_int8_products_are_those_of_integers_scaled_by_row_and_column(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(48, 20)).astype(np.float32) * rng.uniform(0.01, 3, 20).astype(np.float32)
    weight[:, 3] = 0  # no scale of its own
    x = rng.normal(size=(7, 48)).astype(np.float32) * np.float32([[1e-3], [1], [1], [50], [1], [0], [1]])
    product_graph(weight, tmp_path / "a.onnx")
    quantise.to_int8(tmp_path / "a.onnx", tmp_path / "b.onnx")
    (found,) = run_exactly(tmp_path / "b.onnx", x)
    columns = np.where((top := np.abs(weight).max(0)) > 0, top / 127, 1)
    rows = np.maximum(np.abs(x).max(1, keepdims=True), 1e-10) / 127
    integers = np.rint(x / rows).astype(np.int64) @ np.rint(weight / columns).astype(np.int64)
    np.testing.assert_allclose(found, integers * rows * columns, rtol=1e-4, atol=1e-5)
    # every row by its own scale: the small row is as exact as the large one
    exact = x @ weight
    errors = np.linalg.norm(found - exact, axis=1)[[0, 1, 3]] / np.linalg.norm(exact, axis=1)[[0, 1, 3]]
    assert (errors < 0.03).all()
    assert not found[5].any()


def test_int8_products_behind_gelu_use_every_step(tmp_path):
    """GELU is never below -0.17: 0.17 is added, all 255 steps are used, its share is taken off again."""
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(64, 12)).astype(np.float32)
    x = rng.normal(size=(5, 64)).astype(np.float32) * np.float32([[1], [3], [0.1], [0], [20]])
    product_graph(weight, tmp_path / "a.onnx", gelu=True)
    quantise.to_int8(tmp_path / "a.onnx", tmp_path / "b.onnx")
    (found,) = run_exactly(tmp_path / "b.onnx", x)
    values = torch.nn.functional.gelu(torch.tensor(x)).double().numpy()
    least = -values.min()
    assert 0.169 < least <= quantise.GELU_LEAST
    columns = np.abs(weight).max(0) / 127
    bytes_of = np.rint(weight / columns)
    rows = (values.max(1, keepdims=True) + quantise.GELU_LEAST) / 255
    steps = np.rint((values + quantise.GELU_LEAST) / rows)
    assert steps.min() >= 0
    assert (steps.max(1) == 255).all()
    expected = (steps @ bytes_of * rows - quantise.GELU_LEAST * bytes_of.sum(0)) * columns
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_allclose(found[3], 0, atol=1e-4)  # GELU(0) = 0, whatever was added
    exact = values @ weight
    errors = np.linalg.norm(found - exact, axis=1) / np.maximum(np.linalg.norm(exact, axis=1), 1)
    assert errors.max() < 0.02


def test_only_the_exact_gelu_is_shifted(tmp_path):
    """Its approximation has another least value."""
    product_graph(np.eye(4, dtype=np.float32), tmp_path / "a.onnx", gelu=True)
    model = onnx.load(tmp_path / "a.onnx")
    for approximate, shifted in (("none", True), ("tanh", False)):
        del model.graph.node[0].attribute[:]
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("approximate", approximate))
        onnx.save(model, tmp_path / "a.onnx")
        quantise.to_int8(tmp_path / "a.onnx", tmp_path / "b.onnx")
        nodes = onnx.load(tmp_path / "b.onnx").graph.node
        assert any("int8_gelu" in node.input for node in nodes) is shifted


def test_word_table_is_bytes_by_row(tmp_path):
    rng = np.random.default_rng(1)
    table = (rng.normal(size=(1200, 8)) * rng.uniform(0.01, 9, (1200, 1))).astype(np.float32)
    helper = onnx.helper
    ids = helper.make_tensor_value_info("ids", 7, ["n"])
    out = helper.make_tensor_value_info("out", 1, ["n", 8])
    node = helper.make_node("Gather", ["w", "ids"], ["out"], axis=0)
    graph = helper.make_graph([node], "g", [ids], [out], [onnx.numpy_helper.from_array(table, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "a.onnx")
    quantise.to_int8(tmp_path / "a.onnx", tmp_path / "b.onnx")
    rows = np.array([0, 7, 1199, 7])
    (found,) = ort.InferenceSession(str(tmp_path / "b.onnx")).run(None, {"ids": rows})
    steps = np.abs(table[rows]).max(1, keepdims=True) / 127
    assert (np.abs(found - table[rows]) <= steps / 2 * 1.001).all()
    assert (tmp_path / "b.onnx").stat().st_size < 0.45 * (tmp_path / "a.onnx").stat().st_size


@pytest.mark.parametrize("family", ["xlmr", "bert"])
def test_int8_scores_do_not_depend_on_the_batch_and_stay_near(family, request, tmp_path):
    place, reranker = request.getfixturevalue(family)
    target = place / "onnx/model_int8.onnx"
    quantise.to_int8(place / "onnx/model.onnx", target)
    peer = load_model(ScoredModelSettings(str(target), backend="onnx"))
    assert not peer.alone
    pairs = list(RECORDED)
    together = peer.predict(pairs)
    alone = np.concatenate([peer.predict([pair]) for pair in pairs])
    np.testing.assert_allclose(together, alone, atol=2e-3)
    expected = reranker.score(pairs)
    # random weights as large as these blow up what rounding does; those of a real model do not
    assert np.median(np.abs(together - expected)) < 0.05 * np.ptp(expected)
    assert np.abs(together - expected).max() > 0  # something was rounded
    kept = [node for node in onnx.load(target).graph.node if node.op_type in ("Gemm", "MatMulIntegerToFloat")]
    assert [node.op_type for node in kept].count("Gemm") == 2  # the head
    assert len(kept) == 2 + 6 * reranker.model.config.num_hidden_layers


def test_fp16_keeps_its_inputs_and_output(xlmr):
    place, reranker = xlmr
    target = place / "onnx/model_fp16.onnx"
    quantise.to_fp16(place / "onnx/model.onnx", target)
    found = load_model(ScoredModelSettings(str(target), backend="onnx")).score(RECORDED)
    np.testing.assert_allclose(found, reranker.score(RECORDED), atol=0.05, rtol=0.02)
    before, after = onnx.load(place / "onnx/model.onnx").graph, onnx.load(target).graph
    assert [entry.type.tensor_type.elem_type for entry in (*after.input, *after.output)] == [7, 7, 1]
    sizes = [sum(len(tensor.raw_data) for tensor in graph.initializer) for graph in (before, after)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)


def test_a_constant_that_another_node_reads_is_kept(tmp_path):
    """DeBERTa reads one matrix in several ways; an unread one goes."""
    weight = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)
    product_graph(weight, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    z = onnx.helper.make_tensor_value_info("z", 1, ["rows", 12])
    model.graph.node.append(onnx.helper.make_node("ReduceSum", ["w"], ["all"], keepdims=1))
    model.graph.node.append(onnx.helper.make_node("Add", ["y", "all"], ["z"]))
    model.graph.output.append(z)
    onnx.save(model, tmp_path / "a.onnx")
    quantise.to_int8(tmp_path / "a.onnx", tmp_path / "b.onnx")
    x = np.eye(64, dtype=np.float32)[:5]
    y, z = run_exactly(tmp_path / "b.onnx", x)
    np.testing.assert_allclose(z, y + weight.sum(), rtol=1e-5)
    product_graph(weight, tmp_path / "a.onnx")
    quantise.to_int8(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert "w" not in {tensor.name for tensor in onnx.load(tmp_path / "b.onnx").graph.initializer}


def test_a_table_that_two_nodes_read_is_quantised_once(tmp_path):
    helper, table = onnx.helper, np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)
    rows = [helper.make_tensor_value_info(name, 7, ["n"]) for name in ("a", "b")]
    outputs = [helper.make_tensor_value_info(name, 1, ["n", 8]) for name in ("x", "y")]
    nodes = [helper.make_node("Gather", ["t", a], [b]) for a, b in (("a", "x"), ("b", "y"))]
    graph = helper.make_graph(nodes, "g", rows, outputs, [onnx.numpy_helper.from_array(table, "t")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), tmp_path / "a"
    )
    quantise.to_int8(tmp_path / "a", tmp_path / "b")
    ids = np.array([3, 1100])
    x, y = ort.InferenceSession(str(tmp_path / "b")).run(None, {"a": ids, "b": ids})
    np.testing.assert_allclose(x, table[ids], atol=0.05)
    assert (x == y).all()
