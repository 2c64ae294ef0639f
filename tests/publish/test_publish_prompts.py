"""A model tuned with prompts: proofs and snippets of other libraries have the prompts in the texts."""

import json
import shlex

import numpy as np
import pytest
from uprank.configs.errors import UserError
from uprank.model.reranker import Reranker
from uprank.publish.command import publish
from uprank.publish.verify.folder import verify_folder

PROMPTS = {"query_prompt": "query's: ", "passage_prompt": "passage: "}
QUERY = "what is a reranker?"
PASSAGES = ["A reranker orders the passages that a first stage has found.", "The museum opens at nine."]


@pytest.fixture
def prompted(source):
    """Give the run's model prompts; `prompted()` writes them into its report, too."""
    config = source.run / "best" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"uprank": values.get("uprank", {}) | PROMPTS}))

    def write_report():
        file = source.run / "eval" / "final" / "report.json"
        report = json.loads(file.read_text())
        for system in report["systems"]:
            if system["name"] == "tuned":
                system.update(PROMPTS)
        file.write_text(json.dumps(report))

    return write_report


def test_a_report_of_other_prompts_proves_nothing(settings, prompted):
    with pytest.raises(UserError, match="measured with the prompts '' and '', the model is published with"):
        publish(settings)


def test_proofs_card_and_record_have_the_prompts(settings, prompted, monkeypatch, capsys):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("FlagEmbedding")
    prompted()
    published = publish(settings)
    assert all(proof.pairs > 10 and not proof.not_checked for proof in published.proofs)
    record = json.loads((published.folder / "uprank.json").read_text())
    assert record["pairs"].items() >= PROMPTS.items()
    reranker = Reranker.load(published.folder, device="cpu")
    probe = record["probes"][0]
    assert reranker.score([(probe["query"], probe["passage"])])[0] == pytest.approx(probe["score"], abs=1e-4)
    assert {line.held for line in verify_folder(published.folder)} <= {True, None}
    card = (published.folder / "README.md").read_text(encoding="utf-8")
    assert '`"query\'s: "` stands before every query, `"passage: "` stands before every passage' in card
    request = shlex.split(next(line for line in card.splitlines() if line.startswith("curl ")))[-1]
    assert json.loads(request)["texts"] == ["passage: " + text for text in PASSAGES]
    # Every snippet, whatever its library, gives the scores of the model with its prompts.
    expected = reranker.score([(QUERY, passage) for passage in PASSAGES])
    assert not np.allclose(expected, reranker.as_read.score([(QUERY, text) for text in PASSAGES]), atol=1e-3)
    monkeypatch.chdir(published.folder.parent)
    for part in card.split("```python\n")[1:]:
        namespace: dict = {}
        exec(compile(part.split("```")[0], "card", "exec"), namespace)
        np.testing.assert_allclose(np.asarray(namespace["scores"], dtype=np.float32), expected, atol=1e-4)
