"""Cards of foreign models and data: read as far as they are plain, never expanded."""

import json
import os
import time

import pytest
from uprank.data.cards import read_card
from uprank.model.locate import base_card
from uprank.publish.evidence.licence import find_data_licence

UNKNOWN = {"license": None, "language": []}


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
    assert read_card(tmp_path / "README.md") == expected


def test_a_bomb_in_a_card_costs_nothing(tiny_bert, tmp_path):
    (tmp_path / "README.md").write_text(bomb("license"))
    (tmp_path / "train.jsonl").write_text("{}")
    for file in tiny_bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    start = time.perf_counter()
    assert len(json.dumps(base_card(str(tmp_path)))) < 100
    assert find_data_licence(None, [tmp_path / "train.jsonl"]) is None
    assert time.perf_counter() - start < 2


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "README.md")
    assert read_card(tmp_path / "README.md") == UNKNOWN
    assert read_card(tmp_path / "none.md") == UNKNOWN
