"""The upload against a local server that speaks the hub's API: one commit or none, no token in sight."""

import json
import logging
from pathlib import Path

import hub_double as double  # made importable by conftest.py
import pytest
from huggingface_hub import constants
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import PushSettings
from uprank.publish.hub import upload as hub

FILES = {
    "README.md": b"---\nlicense: mit\n---\n# Mine\n",
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 700,
    "onnx/model.onnx": b"graph",
    "evaluation/report.json": b"{}",
}


def made(folder: Path, **files: bytes) -> Path:
    """Make a folder as `publish` leaves it."""
    content = {**FILES, **files}
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    record = {"files": dict.fromkeys(content, "sha256:x"), "weights": "sha256:y"}
    (folder / "uprank.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def folder(tmp_path):
    return made(tmp_path / "mine")


def refused(folder, **push) -> UserError:
    with pytest.raises(UserError) as raised:
        hub.push_folder(folder, PushSettings(**{"repo": "me/mine", **push}))
    assert double.TOKEN not in str(raised.value) + raised.value.advice
    assert "127.0.0.1" not in str(raised.value)
    return raised.value


# ---- what is made


def test_a_push_makes_a_private_repository_by_one_commit(server, folder, caplog):
    caplog.set_level(logging.DEBUG)
    url = hub.push_folder(folder, PushSettings(repo="me/mine"))
    assert url == f"{server.url}/me/mine"
    repo = server.repos["me/mine"]
    assert repo.private
    assert server.commits == 1
    assert repo.files() == {**double.contents(folder), ".gitattributes": b"*.onnx lfs\n"}
    assert server.asked("PUT /storage/") == 2
    assert server.asked("POST .*/commit/main") == 1
    assert repo.branches["main"][-1].message.startswith("uprank.json sha256:")
    assert double.TOKEN not in caplog.text


def test_an_update_removes_what_the_last_publication_had_and_nothing_else(server, folder, tmp_path):
    old = made(tmp_path / "old", **{"onnx/model_int8.onnx": b"of other weights"})
    server.make("me/mine", {**double.contents(old), "picture.png": b"of the owner"}, private=False)
    hub.push_folder(folder, PushSettings(repo="me/mine"))
    assert set(server.repos["me/mine"].files()) == {*double.contents(folder), "picture.png", ".gitattributes"}
    assert server.commits == 1
    assert not server.repos["me/mine"].private  # `push.private` is for a new one


def test_a_branch_is_made_and_the_main_one_is_left_alone(server, folder):
    server.make("me/mine", {"config.json": b"old"})
    url = hub.push_folder(folder, PushSettings(repo="me/mine", revision="v2/beta"))
    assert url.endswith("/me/mine/tree/v2/beta")
    repo = server.repos["me/mine"]
    assert repo.files()["config.json"] == b"old"
    assert repo.files("v2/beta")["config.json"] == b"{}"
    hub.push_folder(made(folder, **{"config.json": b"[]"}), PushSettings(repo="me/mine", revision="v2/beta"))
    assert repo.files("v2/beta")["config.json"] == b"[]"
    assert server.asked("POST .*/branch/") == 1


def test_a_pull_request_leaves_the_main_branch_alone(server, folder):
    server.make("them/theirs", {"config.json": b"old"})  # where no repository may be made
    url = hub.push_folder(folder, PushSettings(repo="them/theirs", pr=True))
    assert url.endswith("/them/theirs/discussions/1")
    repo = server.repos["them/theirs"]
    assert repo.files()["config.json"] == b"old"
    assert repo.files("refs/pr/1")["config.json"] == b"{}"


# ---- what fails in passing


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/repos/create", 500),
        ("GET", "/api/models/me/mine/revision", 502),
        ("POST", "/preupload/", 500),
        ("POST", "/lfs/objects/batch", 503),
        ("PUT", "/storage/", 500),
        ("POST", "/validate-yaml", 500),
        ("POST", "/commit/", 500),
        ("POST", "/commit/", 429),
    ],
)
def test_a_busy_server_is_asked_again(method, path, status, server, folder):
    server.fail(method, path, status=status)
    hub.push_folder(folder, PushSettings(repo="me/mine"))
    assert server.faults[0].times == 0
    assert server.commits == 1
    assert server.repos["me/mine"].files()["model.safetensors"] == FILES["model.safetensors"]


