"""Damaged and foreign records are one sentence with the place of each wrong value."""

import copy
import json
import random

import pytest
from uprank.configs.errors import UserError
from uprank.eval.report.page import render_report
from uprank.eval.report.sentences import audit_sentences
from uprank.eval.report.tables import report_tables
from uprank.eval.results import Report
from uprank.eval.statistics import contradictions

VALUES = [None, "x", "", 3, -1, 0, 2.5, 1e308, True, [], ["x"], {}, {"x": 1}, "\u2028", 10**400]
TEXTS = ["", "null", "[]", "{", '{"a": NaN}', "[" * 100_000, '{"a": 1e999}', "\x00", '"\\ud800"']


@pytest.fixture
def folder(html_report, tmp_path):
    values = html_report(queries=4)
    values.per_query["nDCG@10"]["bm25"] = values.per_query["nDCG@10"]["base"]
    values.save(tmp_path)
    return tmp_path


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*path, key))


def changed(value, generator):
    """One value of a JSON text is replaced or removed."""
    made = copy.deepcopy(value)
    *above, last = generator.choice([path for path in places(value) if path])
    parent = made
    for key in above:
        parent = parent[key]
    if generator.random() < 0.2:
        del parent[last]
    else:
        parent[last] = generator.choice(VALUES)
    return made


def used(folder):
    """Whether a report was read; then everything that reads reports goes on."""
    try:
        report = Report.load(folder)
    except UserError as error:
        return "not an Uprank report" not in str(error)
    contradictions(report)
    report_tables(report)
    audit_sentences(report)
    render_report(report, title="t")
    return True


def test_a_changed_report_is_refused_or_of_use(folder):
    whole = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert used(folder)
    generator = random.Random(13)
    for _ in range(100):
        (folder / "report.json").write_text(json.dumps(changed(whole, generator)), encoding="utf-8")
        used(folder)


def test_changed_values_per_query_are_refused(folder):
    file = folder / "per_query.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    generator = random.Random(13)
    for _ in range(30):
        row = changed(json.loads(lines[1]), generator)
        file.write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]), encoding="utf-8")
        used(folder)


@pytest.mark.parametrize("name", ["report.json", "per_query.jsonl"])
@pytest.mark.parametrize("text", TEXTS)
def test_what_is_no_json_is_refused(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    assert used(folder) == (name == "per_query.jsonl" and not text)


def test_every_wrong_value_is_named_with_its_place(folder):
    values = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    values["seed"], values["recall"] = "0", None
    values["systems"][1]["results"]["nDCG@10"]["mean"] = [1]
    values["uprank"] = []
    (folder / "report.json").write_text(json.dumps(values))
    with pytest.raises(UserError) as caught:
        Report.load(folder)
    for words in (
        "seed must be a whole number, not '0'",
        "recall must be a finite number, not null",
        "systems[1].results.nDCG@10.mean must be a finite number, not [1]",
        "uprank is unknown",
    ):
        assert words in str(caught.value)
    (folder / "report.json").write_bytes(b"\xff{")
    with pytest.raises(UserError, match="not an Uprank report"):
        Report.load(folder)


def test_a_line_of_values_is_named(folder):
    html = (folder / "per_query.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(html[2])
    row["nDCG@10"]["base"] = None
    (folder / "per_query.jsonl").write_text("\n".join([*html[:2], json.dumps(row), *html[3:]]))
    with pytest.raises(UserError, match=r"line 3\.nDCG@10\.base must be a finite number, not null"):
        Report.load(folder)
    (folder / "per_query.jsonl").write_text("\n".join(html[:-1]))
    with pytest.raises(UserError, match="no nDCG@10 of base, or of other queries"):
        Report.load(folder)
