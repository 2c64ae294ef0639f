"""No absolute path of this machine stands in a published file."""

import json
import sys
from pathlib import Path

import pytest
from uprank.configs.schema_publish import OnnxSettings
from uprank.publish.command import publish
from uprank.publish.folder.paths import Paths, shortened
from uprank.publish.verify.folder import verify_folder

pytestmark = pytest.mark.usefixtures("only_transformers")


@pytest.mark.parametrize("graphs", [[], pytest.param(["fp32", "int8"], marks=pytest.mark.slow)])
def test_a_published_folder_names_no_place_of_the_machine(settings, measured, tmp_path, graphs):
    (other := tmp_path / "a b" / "law.v1").mkdir(parents=True)
    text = (measured.folder / "data" / "mine" / "dev.jsonl").read_text(encoding="utf-8")
    (other / "dev.jsonl").write_text(text, encoding="utf-8")
    again = measured.report(tmp_path / "again", data=other / "dev.jsonl")
    train = f"data.train={tmp_path}/train.jsonl"
    measured.manifest(
        command=f"uprank train {train} 'output={tmp_path}/a b'", data__train={"path": f"{tmp_path}/t.jsonl"}
    )
    (measured.run / "config.yaml").write_text(
        f"data: {{train: {tmp_path}/x/train.jsonl}}\n", encoding="utf-8"
    )
    page = f"<pre>{train}</pre><p>{tmp_path}/beside.jsonl:3: a</p><a href='https://a.b/c/d'>and/or</a>"
    (measured.run / "report.html").write_text(page, encoding="utf-8")
    (measured.final / "report.html").unlink()
    settings.reports, settings.onnx, settings.force = (
        [str(again)],
        OnnxSettings(graphs=graphs, min_tau=0, max_loss=1),
        True,
    )
    done = publish(settings).folder
    for path in (path for path in done.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for place in (tmp_path, Path.cwd(), Path.home(), sys.prefix):
            assert str(place).encode() not in content, path
    page = (done / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "beside.jsonl:3: a</p><a href='https://a.b/c/d'>and/or</a>" in page
    (report,) = (
        json.loads(path.read_text(encoding="utf-8")) for path in done.glob("evaluation/1-*/report.json")
    )
    assert report["data"].endswith("a b/law.v1/dev.jsonl")
    assert [line.detail for line in verify_folder(done) if line.held is False] == []


def test_what_is_no_path_stays():
    paths = Paths(
        {"command": "uprank eval data.test=/data/me/law/dev.jsonl output='/data/me/my reports/e'"},
        ["/no_think"],
    )
    assert paths.without(
        {"a": ["x=/data/me/law/dev.jsonl", 3], "b": "/no_think a/b 1 / 2 https://x.y/data/me/law"}
    ) == {
        "a": ["x=me/law/dev.jsonl", 3],
        "b": "/no_think a/b 1 / 2 https://x.y/data/me/law",
    }
    assert (
        paths.without("'/data/me/my reports/e': /data/me/law/other.jsonl:3")
        == "'my reports/e': other.jsonl:3"
    )
    assert shortened("/data/law.v1.jsonl") == "data/law.v1.jsonl"
