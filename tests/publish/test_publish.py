"""From a run folder to a published folder that every library loads."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import PublishCommand
from uprank.model.reranker import Reranker
from uprank.publish.command import publish, publish_summary


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_folder_holds_what_a_stranger_needs(only_transformers, settings, source):
    done = publish(settings)
    names = {path.relative_to(done.folder).as_posix() for path in done.folder.rglob("*") if path.is_file()}
    assert names == {
        "README.md",
        "config.json",
        "evaluation/per_query.jsonl",
        "evaluation/report.html",
        "evaluation/report.json",
        "model.safetensors",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "uprank.json",
    }
    assert [path.name for path in done.folder.parent.iterdir()] == [done.folder.name]
    reports = [read(folder / "report.json") for folder in (done.folder / "evaluation", source.final)]
    assert reports[0] | {"data": reports[1]["data"]} == reports[1]  # its path is shortened
    assert read(done.folder / "sentence_bert_config.json") == {"max_seq_length": 96}
    config = read(done.folder / "config.json")
    assert config["sentence_transformers"]["activation_fn"] == "torch.nn.modules.linear.Identity"
    assert config["dtype"] == "float32"
    assert read(done.folder / "tokenizer_config.json")["model_max_length"] == 96
    assert str(source.folder) not in (done.folder / "README.md").read_text(encoding="utf-8")
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in done.folder.iterdir())


def test_record_names_weights_base_data_and_settings(only_transformers, settings, source):
    record = read(publish(settings).folder / "uprank.json")
    loaded = Reranker.load(settings.output, query_tokens=24, max_tokens=96, device="cpu")
    assert record["weights"] == loaded.weights_hash() == source.weights["tuned"]
    assert record["base"]["path"] == "BAAI/bge-reranker-base"
    assert record["base"]["weights"] == source.weights["base"]
    assert record["data"]["train"]["fingerprint"] == "sha256:train"
    assert record["pairs"] == {"query_tokens": 24, "max_tokens": 96}
    assert record["settings"]["optim"]["learning_rate"] == 2e-5
    assert record["better"] is True
    assert record["forced"] is None
    (proof,) = record["verification"]
    assert proof["library"] == "transformers"
    assert proof["pairs"] > 20
    assert proof["largest_difference"] <= proof["allowed"]


def test_model_and_report_without_a_run(only_transformers, source, tmp_path):
    settings = PublishCommand(report=str(source.final), output=str(tmp_path / "out"))
    settings.model.path, settings.model.query_tokens = str(source.run / "best"), 24
    (source.run / "best" / "README.md").write_text(
        "---\nlicense: Apache-2.0\nlanguage: de\n---\n", encoding="utf-8"
    )
    done = publish(settings)
    card = ModelCard.load(done.folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.language == ["de"]
    assert card.data.base_model is None
    assert "Not known: the model was published from its folder" in card.text
    assert (
        read(done.folder / "tokenizer_config.json")["model_max_length"] == 128
    )  # as many as it has positions


def test_an_empty_output_folder_is_used(only_transformers, settings, tmp_path):
    (tmp_path / "out" / "mine-reranker").mkdir(parents=True)
    assert (publish(settings).folder / "README.md").is_file()


def test_forced_regression_is_published_and_says_so(only_transformers, settings, source):
    source.report(source.final, gain=-0.1)
    done = publish(replace(settings, force=True))
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "Published by force" in card
    assert "tuned is worse than base" in card
    assert done.forced in card
    assert read(done.folder / "uprank.json")["forced"] == done.forced
    assert any(line.startswith("Published by force") for line in publish_summary(done))


def test_further_reports_are_shown_and_carried_along(only_transformers, settings, source, tmp_path):
    test = source.report(
        tmp_path / "eval-test", data=source.folder / "data" / "law" / "qrels" / "test.tsv", depth=50
    )
    done = publish(replace(settings, reports=[str(test)]))
    assert (done.folder / "evaluation/1-law-test/report.json").is_file()
    card = ModelCard.load(done.folder / "README.md")
    assert "### law (test)" in card.text
    # the dev gain does not stand alone: what was found elsewhere is said beside it
    head = card.text.split("## Results")[0]
    assert "On law (test): tuned is better than base: nDCG@10" in head
    found = {(result.dataset_name, result.metric_name) for result in card.data.eval_results}
    assert found == {(name, m) for name in ("mine (dev)", "law (test)") for m in ("nDCG@10", "MRR@10")}


@pytest.mark.slow
def test_every_library_gives_the_measured_scores(settings):
    proofs = {proof.library: proof for proof in publish(settings).proofs}
    assert set(proofs) == {"transformers", "sentence-transformers", "FlagEmbedding"}
    for proof in proofs.values():
        assert not proof.not_checked
        assert proof.pairs >= 24
        assert proof.largest_difference <= proof.allowed


@pytest.mark.slow
def test_snippets_of_the_card_run_and_agree(settings, monkeypatch, capsys):
    folder = publish(settings).folder
    monkeypatch.chdir(folder.parent)
    card = (folder / "README.md").read_text(encoding="utf-8")
    snippets = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    assert len(snippets) == 4  # that for ONNX: test_onnx_proof.py
    query = "what is a reranker?"
    passages = ["A reranker orders the passages that a first stage has found.", "The museum opens at nine."]
    reranker = Reranker.load(folder, query_tokens=24, max_tokens=96, device="cpu")
    expected = reranker.score([(query, passage) for passage in passages])
    for snippet in snippets:
        namespace: dict = {}
        exec(compile(snippet, "card", "exec"), namespace)
        assert (namespace["query"], namespace["passages"]) == (query, passages)
        np.testing.assert_allclose(np.asarray(namespace["scores"], dtype=np.float32), expected, atol=1e-4)
        assert capsys.readouterr().out.strip()


OFFLINE = """
import socket, sys
asked = []
def refuse(*arguments, **named):
    asked.append(arguments)
    raise OSError("no network in this test")
socket.getaddrinfo = refuse
socket.socket.connect = refuse
from uprank.configs.schema_publish import PublishCommand
from uprank.publish.command import publish
done = publish(PublishCommand(run=sys.argv[1], output=sys.argv[2]))
assert [proof.not_checked for proof in done.proofs] == ["", "", ""], done.proofs
assert not asked, asked
import huggingface_hub
try:  # would it have been noticed?
    huggingface_hub.model_info("some/model")
except Exception:
    assert asked
"""


@pytest.mark.slow
def test_nothing_asks_for_a_network(source, tmp_path):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    command = [sys.executable, "-c", OFFLINE, str(source.run), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_library_that_scores_otherwise_is_refused(settings, monkeypatch):
    """As if sentence-transformers had gone on to apply its sigmoid."""
    from uprank.publish.folder import folder

    monkeypatch.setattr(folder, "ACTIVATION", "torch.nn.modules.activation.Sigmoid")
    with pytest.raises(UserError, match=r"sentence-transformers .*scores differ by") as raised:
        publish(settings)
    assert len(raised.value.problems) == 1  # the other two agree
    assert list(Path(settings.output).parent.iterdir()) == []
