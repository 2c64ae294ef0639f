"""The card states what was measured and what is known, and nothing else."""

import json
import re
import shlex
from dataclasses import replace
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import CardSettings
from uprank.configs.schema_train import LossSettings, OptimSettings, TrainSettings
from uprank.eval.results import Audit, Comparison, Report
from uprank.eval.statistics.compare import compare_systems
from uprank.publish.card.card import notes_words
from uprank.publish.card.training import HARMLESS, training_rows
from uprank.publish.command import publish
from uprank.publish.evidence import gate
from uprank.publish.evidence.licence import Base
from uprank.publish.parity import libraries as verify

pytestmark = pytest.mark.usefixtures("only_transformers")


def card_of(settings) -> ModelCard:
    return ModelCard.load(publish(settings).folder / "README.md")


def test_metadata_parsed_by_the_hub_library(settings, source):
    named = CardSettings(name="Mine", datasets=["me/mine"])
    card = card_of(replace(settings, card=named))
    data = card.data.to_dict()
    assert data["base_model"] == "BAAI/bge-reranker-base"
    assert data["base_model_relation"] == "finetune"
    assert data["pipeline_tag"] == "text-ranking"
    assert data["library_name"] == "sentence-transformers"
    assert data["license"] == "mit"
    assert data["language"] == ["en", "zh"]
    assert data["datasets"] == ["me/mine"]
    assert {"reranker", "cross-encoder", "sentence-transformers", "xlm-roberta"} <= set(data["tags"])
    assert card.data.model_name == "Mine"
    measured = Report.load(source.final).system("tuned").results
    found = {
        result.metric_name: (result.metric_value, result.metric_args["interval"])
        for result in card.data.eval_results
    }
    assert found == {name: (e.mean, [e.low, e.high]) for name, e in measured.items()}


def test_every_number_in_the_results_stands_in_the_report(settings, source):
    card = card_of(settings)
    text = card.text.split("## Usage")[0]
    report = json.loads((source.final / "report.json").read_text(encoding="utf-8"))
    known = set()
    for value in _numbers(report):
        known |= {f"{value:.3f}", f"{value:+.3f}", f"{value:.4f}"}
    known |= {f"{36 / 1200:.1%}".rstrip("%"), "0.001"}  # share of pairs cut; the bound of p
    decimals = set(re.findall(r"[+-]?\d+\.\d+", text))
    assert len(decimals) > 20
    assert decimals <= known


def test_every_data_set_that_was_learned_from_is_named(settings, source):
    given = ["web/first.jsonl", {"triples": "t.tsv", "corpus": "second/collection.tsv"}, "hf://me/third"]
    source.manifest(data__train={"path": given, "fingerprint": "sha256:x", "groups": 41})
    text = card_of(settings).text
    assert "41 groups of `web`, `second` and `third`" in text
    assert "(web, second, third, " in text


def test_each_system_and_difference_is_in_the_table(settings, source):
    text = card_of(settings).text
    report = Report.load(source.final)
    for system in report.systems:
        for estimate in system.results.values():
            assert f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]" in text
    for measure in report.measures:
        c = report.comparison("tuned", measure)
        difference = f"{c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}]"
        assert f"| {measure} | {difference} | < 0.001 | {c.wins} / 0 / 0 |" in text


def test_no_trace_of_the_template_is_left(settings):
    text = card_of(settings).text
    assert not re.search(r"\{\{|\}\}|\{%|%\}|None|\n\n\n", text)
    for line, following in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        assert not (following.startswith(("#", "- ")) and line and not line.startswith(("#", "- ", "  "))), (
            following
        )


@pytest.mark.parametrize(
    ("path", "kind"), [("package:some_model", None), ("FOLDER", None), ("models/base", "folder")]
)
def test_a_base_that_is_not_on_the_hub_is_not_claimed_to_be(path, kind, settings, source):
    source.manifest(base__path=str(source.base) if path == "FOLDER" else path, base__kind=kind)
    card = card_of(settings)
    assert card.data.base_model is None
    assert "base_model_relation" not in card.data.to_dict()
    assert "the Python package `some_model`" in card.text or "a local folder named `base`" in card.text
    assert str(source.folder) not in card.content


