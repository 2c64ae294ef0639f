"""Nothing from outside becomes YAML or Markdown of the card."""

import pytest
import yaml
from uprank.publish.command import publish

pytestmark = pytest.mark.usefixtures("only_transformers")

EVIL = "x`](http://evil) <script>a|b</script>\n---\nlicense: other\n# Owned\n![i](http://evil/p.png)"


def test_licence_and_names_stay_text(settings, source):
    source.manifest(
        base__path=f"/data/me/{EVIL.replace('/', '-')}",
        base__kind="folder",
        base__license=EVIL,
        base__language=["en", EVIL],
        hardware=EVIL,
        data__train={"path": f"a/{EVIL.replace('/', '-')}.jsonl", "groups": 3},
    )
    settings.card.data_license, settings.card.name, settings.card.datasets = EVIL, EVIL, [EVIL]
    source.report(source.final, candidates=EVIL.replace("/", "-"), gain=0.0)
    settings.force = True
    card = (publish(settings).folder / "README.md").read_text(encoding="utf-8")
    header, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(header)["license"] == EVIL.lower()
    assert yaml.safe_load(header)["datasets"] == [EVIL]
    assert "\n# Owned" not in body
    assert "\n![i]" not in body
    outside = [part for line in body.split("\n") for part in line.split("`")[::2]]
    for part in outside:
        for mark in ("<script", "](http://evil", "![i]", "](http:--evil"):
            assert mark not in part, part
    table = next(line for line in body.split("\n") if line.startswith("| hardware |"))
    assert table.replace("\\|", "").count("|") == 3
