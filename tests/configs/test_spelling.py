"""Texts of the command line keep the letters that were typed, whatever Hydra's grammar would make of them."""

import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from uprank.configs import command
from uprank.configs.schema_data import CheckCommand, MineCommand
from uprank.configs.schema_eval import EvalCommand
from uprank.configs.schema_train import TrainCommand
from uprank.configs.spelling import spelled


@pytest.fixture
def settings(monkeypatch):
    """Return a function that runs a command line and returns what the command got."""

    def run(name, schema, *words):
        got = []
        monkeypatch.setattr(sys, "argv", [f"uprank {name}", *words])
        command.run(name, schema, got.append)
        assert sys.argv[1:] == list(words)  # as manifests tell it
        return got[0]

    return run


TYPED = [
    *("2026_11_30", "1.10", "1e3", "true", "null", "nan", "0x1F", "007", "+5", "inf", "12:30", "off"),
    *(
        "训练",
        "é",
        "a(1)",
        "a=b",
        "a,b",
        "a b",
        "[x",
        "x]",
        "{",
        "it's",
        'a"b',
        "a\\b",
        "$x",
        "@a",
        "#1",
        "a&b",
        "%s",
    ),
]


@pytest.mark.parametrize("text", TYPED)
def test_a_text_keeps_its_letters(settings, text):
    given = ("eval", EvalCommand, f"model.path={text}", "model.revision=1.10", f"data.test={text}")
    got = settings(*given, f"output={text}")
    maybe = None if text == "null" else text  # where a setting may be left out
    assert (got.output, got.data.test, got.model.path) == (text, maybe, maybe)
    assert got.model.revision == "1.10"


def test_a_path_of_every_command(settings):
    assert settings("check", CheckCommand, "data.train=数据(1)/训练.jsonl").data.train == "数据(1)/训练.jsonl"
    mined = settings("mine", MineCommand, "data.train=a=b.jsonl", "output=1.10", "corpus=1e3")
    assert (mined.data.train, mined.output, mined.corpus) == ("a=b.jsonl", "1.10", "1e3")
    words = ("data.train=1.10", "data.dev=2026_11_30", "model.path=007", "output=1_0", "tracker.project=1.0")
    trained = settings("train", TrainCommand, *words)
    assert (trained.data.train, trained.data.dev, trained.model.path) == ("1.10", "2026_11_30", "007")
    assert (trained.output, trained.tracker.project) == ("1_0", "1.0")


def test_home_is_expanded(settings, monkeypatch):
    monkeypatch.setenv("HOME", "/data/me")
    words = ("model.path=~/m", 'data.test="~/x y"', "output=~/o", "model.query_prompt=~/p")
    got = settings("eval", EvalCommand, *words)
    assert (got.model.path, got.data.test, got.output) == ("/data/me/m", "/data/me/x y", "/data/me/o")
    assert got.model.query_prompt == "~/p"


def test_inside_lists_and_mappings(settings):
    words = (
        "models={m: {path: 1.10, max_tokens: 64, backend: onnx}, n: 2_0, o: {path: 训(1)}}",
        "data.test={zh: 数据/a b.jsonl, en: 'c, d'}",
        "runs=[1.10, ~x, null]",
        "output=o",
    )
    got = settings("eval", EvalCommand, *words)
    assert got.models == {
        "m": {"path": "1.10", "max_tokens": 64, "backend": "onnx"},
        "n": "2_0",
        "o": {"path": "训(1)"},
    }
    assert got.data.test == {"zh": "数据/a b.jsonl", "en": "c, d"}
    assert got.runs == ["1.10", "~x", None]
    roles = settings("check", CheckCommand, "data.train={qrels: 1.10, run: 2.0, corpus: c, depth: 5}")
    assert roles.data.train == {"qrels": "1.10", "run": "2.0", "corpus": "c", "depth": 5}


def test_with_a_prefix_and_inside_a_mapping():
    words = spelled(["++output=1.10", "+models.m.path=1.10", "+models.m.max_tokens=64"], EvalCommand)
    assert words == ["++output='1.10'", "+models.m.path='1.10'", "+models.m.max_tokens=64"]


def test_in_a_sweep_commas_part_values():
    words = spelled(["-m", "model.path=1.10,'a,b'", "seed=1,2", "candidates=choice(bm25,dense)"], EvalCommand)
    assert words == ["-m", "model.path='1.10','a,b'", "seed=1,2", "candidates=choice(bm25,dense)"]


@dataclass
class One:
    text: str = "a"
    texts: list[str] = field(default_factory=list)
    anything: Any = None
    number: int = 3


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text(text):
    if text[0] + text[-1] in ("[]", "{}", "''", '""') or text.startswith("~/") or "(" in text:
        return
    (word,) = spelled([f"text={text}"], One)
    assert OverridesParser.create().parse_override(word).value() == text


def test_numbers_and_unknown_settings_stay_as_they_are():
    words = ["number=5", "anything=1.10", "other=a", "--cfg", "job", "+other=1.10"]
    assert spelled(words, One) == words


def test_a_function_of_hydra_is_a_text_where_nothing_is_swept(settings):
    assert settings("eval", EvalCommand, "model.path=m", "data.test=d", "output=glob(1)").output == "glob(1)"


def test_yaml_that_respells_a_text_is_refused_with_its_line(settings, tmp_path, capsys):
    """YAML reads 1.10 as a number before anybody knows that a text is wanted."""
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    words = ("--config-dir", str(tmp_path), "experiment=mine", "model.path=m", "data.train=t", "data.dev=d")
    right = 'output: "1.10"\nmodel:\n  revision: "2026_11_30"\n  max_tokens: 1_0\n'
    file.write_text(f"# @package _global_\n{right}")
    got = settings("train", TrainCommand, *words)
    assert (got.output, got.model.revision, got.model.max_tokens) == ("1.10", "2026_11_30", 10)
    file.write_text("# @package _global_\n" + right.replace('"', ""))
    with pytest.raises(SystemExit):
        settings("train", TrainCommand, *words)
    said = capsys.readouterr().err
    assert f'{file}:2: YAML reads 1.10 as 1.1; write output: "1.10"' in said
    assert f'{file}:4: YAML reads 2026_11_30 as 20261130; write model.revision: "2026_11_30"' in said
