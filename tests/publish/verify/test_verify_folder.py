"""`uprank verify`: an untouched folder holds, every kind of damage is named."""

import json
import shutil
import sys

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from uprank.configs import validate_publish as onnx_settings
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import PublishCommand, VerifyCommand
from uprank.data.origin import data_name
from uprank.model.reranker import Reranker
from uprank.publish.command import publish
from uprank.publish.evidence.gate import damaged_files
from uprank.publish.parity import libraries as verify
from uprank.publish.verify import command as verify_command
from uprank.publish.verify import folder as verify_folder

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def published(published_source, tmp_path_factory):
    """A published folder, proven with transformers alone: the other libraries take seconds to import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "PEERS", verify.PEERS[:1])
        place = tmp_path_factory.mktemp("published")
        source = published_source.copy(place / "source")
        return publish(PublishCommand(run=str(source.run), output=str(place / "mine"))).folder


@pytest.fixture
def copy(published, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "PEERS", verify.PEERS[:1])
    return shutil.copytree(published, tmp_path / "copy")


def lines(folder):
    return {line.what: line for line in verify_folder.verify_folder(folder)}


def failed(folder):
    return {what: line.detail for what, line in lines(folder).items() if line.held is False}


def edit(path, change):
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_an_untouched_copy_holds(copy):
    found = lines(copy)
    assert list(found) == ["files", "weights", "uprank", "transformers", "ONNX fp32", "card"]
    assert [line.held for line in found.values()] == [True] * 6
    assert str(found["files"]).startswith("held         files: 10 files")


def test_changed_weights_are_named_by_file_hash_and_score(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["classifier.out_proj.bias"] += 0.01
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    found = failed(copy)
    assert set(found) == {"files", "weights", "uprank"}
    assert found["files"] == "model.safetensors was changed"
    assert "the weights are sha256:" in found["weights"]
    assert "largest difference to the recorded scores 1.0e-02" in found["uprank"]


def test_damaged_weights_are_not_loaded(copy):
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[:-100])
    found = failed(copy)
    assert set(found) == {"files", "weights"}
    assert found["weights"].startswith(f"{copy / 'model.safetensors'}: damaged (")


def test_a_graph_of_another_model_is_found_by_its_scores(copy):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(copy / "onnx/model.onnx")
    bias = next(t for t in graph.graph.initializer if t.name.endswith("out_proj.bias"))
    bias.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.02), bias.name)
    )
    onnx.save(graph, copy / "onnx/model.onnx")
    found = failed(copy)
    assert set(found) == {"files", "ONNX fp32"}
    assert "2.0e-02, allowed" in found["ONNX fp32"]
    (copy / "onnx/model.onnx").unlink()
    assert failed(copy) == {"files": "onnx/model.onnx is missing", "ONNX fp32": "onnx/model.onnx is missing"}


@pytest.mark.parametrize(("shift", "held"), [(0.03, True), (0.05, False)])
def test_a_graph_of_rounded_numbers_may_differ_by_twice_what_is_stated(copy, shift, held):
    def rounded(record):
        record["onnx"][0] |= {"kind": "int8", "largest_difference": 0.02}
        for row in record["probes"]:
            row["score"] += shift

    edit(copy / "uprank.json", rounded)
    assert lines(copy)["ONNX int8"].held is held


def test_numbers_of_the_card_are_those_of_the_reports(copy):
    card, report = copy / "README.md", copy / "evaluation/report.json"
    text, stated = card.read_text(encoding="utf-8"), json.loads(report.read_text(encoding="utf-8"))
    mean = stated["systems"][2]["results"]["nDCG@10"]["mean"]
    assert f"value: {mean}" in text
    card.write_text(text.replace(f"value: {mean}", f"value: {mean + 0.1}"), encoding="utf-8")
    found = lines(copy)
    assert found["README.md"].held is None
    assert found["card"].held is False
    assert found["card"].detail.startswith(f"README.md: mine (dev) nDCG@10 is {mean + 0.1} there and {mean}")
    card.write_text(text.replace(f"{mean:.3f} [", f"{mean + 0.1:.3f} ["), encoding="utf-8")
    assert f"lacks {mean:.3f} [" in failed(copy)["card"]
    card.write_text(text + "\nA word of ours.\n", encoding="utf-8")
    assert failed(copy) == {}
    card.write_text(text, encoding="utf-8")
    edit(report, lambda values: values["systems"][2]["results"]["nDCG@10"].update(mean=mean + 0.1))
    assert "does not follow from per_query.jsonl" in failed(copy)["card"]
    edit(report, lambda values: values["systems"][2].update(weights="sha256:other"))
    assert "is not about the measured weights" in failed(copy)["card"]


def test_reports_and_metadata_have_to_be_the_same_ones(copy):
    card, record = copy / "README.md", copy / "uprank.json"
    text, stated = card.read_text(encoding="utf-8"), record.read_text(encoding="utf-8")
    for number in (1, 2):  # a measure under another name: one is missing, one is in no report
        card.write_text(text.replace("name: MRR@10", f"name: MRR@{number}"), encoding="utf-8")
        detail = failed(copy)["card"]
        assert f"README.md: no report has mine (dev) MRR@{number}" in detail
        assert "README.md: metadata lacks mine (dev) MRR@10" in detail
    card.write_text(text, encoding="utf-8")
    edit(record, lambda values: values["evaluation"][0].update(fingerprint="sha256:other"))
    assert "the report is about other data than uprank.json states" in failed(copy)["card"]
    record.write_text(stated, encoding="utf-8")
    edit(record, lambda values: values.update(evaluation=[]))
    assert "uprank.json names no report" in failed(copy)["card"]


def test_what_cannot_be_checked_is_said(copy, monkeypatch):
    (copy / ".gitattributes").write_text("*.onnx lfs")
    (copy / "notes.txt").write_text("mine")
    peers = verify.PEERS
    missing = verify.Library("no-such-library", "no_such_library", "Loader", lambda *_: [])
    monkeypatch.setattr(verify, "PEERS", (*peers, missing))
    monkeypatch.setattr(onnx_settings, "PACKAGES", ("onnx", "no_such_runtime"))
    monkeypatch.setattr(verify_folder, "missing_packages", lambda names: ["onnxruntime"])
    found = lines(copy)
    assert not [line for line in found.values() if line.held is False]
    assert found["further files"].detail == "not from `uprank publish`: notes.txt"
    assert found["no-such-library"].detail.startswith("not installed here")
    assert found["ONNX fp32"].held is None
    edit(copy / "uprank.json", lambda record: [record.pop(key) for key in ("files", "probes")])
    found = lines(copy)
    assert (found["files"].held, found["scores"].held) == (None, None)


def test_what_is_no_published_folder(tmp_path):
    with pytest.raises(UserError, match=r"no uprank\.json there"):
        list(verify_folder.verify_folder(tmp_path))
    for text in ("{", "[]", '{"weights": 3}'):
        (tmp_path / "uprank.json").write_text(text)
        with pytest.raises(UserError, match=r"broken JSON|names no weights"):
            list(verify_folder.verify_folder(tmp_path))


def call(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["uprank verify", *words])
    code = 0
    try:
        verify_command.main()
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_exit_codes(copy, monkeypatch, capsys):
    odd = copy.rename(copy.with_name("it's, a (copy)"))
    code, out, _ = call(monkeypatch, capsys, str(odd))
    assert (code, out[-1]) == (0, "6 held, 0 failed, 0 not checked")
    (odd / "tokenizer_config.json").write_text("{}")
    code, out, _ = call(monkeypatch, capsys, f"folder='{str(odd).replace(chr(39), chr(92) + chr(39))}'")
    assert code == 1
    assert "FAILED       files: tokenizer_config.json was changed" in out
    code, out, err = call(monkeypatch, capsys, str(odd / "nowhere"))
    assert (code, out) == (2, [])
    assert "no uprank.json there" in err


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("evaluation/report.json", b"\xff\xfe{", "not an Uprank report"),
        ("evaluation/per_query.jsonl", b"\xff\n", "not an Uprank report"),
        ("evaluation/per_query.jsonl", b'{"query_id": "a", "x": 1}\n', "not an Uprank report"),
        ("README.md", b"---\na: [1\n---\ntext\n", "README.md: cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_a_failure_and_no_traceback(copy, file, content, words):
    (copy / file).write_bytes(content)
    assert any(words in detail for detail in failed(copy).values()), failed(copy)


@pytest.mark.parametrize("content", ["{", "{}", '{"weight_map": 3}'])
def test_a_damaged_index_of_weights_is_named(copy, content):
    (copy / "model.safetensors.index.json").write_text(content)
    assert "index.json: damaged" in damaged_files(copy)[0]


def test_settings_of_verify_that_cannot_be_are_refused(copy):
    with pytest.raises(UserError) as raised:
        verify_command._verify(VerifyCommand(folder=str(copy), measured=str(copy / "gone"), threads=-1))
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "threads=-1",
        f"measured={copy / 'gone'}",
    ]


def test_a_folder_of_data_may_have_a_dot_in_its_name(tmp_path):
    (tmp_path / "stard-v1.0").mkdir()
    assert data_name(str(tmp_path / "stard-v1.0")) == "stard-v1.0"
    assert data_name("data/scifact/qrels/dev.tsv") == "scifact"


def test_the_tuned_model_of_a_mixture_is_no_contradiction(copy):
    own = Reranker.load(copy, device="cpu").weights_hash()
    record = {"merge": {"tuned_weights": own}, "measured_weights": "sha256:mixture", "weights": "sha256:x"}
    assert verify_folder._remade_line(copy, record).held is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": [None]}, "dtype is [null]; it must be a text"),
        ({"dtype": "int4"}, "dtype is 'int4'; allowed are fp32, fp16, bf16"),
        ({"calibration": -1}, "calibration is -1; it must be an object"),
        ({"calibration": {"weights_after": "x"}}, "calibration.scale is null; it must be a number"),
        ({"pairs": {"max_tokens": "96"}}, 'pairs.max_tokens is "96"; it must be a whole number'),
        ({"pairs": []}, "pairs is []; it must be an object"),
        (
            {"probes": [{"query": "a", "passage": "b", "score": "1"}]},
            'probes[0].score is "1"; it must be a number',
        ),
        (
            {"onnx": [{"kind": "x", "file": "a", "largest_difference": 1}]},
            "onnx[0].kind is 'x'; allowed are fp32",
        ),
        ({"evaluation": [3]}, "evaluation[0] is 3; it must be an object"),
        ({"files": ["a"]}, 'files is ["a"]; it must be an object'),
    ],
)
def test_a_malformed_record_is_named_field_by_field(copy, change, words):
    edit(copy / "uprank.json", lambda record: record.update(change))
    with pytest.raises(UserError) as refused:
        list(verify_folder.verify_folder(copy))
    assert words in refused.value.problems[0]
