import copy
import json
from dataclasses import dataclass, replace

import pytest
from uprank.configs.errors import UserError
from uprank.eval.report.schema import descriptions, schema_of
from uprank.eval.results import Audit, Calibration, DepthPoint, Estimate, Histogram, Report, System

jsonschema = pytest.importorskip("jsonschema")

SCHEMA = schema_of(Report, without=frozenset({"per_query"}))


def report():
    estimate = Estimate(0.5, 0.4, 0.6)
    system = System(
        "tuned", "model", "m", "sha256:1", {"nDCG@10": estimate}, 10, 2, 0, 1.5, "fp32", 64, 512, "uprank", 3,
        [Audit("ties", False, "none", {"queries": 0.0})],
        [DepthPoint(10, {"nDCG@10": estimate}, 10, 0.5)],
        Histogram([0.0, 1.0], [1], [2]),
        Calibration("all", [1], [0.5], [1.0], 0.5),
    )  # fmt: skip
    stage = System("bm25", "first_stage", "", "", {"nDCG@10": estimate})
    return Report(
        "2025", "0.1", "uprank eval", "d", "sha256:2", 3, [], ["q"], "bm25", 100, 0.9, ["nDCG@10"], "bm25",
        [stage, system], [], audits=[Audit("recall", True, "low")],
        per_query={"nDCG@10": {name: {"q": 0.5, "r": 0.5, "s": 0.5} for name in ("bm25", "tuned")}},
    )  # fmt: skip


def written(tmp_path):
    report().save(tmp_path)
    return json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def test_the_schema_is_one_and_a_report_follows_it(tmp_path):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(written(tmp_path), SCHEMA)


def test_what_is_written_is_read_back(tmp_path):
    written(tmp_path)
    assert Report.load(tmp_path) == report()


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("recall"),
        lambda r: r.update(queries="3"),
        lambda r: r.update(unknown=1),
        lambda r: r["systems"][0]["results"].update({"MAP": 0.5}),
        lambda r: r["systems"][1].pop("histogram"),
        lambda r: r["systems"][1]["histogram"].update(relevant=["1"]),
        lambda r: r["audits"][0].update(loud="yes"),
        lambda r: r["audits"][0]["values"].update(x=None),
    ],
)
def test_what_is_no_report_does_not(tmp_path, change):
    values = written(tmp_path)
    wrong = copy.deepcopy(values)
    change(wrong)
    assert wrong != values
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_every_field_has_a_meaning():
    bare = {"created", "version", "command", "measures", "systems", "comparisons"}
    bare |= {"mean", "low", "high", "system", "baseline", "measure", "difference", "p"}
    for kind in (SCHEMA, *SCHEMA["$defs"].values()):
        for name, value in kind["properties"].items():
            assert "description" in value or name in bare, name
    assert SCHEMA["properties"]["depth"]["description"] == "most candidates a query; 0 without candidates"


def test_a_description_of_several_lines_is_one_sentence():
    @dataclass
    class Thing:
        """A thing.

        Attributes:
            first: one line.
            second: two
                lines: with a colon.
        """

        first: int
        second: str | None

    assert descriptions(Thing) == {"first": "one line", "second": "two lines: with a colon"}
    assert schema_of(Thing)["properties"]["first"] == {"description": "one line", "type": "integer"}


def test_an_older_report_without_the_new_fields_is_read(tmp_path):
    values = written(tmp_path)
    for name in ("audits", "added_positives", "hardware", "seed"):
        del values[name]
    for system in values["systems"]:
        for name in ("audits", "depths", "histogram", "calibration", "backend", "cached_pairs"):
            del system[name]
    (tmp_path / "report.json").write_text(json.dumps(values))
    assert Report.load(tmp_path).system("tuned").histogram is None
    values["systems"][0]["depths"] = [{"depth": 10}]
    (tmp_path / "report.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="not an Uprank report"):
        Report.load(tmp_path)


def test_hostile_reports_are_written_as_text(tmp_path):
    replace(report(), data='"\\\n', command="ü").save(tmp_path)
    loaded = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(loaded, SCHEMA)
    assert loaded["data"] == '"\\\n'
