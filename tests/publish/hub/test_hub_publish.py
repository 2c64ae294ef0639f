"""Publishing with a push, from the settings to the repository, against the double of the hub."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import hub_double as double  # made importable by conftest.py
import huggingface_hub
import pytest
from huggingface_hub import constants
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import PushSettings
from uprank.publish.command import publish
from uprank.publish.evidence.licence import Licence
from uprank.publish.hub import upload as hub

KNOWN = SimpleNamespace(licence=Licence("mit", "x"), data_licence=Licence("mit", "x"), train_names=[])
UNKNOWN = SimpleNamespace(licence=None, data_licence=None, train_names=[])


@pytest.mark.parametrize(
    ("push", "words"),
    [
        (PushSettings(repo="me/mine", revision="next", pr=True), "a pull request goes to main; give one"),
        (PushSettings(repo="me/mine", revision="a b"), "push.revision=a b: allowed is the name of a branch"),
        (PushSettings(repo="me/mine", revision="../x"), "allowed is the name of a branch"),
        (PushSettings(repo="me/mine", revision="0" * 40), "allowed is the name of a branch"),
        (PushSettings(pr=True), "push.pr=true: push.repo=organisation/name is missing"),
        (PushSettings(revision="x"), "push.revision=x: push.repo=organisation/name is missing"),
    ],
)
def test_settings_that_cannot_be_meant(push, words, server):
    with pytest.raises(UserError) as raised:
        hub.check_push(push, KNOWN)
    assert [words in problem for problem in raised.value.problems] == [True]
    assert server.requests == []


def test_what_forbids_a_push_is_said_at_once(server, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as raised:
        hub.check_push(PushSettings(repo="not a repo"), UNKNOWN)
    words = str(raised.value)
    assert all(
        part in words for part in ("push.repo=not a repo", "HF_TOKEN", "HF_HUB_OFFLINE", "licence is unknown")
    )
    hub.check_push(PushSettings(), UNKNOWN)  # nothing is asked for


# ---- the whole way


def test_published_and_pushed(only_transformers, settings, server):
    done = publish(replace(settings, push=PushSettings(repo="me/mine", revision="next")))
    assert done.url == f"{server.url}/me/mine/tree/next"
    there = server.repos["me/mine"].files("next")
    assert {**double.contents(done.folder), ".gitattributes": there[".gitattributes"]} == there
    card = there["README.md"].decode()
    assert 'CrossEncoder("me/mine")' in card
    assert '`revision="next"`' in card
    assert not any(double.TOKEN.encode() in data for data in there.values())


def test_without_push_the_hub_is_not_asked(only_transformers, settings, server):
    publish(settings)
    assert server.requests == []


def test_an_unknown_licence_is_not_pushed(settings, source, server):
    source.manifest(base__license=None, base__path=str(source.base))
    with pytest.raises(UserError, match="licence is unknown") as raised:
        publish(replace(settings, push=PushSettings(repo="me/mine")))
    assert "card.license" in str(raised.value)
    assert server.requests == []
    assert not Path(settings.output).exists()


def test_a_refusal_leaves_the_published_folder(only_transformers, settings, server):
    server.fail("POST", "/commit/", times=99, status=403)
    with pytest.raises(UserError, match="may not write there"):
        publish(replace(settings, push=PushSettings(repo="me/mine")))
    assert (Path(settings.output) / "README.md").is_file()
    assert server.commits == 0


@pytest.mark.slow
def test_the_command_line_pushes_to_the_endpoint_of_the_environment(settings, source, server, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": server.url, "HF_TOKEN": double.TOKEN, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "uprank", "publish", f"run={source.run}", f"output={tmp_path / 'o'}"]
    command += ["push.repo=me/mine", "push.pr=true", "card.data_license=mit", "onnx.graphs=[]"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Pushed: {server.url}/me/mine/discussions/1" in done.stdout
    assert double.TOKEN not in done.stdout + done.stderr
    assert server.repos["me/mine"].files("refs/pr/1")["README.md"]
