"""Cards of foreign models and data: read as far as they are plain, never expanded."""

import json
import os
import time

import pytest
from uprank.data.cards import read_card
from uprank.data.origin import find_origin, write_origin
from uprank.model.locate import base_card
from uprank.publish.evidence.licence import find_data_licence

UNKNOWN = {"license": None, "language": [], "derived_from": []}


def bomb(key):
    """Return a card whose metadata are 9 to the power of 9 texts, in a few hundred bytes."""
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for last, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{','.join([f'*{last}'] * 9)}]")
    return "---\n" + "\n".join([*lines, f"{key}: *i"]) + "\n---\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: mit\nlanguage: no\ntags:\n- x\n---\n# A\n", {"license": "mit", "language": ["no"]}),
        ("---\nlanguage:\n- en\n- zh\nlicense: mit\n---\n", {"license": "mit", "language": ["en", "zh"]}),
        ("---\nmodel-index: [\nlicense: 'mit'  # stated\n---\n", {"license": "mit", "language": []}),
        ("---\nlicense:\nlanguage: {a: b}\n---\n", UNKNOWN),
        ("license: mit\n", UNKNOWN),
        ("---\ncard:\n  license: mit\n---\n", UNKNOWN),
        ("---\nlicense: [a, &a [*a]]\nlanguage: [" + "[" * 9000 + "\n---\n", UNKNOWN),
        (bomb("license"), UNKNOWN),
        (bomb("language"), UNKNOWN),
    ],
)  # fmt: skip
def test_what_a_card_says_plainly_is_read(tmp_path, text, expected):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert read_card(tmp_path / "README.md") == UNKNOWN | expected


def test_a_bomb_in_a_card_costs_nothing(tiny_bert, tmp_path):
    (tmp_path / "README.md").write_text(bomb("license"))
    (tmp_path / "train.jsonl").write_text("{}")
    for file in tiny_bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    start = time.perf_counter()
    assert len(json.dumps(base_card(str(tmp_path)))) < 100
    assert find_data_licence(None, [find_origin(str(tmp_path / "train.jsonl"))]) is None
    assert time.perf_counter() - start < 2


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "README.md")
    assert read_card(tmp_path / "README.md") == UNKNOWN
    assert read_card(tmp_path / "none.md") == UNKNOWN


@pytest.fixture
def beir(tmp_path):
    """A folder with a card, as mirrors of BEIR have."""
    (tmp_path / "law").mkdir()
    (tmp_path / "law" / "README.md").write_text("---\nlicense: cc-by-4.0\nlanguage: zh\n---\n# Law\n")
    return tmp_path / "law"


def test_the_origin_travels_beside_rows_and_in_the_card_of_a_folder(beir, tmp_path):
    known = {"names": ["law"], "license": "cc-by-4.0", "language": ["zh"]}
    assert find_origin(str(beir)) == find_origin({"qrels": "q", "corpus": str(beir)}) == known
    rows = tmp_path / "mined" / "train.jsonl"
    rows.parent.mkdir()
    rows.write_text("{}")
    assert find_origin(str(rows)) == {"names": ["mined"], "license": None, "language": []}
    write_origin(rows, str(beir), "uprank mine")
    write_origin(tmp_path / "mined", str(rows), "uprank split")
    assert find_origin(str(rows)) == find_origin(str(tmp_path / "mined")) == known
    assert (
        "Made by uprank mine: where train.jsonl comes from"
        in (rows.parent / "train.jsonl.origin.yaml").read_text()
    )


def test_of_several_the_licence_is_known_only_if_all_state_one(beir, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    both = [str(beir), str(other)]
    assert find_origin(both) == {"names": ["law", "other"], "license": None, "language": ["zh"]}
    (other / "README.md").write_text("---\nlicense: mit\nlanguage: [en, zh]\n---\n")
    assert find_origin(both) == {
        "names": ["law", "other"],
        "license": "cc-by-4.0 and mit",
        "language": ["zh", "en"],
    }
    assert find_origin("hf://some/data")["license"] is None
