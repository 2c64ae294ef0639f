"""The upload, against a stand-in for the hub's client: one commit, no token in sight."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import PushSettings
from uprank.publish import verify
from uprank.publish.command import publish

TOKEN = "hf_secretsecretsecret"


class FakeApi:
    """Keeps what it is asked to do."""

    calls: ClassVar[list] = []
    error: ClassVar[Exception | None] = None

    def create_repo(self, repo_id, **named):
        self.calls.append(("create_repo", repo_id, named))
        if self.error:
            raise self.error
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        names = {path.name for path in Path(folder_path).iterdir()}
        self.calls.append(("upload_folder", repo_id, names))


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    api = type("Api", (FakeApi,), {"calls": []})
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(verify, "PEERS", verify.PEERS[:1])
    return api


@pytest.fixture
def pushing(settings):
    return replace(settings, push=PushSettings(repo="me/mine"))


def answer(status: int) -> HfHubHTTPError:
    # What the error reads of a response; which HTTP library the hub's client uses is its own affair.
    response = SimpleNamespace(status_code=status, headers={}, request=None, text="")
    return HfHubHTTPError(f"{status} for {TOKEN}", response=response)


def test_a_push_is_one_commit_of_the_finished_folder(pushing, hub, caplog):
    caplog.set_level(logging.DEBUG)
    done = publish(pushing)
    create, upload = hub.calls
    assert create == ("create_repo", "me/mine", {"private": True, "exist_ok": True, "repo_type": "model"})
    assert upload[:2] == ("upload_folder", "me/mine")
    assert {"README.md", "model.safetensors", "uprank.json", "evaluation"} <= upload[2]
    assert done.url == "https://huggingface.co/me/mine"
    assert 'CrossEncoder("me/mine")' in (done.folder / "README.md").read_text(encoding="utf-8")
    written = "".join(
        path.read_text("utf-8") for path in done.folder.iterdir() if path.suffix in (".md", ".json")
    )
    assert TOKEN not in caplog.text + written


def test_without_push_the_hub_is_not_asked(settings, hub):
    publish(settings)
    assert hub.calls == []


def test_an_unknown_licence_is_not_pushed(pushing, source, hub):
    source.manifest(base__license=None, base__path=str(source.base))
    with pytest.raises(UserError, match="licence is unknown") as raised:
        publish(pushing)
    assert "card.license" in str(raised.value)
    assert hub.calls == []
    assert not Path(pushing.output).exists()


def test_what_forbids_a_push_is_said_at_once(pushing, hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as raised:
        publish(replace(pushing, push=PushSettings(repo="not a repo")))
    words = str(raised.value)
    assert all(part in words for part in ("push.repo=not a repo", "HF_TOKEN", "HF_HUB_OFFLINE"))
    assert hub.calls == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (answer(401), "token is not valid"),
        (answer(403), "may not write there"),
        (answer(500), "answered 500"),
        (ConnectionError(TOKEN), "cannot be reached"),
    ],
)
def test_a_refusal_of_the_hub_is_a_plain_message_and_the_folder_stays(error, words, pushing, hub):
    hub.error = error
    with pytest.raises(UserError, match=words) as raised:
        publish(pushing)
    assert TOKEN not in str(raised.value)
    assert "hf upload me/mine" in raised.value.advice
    assert (Path(pushing.output) / "README.md").is_file()
