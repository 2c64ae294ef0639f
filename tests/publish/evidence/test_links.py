"""A link never brings a file from elsewhere into what is published."""

from pathlib import Path

import pytest
from uprank.configs.errors import UserError
from uprank.configs.schema_publish import PublishCommand, PushSettings
from uprank.publish.command import publish
from uprank.publish.evidence import refuse_links
from uprank.publish.evidence.licence import Base, copy_notices
from uprank.publish.hub import push_folder
from uprank.publish.merging.interpolate import last_checkpoints
from uprank.publish.verify.folder import verify_folder

pytestmark = pytest.mark.usefixtures("only_transformers")


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "secret"
    path.write_text("the secret")
    return path


def replaced(path: Path, secret: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(secret)


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "best/vocab.txt",
        "eval/final/report.html",
        "report.html",
        "config.yaml",
        "best/model.safetensors",
    ],
)
def test_a_link_out_of_the_run_or_its_base_is_refused_by_name(settings, source, secret, name):
    source.manifest(base__path=str(source.base), base__kind="folder")
    place = source.base / name if name == "LICENSE" else source.run / name
    replaced(place, secret)
    with pytest.raises(UserError) as refused:
        publish(settings)
    assert refused.value.problems == [f"{place}: a link out of its folder, to {secret}"]
    assert not Path(settings.output).exists()


@pytest.mark.parametrize("name", ["NOTICE", "sub/deep.txt"])
def test_a_model_folder_is_looked_through(settings, source, secret, tmp_path, name):
    model = source.run / "best"
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).symlink_to(secret)
    given = PublishCommand(report=str(source.final), output=settings.output, force=True)
    given.model.path = str(model)
    with pytest.raises(UserError, match=f"{name}: a link out of its folder"):
        publish(given)


def test_a_linked_folder_of_evidence_is_refused(settings, source, tmp_path):
    moved = source.final.rename(tmp_path / "elsewhere")
    source.final.symlink_to(moved)
    with pytest.raises(UserError, match="eval/final: a link out of its folder"):
        publish(settings)


def test_links_inside_a_folder_and_of_the_hubs_cache_are_followed(tmp_path, secret):
    cached = tmp_path / "models--a--b"
    snapshot = cached / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cached / "blobs").mkdir()
    (cached / "blobs" / "f00d").write_text("MIT")
    (snapshot / "LICENSE").symlink_to("../../blobs/f00d")
    (snapshot / "COPYING").symlink_to("LICENSE")
    assert copy_notices(Base(str(snapshot)), tmp_path, tmp_path) == ["COPYING", "LICENSE"]
    assert not (tmp_path / "LICENSE").is_symlink()
    assert (tmp_path / "LICENSE").read_text() == "MIT"
    (snapshot / "NOTICE").symlink_to("../../../secret")
    with pytest.raises(UserError, match="NOTICE: a link out of its folder"):
        copy_notices(Base(str(snapshot)), tmp_path, tmp_path)


def test_blobs_count_only_beside_snapshots(tmp_path, secret):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "x").write_text("")
    (tmp_path / "one" / "model").mkdir(parents=True)
    (tmp_path / "one" / "model" / "x").symlink_to("../../blobs/x")
    (tmp_path / "one" / "model" / "gone").symlink_to("nowhere")
    with pytest.raises(UserError) as refused:
        refuse_links(tmp_path / "one" / "model")
    assert len(refused.value.problems) == 2


def test_verify_merge_and_push_follow_no_link_either(settings, source, secret):
    done = publish(settings).folder
    (done / "more.txt").symlink_to(secret)
    (line,) = verify_folder(done)
    assert line.held is False
    assert f"more.txt: a link out of its folder, to {secret}" in line.detail
    with pytest.raises(UserError, match=r"more\.txt: a link out of its folder"):
        push_folder(done, PushSettings(repo="a/b"))
    (source.run / "checkpoints").symlink_to(done)
    with pytest.raises(UserError, match="checkpoints: a link out of its folder"):
        last_checkpoints(source.run, 2)
