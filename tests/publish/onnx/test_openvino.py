"""The graph as OpenVINO IR: proven like the ONNX graphs, and made without a word to any server."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from uprank.configs import validate_publish as onnx_settings
from uprank.configs.errors import UserError
from uprank.configs.schema import ScoredModelSettings
from uprank.configs.schema_publish import OnnxSettings
from uprank.model.backends.load import load_model
from uprank.model.backends.openvino import compile_graph, import_openvino
from uprank.model.reranker import Reranker
from uprank.publish.command import publish
from uprank.publish.onnx import graphs as onnx_graphs
from uprank.publish.parity import libraries as verify
from uprank.publish.parity.probes import RECORDED
from uprank.publish.verify import folder as verify_folder

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
try:
    openvino = import_openvino()
except ImportError:
    pytest.skip("openvino is not installed", allow_module_level=True)


@pytest.fixture(autouse=True)
def only_transformers(monkeypatch):
    monkeypatch.setattr(verify, "PEERS", verify.PEERS[:1])


@pytest.fixture
def wanted(settings):
    return replace(settings, onnx=OnnxSettings(graphs=["fp32", "openvino"]))


def shifted(source, target):
    """Convert, and add 0.02 to every score."""
    graph = onnx.load(source)
    bias = next(t for t in graph.graph.initializer if t.name.endswith("out_proj.bias"))
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.02)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    target.parent.mkdir(exist_ok=True)
    onnx.save(graph, target.with_suffix(".onnx"))
    onnx_graphs.to_openvino(target.with_suffix(".onnx"), target)
    target.with_suffix(".onnx").unlink()


def line_of(folder, what):
    return next(line for line in verify_folder.verify_folder(folder) if line.what == what)


def test_published_with_its_proof_and_found_damaged_by_verify(wanted, monkeypatch):
    done = publish(wanted)
    fp32, proof = done.graphs.proofs
    assert (proof.kind, proof.file) == ("openvino", "openvino/openvino_model.xml")
    assert proof.runtime.startswith("OpenVINO 2")
    assert fp32.runtime.startswith("ONNX Runtime 1")
    assert 0 < proof.largest_difference <= proof.allowed
    assert proof.pairs == fp32.pairs
    weights = done.folder / "openvino" / "openvino_model.bin"
    assert proof.size > weights.stat().st_size > 0
    assert any(line.startswith("OpenVINO: ") for line in done.graphs.lines)
    reranker = Reranker.load(done.folder, query_tokens=24, max_tokens=96, device="cpu")
    expected = reranker.score(RECORDED)
    peer = load_model(ScoredModelSettings(str(done.folder), backend="openvino"), threads=1)
    assert (peer.backend, peer.budgets) == ("openvino", (24, 96))
    np.testing.assert_allclose(peer.score(RECORDED), expected, atol=1e-4)
    # the record, and a foreign graph
    assert line_of(done.folder, "OpenVINO").held
    hashed = peer.weights_hash()
    shifted(done.folder / "onnx/model.onnx", done.folder / proof.file)
    assert line_of(done.folder, "OpenVINO").held is False
    assert load_model(ScoredModelSettings(str(done.folder), backend="openvino")).weights_hash() != hashed
    weights.unlink()
    assert "openvino_model.bin is missing" in line_of(done.folder, "OpenVINO").detail
    monkeypatch.setattr(verify_folder, "missing_packages", lambda names: names)
    assert line_of(done.folder, "OpenVINO").held is None


def test_the_snippet_of_the_card_gives_the_scores(wanted, monkeypatch):
    done = publish(wanted)
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    parts = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    first = next(part for part in parts if "import onnxruntime" in part)
    (second,) = [part for part in parts if "import openvino" in part]
    monkeypatch.chdir(done.folder.parent)
    namespace: dict = {}
    exec(compile(first, "card", "exec"), namespace)
    namespace["scores"] = None
    exec(compile(second, "card", "exec"), namespace)
    reranker = Reranker.load(done.folder, query_tokens=24, max_tokens=96, device="cpu")
    expected = reranker.score([(namespace["query"], passage) for passage in namespace["passages"]])
    np.testing.assert_allclose(namespace["scores"], expected, atol=1e-4)


def test_a_graph_that_scores_otherwise_is_refused(wanted, monkeypatch):
    monkeypatch.setitem(onnx_graphs.MAKERS, "openvino", shifted)
    with pytest.raises(UserError, match=r"openvino \(openvino/openvino_model.xml\): scores differ by 0.02 "):
        publish(wanted)


def test_weights_stay_fp32_and_products_too(wanted):
    """OpenVINO would store fp16 and compute in bf16 where the processor can."""
    folder = publish(wanted).folder
    model = openvino.Core().read_model(str(folder / "openvino/openvino_model.xml"))
    kinds = {str(op.get_element_type()) for op in model.get_ops() if op.get_type_name() == "Constant"}
    assert "<Type: 'float16'>" not in kinds
    compiled = compile_graph(folder / "openvino/openvino_model.xml", 1)
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_settings(wanted, monkeypatch):
    assert onnx_settings.onnx_problems(OnnxSettings(graphs=["fp32", "openvino"])) == []
    monkeypatch.setattr(onnx_settings, "missing_packages", lambda names=None: list(names or []))
    (problem,) = onnx_settings.onnx_problems(OnnxSettings(graphs=["fp32", "openvino"]))
    assert 'openvino not installed: pip install "uprank[openvino]"' in problem
    with pytest.raises(UserError, match=r"neither openvino/openvino_model\.xml nor openvino_model\.xml"):
        load_model(ScoredModelSettings(wanted.run, backend="openvino"))


ASKED = """
import json, socket, sys, threading, time
asked = []
def refuse(*given, **named):
    asked.append(str(given))
    raise OSError("no network in this test")
socket.getaddrinfo = refuse
socket.socket.connect = refuse
from uprank.model.backends.openvino import import_openvino
openvino = import_openvino()
openvino.Core()
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(5)
print(json.dumps([asked, sorted(name for name in sys.modules if name.startswith("openvino_telemetry."))]))
"""


def test_the_import_asks_for_no_network():
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], []]