def test_the_training_table_has_every_setting_that_decides_the_result():
    config = {
        "model": {"freeze": ["embeddings"], "lora": {"rank": 8, "alpha": None}, "attention_dropout": 0.0},
        "loss": {"name": "listwise", "weights": {"kl": 1, "listwise": 0.2}, "temperature": 1.0, "k": None}
        | {"teacher_temperature": 2.0},
        "optim": {"name": "adafactor", "learning_rate": 1e-3, "layer_decay": 0.9, "eps": 1e-8}
        | {"betas": [0.9, 0.98], "warmup_ratio": 0.1},
        "train": {"epochs": 2.0, "max_steps": 70, "ema": 0.999, "in_batch_negatives": 4, "group_size": 8}
        | {"tokens_per_batch": 512, "keep_checkpoints": 9, "log_every": 5, "gradient_checkpointing": True},
        "data": {"train": "/secret/path", "mix": [1000, 3000]},
        "seed": 0,
    }
    rows = training_rows(SimpleNamespace(config=config, manifest={"steps": 70}, base=Base()))
    assert dict(rows) == {
        "`loss.weights`": "{kl: 1, listwise: 0.2}",
        "`loss.temperature`": "1.0",
        "`loss.teacher_temperature`": "2.0",
        "`optim.name`": "adafactor",
        "`optim.learning_rate`": "0.001",
        "`optim.layer_decay`": "0.9",
        "`optim.warmup_ratio`": "0.1",
        "`optim.betas`": "[0.9, 0.98]",
        "`train.max_steps`": "70",
        "`train.group_size`": "8",
        "`train.in_batch_negatives`": "4",
        "`train.ema`": "0.999",
        "`model.lora.rank`": "8",
        "`model.freeze`": "[embeddings]",
        "`model.attention_dropout`": "0.0",
        "`data.mix`": "[1000, 3000]",
        "`seed`": "0",
        "steps": "70",
    }


def test_every_setting_of_the_schema_is_shown_or_known_to_be_harmless():
    """A setting that is added later is found by this test."""
    parts = {"loss": LossSettings, "optim": OptimSettings, "train": TrainSettings}
    changed = {part: dict.fromkeys(vars(schema()), 7) for part, schema in parts.items()}
    rows = dict(training_rows(SimpleNamespace(config=changed, manifest={"steps": 1}, base=Base())))
    missing = {f"{part}.{key}" for part, values in changed.items() for key in values}
    missing -= {name.strip("`") for name in rows}
    assert missing == {*HARMLESS, "loss.name", "train.epochs"}


@pytest.mark.parametrize("calibrated", [True, False])
def test_what_was_said_of_the_old_scale_is_said_to_be_old(source, calibrated):
    audits = [
        Audit("spread", False, "scores of a query range over 3.10 (median)"),
        Audit("calibration", True, "sigmoid scores are no probabilities: expected calibration error 0.470"),
        Audit("truncation", False, "3 % of 1,200 pairs cut to the token budget"),
    ]
    report = Report.load(source.final)
    systems = [replace(one, audits=audits) if one.kind == "model" else one for one in report.systems]
    words = notes_words(replace(report, systems=systems), systems[-1], calibrated=calibrated)
    when = ", before calibration" if calibrated else ""
    assert f"tuned{when}: scores of a query range over 3.10 (median)." in words
    assert f"tuned{when}: sigmoid scores are no probabilities" in words
    assert "tuned: 3 % of 1,200 pairs cut" in words
    assert "base" not in words
    assert words.startswith(f"**Know this:** tuned{when}: sigmoid scores are no probabilities")


def test_reports_of_one_name_are_told_apart(settings, source, tmp_path):
    paths = [source.folder / language / "data" / "test.jsonl" for language in ("en", "zh")]
    reports = [
        source.report(tmp_path / str(place), data=path, gain=0.1 + place / 10)
        for place, path in enumerate(paths)
    ]
    card = card_of(replace(settings, reports=[str(report) for report in reports]))
    found = {
        result.dataset_name: result.metric_value
        for result in card.data.eval_results
        if result.metric_name == "nDCG@10"
    }
    expected = [Report.load(report).system("tuned").results["nDCG@10"].mean for report in reports]
    assert (found["en/data (test)"], found["zh/data (test)"]) == tuple(expected)
    assert "### en/data (test)" in card.text
    assert "On zh/data (test): tuned is better" in card.text