@pytest.mark.parametrize("cut", ["before", "middle"])
def test_a_connection_that_is_cut_while_a_file_goes_up(cut, server, folder):
    server.fail("PUT", "/storage/", times=2, cut=cut)
    hub.push_folder(folder, PushSettings(repo="me/mine"))
    assert server.repos["me/mine"].files() == {**double.contents(folder), ".gitattributes": b"*.onnx lfs\n"}


@pytest.mark.parametrize("push", [{}, {"pr": True}, {"revision": "next"}])
@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_made_once(cut, push, server, folder):
    server.make("me/mine", {})
    server.fail("POST", "/commit/", cut=cut)
    url = hub.push_folder(folder, PushSettings(repo="me/mine", **push))
    assert server.commits == 1
    assert server.asked("POST .*/commit/") == (2 if cut == "before" else 1)
    assert url.endswith(
        {"pr": "/discussions/1", "revision": "/tree/next", "": "/me/mine"}[next(iter(push), "")]
    )


def test_whether_a_commit_was_made_is_said_to_be_unknown(server, folder):
    server.make("me/mine", {})
    server.fail("POST", "/commit/", cut="after")
    server.fail("GET", "/commits/", times=99, cut="before")
    error = refused(folder)
    assert "the connection was lost while the commit was made" in str(error)
    assert server.asked("POST .*/commit/") == 1  # not once more
    assert "either the whole commit is there or none" in error.advice


# ---- what is refused: nothing is committed


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"method": "POST", "path": "", "status": 401}, "token is not valid"),
        ({"method": "POST", "path": "/commit/", "status": 403}, "may not write there"),
        ({"method": "PUT", "path": "/storage/", "status": 403}, "may not write there"),
        ({"method": "POST", "path": "/commit/", "status": 500}, "answered 500: asked for by the test"),
        ({"method": "PUT", "path": "/storage/", "cut": "middle"}, "cannot be reached"),
        ({"method": "POST", "path": "/lfs/objects/batch", "cut": "before"}, "cannot be reached"),
        ({"method": "POST", "path": "/commit/", "status": 412}, "changed by somebody else"),
    ],
)
def test_a_failure_that_stays_commits_nothing(fault, words, server, folder):
    server.make("me/mine", {"config.json": b"old"})
    server.fail(times=10_000, **fault)
    before = double.contents(folder)
    error = refused(folder)
    assert words in str(error)
    assert server.commits == 0
    assert server.repos["me/mine"].files()["config.json"] == b"old"
    assert double.contents(folder) == before
    assert f"The verified folder stays in {folder}" in error.advice
    assert "Nothing was committed" in error.advice
    assert f"hf upload me/mine {folder} --private" in error.advice  # the client alone would make it public


@pytest.mark.parametrize("branch", ["main", "next"])
def test_a_change_in_between_is_not_overwritten(branch, server, folder):
    server.make("me/mine", {"config.json": b"old"})
    server.repos["me/mine"].branches.setdefault(branch, list(server.repos["me/mine"].branches["main"]))

    def meanwhile():
        server.add("me/mine", branch, "theirs", {"config.json": b"theirs"})

    server.fail("POST", "/lfs/objects/batch", then=meanwhile)
    error = refused(folder, revision=None if branch == "main" else branch)
    assert f"{branch} was changed by somebody else meanwhile; nothing was overwritten" in str(error)
    assert server.repos["me/mine"].files(branch) == {"config.json": b"theirs"}


def test_a_wrong_token_and_a_foreign_organisation(server, folder, monkeypatch):
    assert "may not write there" in str(refused(folder, repo="them/new"))
    monkeypatch.setenv("HF_TOKEN", double.TOKEN + "x")
    assert "token is not valid" in str(refused(folder))
    assert server.repos == {}


def test_no_server(server, folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub cannot be reached (" in str(refused(folder))


def test_what_a_gitignore_left_out_is_noticed(server, folder):
    server.ignored = ("onnx/model.onnx",)
    assert "is not the folder: onnx/model.onnx is missing" in str(refused(folder))


def test_a_pull_request_number_that_is_not_there_is_not_made(server, folder):
    server.make("me/mine", {})
    assert "no such organisation, repository or branch" in str(refused(folder, revision="refs/pr/7"))
    assert list(server.repos["me/mine"].branches) == ["main"]
