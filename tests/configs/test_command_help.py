"""`--help` of every command lists each setting with its sentence."""

import dataclasses
import re

import pytest
from uprank.__main__ import COMMANDS
from uprank.configs.help import known_keys, nearest


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_prints_every_setting_with_its_sentence(schemas, compose, command, flag):
    code, jobs, out, err = compose(command, flag, "nonsense")
    assert (code, jobs, err) == (0, [], "")
    keys = known_keys(schemas[command])
    assert len(keys) >= (1 if command in ("runs", "verify") else 5)
    lines = out.splitlines()
    for key, sentence in keys.items():
        assert sentence.strip(), f"{key} has no sentence under it"
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{key}  ("))
        assert [line.strip() for line in lines[at + 1 :]][: len(sentence.splitlines())] == [
            line.strip() for line in sentence.splitlines()
        ]
    assert ("experiment=" in out) == (command == "train")


def test_help_shows_defaults_and_what_is_required(compose):
    _, _, out, _ = compose("train", "--help")
    assert "\nmodel.path  (required)\n" in out
    assert "\ntrain.max_steps  (default not set)\n" in out
    assert "\ntrain.queries_per_step  (default 32)\n" in out
    assert re.search(r"^  loss=(\w+\|)*listwise(\|\w+)*$", out, re.MULTILINE)


def leaves(settings, prefix=""):
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


@pytest.mark.parametrize("command", COMMANDS)
def test_known_keys_are_those_of_the_settings(schemas, command):
    assert list(known_keys(schemas[command])) == list(leaves(schemas[command]()))


def test_nearest():
    assert nearest("a.b", ["a.c", "x.y"]) == "; did you mean 'a.c'?"
    assert nearest("zzz", ["a.c", "x.y"]) == ""