def test_an_unknown_licence_is_said_to_be_unknown(settings, source):
    source.manifest(base__license=None, base__path=str(source.base))
    card = card_of(settings)
    assert card.data.license is None
    assert "license" not in card.content.split("---")[1]
    assert "Unknown: neither" in card.text


def test_the_licence_of_a_local_base_is_carried_over(settings, source):
    (source.base / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n", encoding="utf-8")
    source.manifest(base__license=None, base__path=str(source.base), base__language=[])
    assert card_of(settings).data.license == "cc-by-4.0"


def test_the_publisher_has_the_last_word(settings):
    card = card_of(replace(settings, card=CardSettings(license="Apache-2.0", language=["fr"])))
    assert (card.data.license, card.data.language) == ("apache-2.0", ["fr"])
    assert "stated by the publisher" in card.text


def test_a_new_head_is_compared_with_the_first_stage(settings, source):
    """The base ranks at random, so the gain over it means nothing."""
    source.manifest(base__new_head=True)
    card = card_of(settings)
    report = Report.load(source.final)
    values = [list(report.per_query["nDCG@10"][name].values()) for name in ("tuned", "bm25")]
    expected = compare_systems(*values, system="tuned", baseline="bm25", measure="nDCG@10", seed=0)
    assert expected.low > 0
    assert f"| nDCG@10 | {expected.difference:+.3f} [{expected.low:+.3f}, {expected.high:+.3f}]" in card.text
    assert "tuned is better than bm25" in card.text
    assert "The base had no ranking head" in card.text


@pytest.mark.parametrize(
    ("low", "high", "p", "passes"),
    [(0.01, 0.09, 0.01, True), (-0.02, 0.06, 0.3, False), (-0.09, -0.01, 0.01, False)],
)
def test_a_new_head_must_be_better_than_the_first_stage(settings, source, low, high, p, passes, monkeypatch):
    monkeypatch.setattr(gate, "contradictions", lambda report: [])  # the comparison is made up
    source.manifest(base__new_head=True)
    report = Report.load(source.final)
    to_stage = Comparison("tuned", "bm25", "nDCG@10", (low + high) / 2, low, high, p, 20, 0, 20)
    to_base = report.comparison("tuned", "nDCG@10")
    source.report(source.final, baseline="bm25", comparisons=[to_stage, to_base])
    if passes:
        assert "bm25" in card_of(settings).text
    else:
        words = "tuned is worse than bm25" if high < 0 else "tuned is not shown to be better than bm25"
        with pytest.raises(UserError, match=words) as refused:
            card_of(settings)
        assert "force=true" in refused.value.advice
        assert words in card_of(replace(settings, force=True)).text


def test_a_new_head_without_a_first_stage_is_said_to_prove_little(settings, source):
    source.manifest(base__new_head=True)
    report = Report.load(source.final)
    models = [system for system in report.systems if system.kind == "model"]
    comparisons = [one for one in report.comparisons if one.system == "tuned"]
    source.report(source.final, systems=models, comparisons=comparisons)
    text = card_of(settings).text
    assert "tuned is better than base" in text
    assert "a gain over them says little" in text


def test_a_library_that_is_absent_is_named(settings, monkeypatch):
    (present,) = verify.PEERS
    absent = replace(present, library="FlagEmbedding", module="no_such_module")
    monkeypatch.setattr(verify, "PEERS", (present, absent))
    text = card_of(settings).text
    assert "not checked: not installed here (`pip install FlagEmbedding`)" in text


def _numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, float):
        yield value


def test_the_request_of_text_embeddings_inference_is_readable(settings):
    snippet = card_of(settings).text.split("```bash\n")[1].split("```")[0]
    arguments = shlex.split(snippet.splitlines()[-1])
    body = json.loads(arguments[arguments.index("-d") + 1])
    assert body["raw_scores"] is True
    assert len(body["texts"]) == 2
    assert "--model-id /model" in snippet
    assert '-v "$PWD/mine-reranker:/model"' in snippet


@pytest.mark.slow
def test_text_embeddings_inference_gives_the_scores():
    pytest.skip("needs Docker and the image of Text Embeddings Inference from a registry: not executed")
