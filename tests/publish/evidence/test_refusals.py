"""Models that are refused, with which message, and that nothing is left behind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import CardSettings, PublishCommand, PushSettings
from uprank.data.origin import find_origin
from uprank.eval.results import Report
from uprank.publish import command
from uprank.publish.command import publish
from uprank.publish.evidence.licence import find_data_licence
from uprank.publish.parity import libraries as verify

pytestmark = pytest.mark.usefixtures("only_transformers")
HONEST = verify.PEERS[0]


def refused(settings: PublishCommand, **changes) -> UserError:
    """Publish, which must fail with a message for the user and leave nothing behind."""
    settings = replace(settings, **changes)
    before = sorted(Path(settings.output).parent.glob("**/*"))
    with pytest.raises(UserError) as raised:
        publish(settings)
    assert sorted(Path(settings.output).parent.glob("**/*")) == before
    return raised.value


def test_regression(settings, source):
    source.report(source.final, gain=-0.1)
    error = refused(settings)
    assert "tuned is worse than base: nDCG@10 -0." in str(error)
    assert "force=true" in error.advice


def test_a_difference_that_may_be_chance(settings, source):
    source.report(source.final, gain=0.0)
    assert "tuned is not shown to be better than base" in str(refused(settings))


@pytest.mark.parametrize("part", ["comparisons", "systems"])
def test_a_report_that_was_written_by_hand(settings, source, part):
    """Stated values must follow from the values per query, also with force."""
    report = Report.load(source.final)
    if part == "comparisons":
        changed = [replace(c, low=0.4, high=0.6, difference=0.5) for c in report.comparisons]
    else:
        best = {measure: replace(e, mean=0.99) for measure, e in report.system("tuned").results.items()}
        changed = [replace(s, results=best) if s.name == "tuned" else s for s in report.systems]
    source.report(source.final, **{part: changed})
    assert "does not follow from per_query.jsonl" in str(refused(settings, force=True))


def test_a_report_with_other_token_budgets(settings, source):
    report = Report.load(source.final)
    other = [replace(s, query_tokens=5, max_tokens=50) if s.name == "tuned" else s for s in report.systems]
    source.report(source.final, systems=other)
    words = (
        "tuned was measured with query_tokens=5 and max_tokens=50, and is published with query_tokens=24 and "
    )
    assert words + "max_tokens=96" in str(refused(settings, force=True))


def test_a_report_about_other_weights(settings, source):
    source.report(source.final, weights={**source.weights, "tuned": "sha256:other"})
    error = refused(settings, force=True)
    assert "the report is about other weights" in str(error)
    assert "sha256:other" in str(error)
    assert source.weights["tuned"] in str(error)


def test_a_further_report_about_other_weights(settings, source, tmp_path):
    foreign = source.report(tmp_path / "foreign", weights={"base": "sha256:a", "tuned": "sha256:b"})
    assert "the report is about other weights" in str(refused(settings, reports=[str(foreign)], force=True))


def test_the_same_report_twice(settings, source):
    assert "named twice" in str(refused(settings, reports=[str(source.final)]))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2001] ^= 1
    path.write_bytes(content)


def lose_a_number(path: Path) -> None:
    tensors = load_file(path) | {"classifier.out_proj.bias": torch.tensor([float("nan")])}
    save_file(tensors, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_off, "model.safetensors: damaged"),
        (flip_a_bit, "not the weights that the run wrote"),
        (lose_a_number, "not finite numbers: classifier.out_proj.bias"),
        (Path.unlink, "no *.safetensors"),
    ],
)
def test_damaged_weights(spoil, words, settings, source):
    spoil(source.run / "best" / "model.safetensors")
    assert words in str(refused(settings, force=True))


def test_an_index_whose_shards_are_missing(settings, source):
    index = source.run / "best" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', encoding="utf-8")
    assert "model-00001-of-00002.safetensors: missing" in str(refused(settings))


def fail(*given):
    raise KeyError("model_type")


def off_by_a_thousandth(*given):
    return [score + 1e-3 for score in HONEST.scores(*given)]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (off_by_a_thousandth, "scores differ by 0.001"),
        (lambda folder, pairs, length: [float("nan")] * len(pairs), "scores differ by nan"),
        (fail, "cannot use the folder: KeyError"),
    ],
)
def test_a_library_that_fails_or_scores_otherwise(scores, words, settings, monkeypatch):
    monkeypatch.setattr(verify, "PEERS", (replace(HONEST, scores=scores),))
    assert words in str(refused(settings))


def test_a_tokenizer_that_reads_otherwise(settings, monkeypatch):
    """The folder on disk is compared, not the objects in memory."""
    write = command.write_model

    def lose_the_tokenizer(reranker, folder, kind):
        write(reranker, folder, kind)
        piece = reranker.tokenizer.tokenize("what is a reranker?")[0]
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        assert f'"{piece}"' in text
        (folder / "tokenizer.json").write_text(text.replace(f'"{piece}"', '"another"'), encoding="utf-8")

    monkeypatch.setattr(command, "write_model", lose_the_tokenizer)
    assert "the published tokenizer gives other ids" in str(refused(settings))


def test_weights_that_change_while_writing(settings, monkeypatch):
    write = command.write_model

    def spoil(reranker, folder, kind):
        write(reranker, folder, kind)
        tensors = load_file(folder / "model.safetensors")
        save_file(
            {name: tensor * 1.001 for name, tensor in tensors.items()},
            folder / "model.safetensors",
            {"format": "pt"},
        )

    monkeypatch.setattr(command, "write_model", spoil)
    assert "the written weights are not the measured ones" in str(refused(settings))


def test_an_existing_output_is_not_touched(settings):
    output = Path(settings.output)
    output.mkdir(parents=True)
    (output / "precious").write_text("mine", encoding="utf-8")
    assert "never overwritten" in str(refused(settings))
    assert (output / "precious").read_text(encoding="utf-8") == "mine"


def test_an_output_that_appears_meanwhile(settings, monkeypatch):
    def meanwhile(*given, **named):
        Path(settings.output).mkdir(parents=True)
        (Path(settings.output) / "precious").write_text("mine", encoding="utf-8")
        return "card"

    monkeypatch.setattr(command, "render_card", meanwhile)
    with pytest.raises(UserError, match="never overwritten"):
        publish(settings)
    assert [path.name for path in Path(settings.output).parent.rglob("*")] == ["mine-reranker", "precious"]


def test_an_unfinished_run(settings, source):
    source.manifest(finished=None)
    error = refused(settings)
    assert "not finished" in str(error)
    assert "uprank train output=run" in str(error)


@pytest.mark.parametrize("name", ["manifest.json", "config.yaml", "best", "eval"])
def test_a_run_without(name, settings, source):
    path = source.run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert name in str(refused(settings))


def test_several_problems_at_once(settings, source):
    (source.run / "manifest.json").write_text("{", encoding="utf-8")
    (source.run / "config.yaml").unlink()
    Path(settings.output).mkdir(parents=True)
    (Path(settings.output) / "file").touch()
    problems = refused(settings, reports=["nowhere"]).problems
    for words in (
        "never overwritten",
        "manifest.json: not the manifest of a run (broken JSON",
        "config.yaml: missing",
        "nowhere: no report here",
    ):
        assert any(words in problem for problem in problems), (words, problems)


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"run": None}, None, "nothing to publish"),
        ({"report": "r"}, None, "run and report are given"),
        ({}, "m", "run and model.path are given"),
        ({"run": None}, "m", "model.path is given without report"),
        ({"run": None, "report": "r"}, None, "report is given without model.path"),
        ({"run": None, "report": "r"}, "m", "model.path=m: no such folder"),
        ({"run": "nowhere"}, None, "run=nowhere: no such folder"),
    ],
)
def test_a_wrong_choice_of_the_source(changes, path, words, settings):
    given = replace(settings, **changes, model=replace(settings.model, path=path))
    assert words in str(refused(given))


def test_an_unknown_licence_of_the_data_is_not_pushed(settings, source, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    manifest = json.loads((source.run / "manifest.json").read_text(encoding="utf-8"))
    source.manifest(data={**manifest["data"], "train": {"path": str(folder), "groups": 3}})
    pushed = replace(settings, push=PushSettings(repo="me/mine"), card=CardSettings())
    error = refused(pushed)
    assert "the licence of the training data is unknown (corpus)" in str(error)
    assert "set card.data_license=ID" in str(error)
    (folder / "README.md").write_text("---\nlicense: unknown\n---\n", encoding="utf-8")
    assert "training data is unknown" in str(refused(pushed))
    (folder / "README.md").write_text("---\nlicense: CC-BY-4.0\n---\n", encoding="utf-8")
    assert "training data" not in str(refused(pushed))  # no token, no network: still not pushed
    done = publish(replace(settings, card=CardSettings()))
    assert "`cc-by-4.0`, stated in the card of the data" in (done.folder / "README.md").read_text("utf-8")


def test_data_of_which_one_part_has_no_licence(tmp_path):
    for name, text in (("a", "license: mit"), ("b", "license: mit"), ("c", "language: en")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"---\n{text}\n---\n", encoding="utf-8")
    paths = [str(tmp_path / name) for name in "abc"]
    found = find_data_licence(None, [find_origin([paths[0], {"corpus": paths[1]}])])
    assert found is not None
    assert found.id == "mit"
    assert find_data_licence(None, [find_origin(path) for path in paths]) is None
    assert find_data_licence(None, []) is None
    assert find_data_licence(None, [find_origin("hf://some/data")]) is None
    assert find_data_licence("Apache-2.0", []).id == "apache-2.0"


def test_a_wrong_type_of_weights(settings):
    assert "weights=int4: allowed are fp32, fp16, bf16" in str(refused(settings, weights="int4"))


def test_a_report_on_a_sample_is_not_taken_for_the_test_set(settings, source, tmp_path):
    source.report(tmp_path / "test", sampled_from=300)
    error = refused(settings, reports=[str(tmp_path / "test")])
    assert "measured on a sample of" in str(error)
    assert "of 300 judged queries; evaluate all of them, without max_queries" in str(error)
