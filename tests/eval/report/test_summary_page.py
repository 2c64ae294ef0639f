import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from uprank.eval.report.page import render_summary, system_forests, write_summary_page
from uprank.eval.report.summary import make_summary
from uprank.eval.results import Audit, Report, System
from uprank.eval.statistics.compare import compare_all, estimate

MEASURES = ["nDCG@10", "MAP"]
HOSTILE = "<script>alert('x')</script>\"&{{ 7 * 7 }}"


def report(seed, gains, queries=40, baseline="base"):
    random = np.random.default_rng(seed)
    values = {
        m: {name: np.clip(random.normal(0.5 + gain, 0.1, queries), 0, 1) for name, gain in gains.items()}
        for m in MEASURES
    }
    systems = [
        System(name, "first_stage" if name == "bm25" else "model", "", "" if name == "bm25" else "sha256:w",
               {m: estimate(values[m][name], 0) for m in MEASURES})
        for name in gains
    ]  # fmt: skip
    comparisons = [c for m in MEASURES for c in compare_all(values[m], baseline=baseline, measure=m, seed=0)]
    per_query = {
        m: {name: {f"q{i}": float(v) for i, v in enumerate(row)} for name, row in rows.items()}
        for m, rows in values.items()
    }
    return Report(
        "2025", "0.1", f"uprank eval {HOSTILE}", "d", "sha256:0", queries, [], [], "bm25", 100, 0.9, MEASURES,
        baseline, systems, comparisons, hardware="a processor", per_query=per_query,
    )  # fmt: skip


@pytest.fixture(scope="module")
def reports():
    gains = {"base": 0.0, "tuned": 0.2}
    own = report(1, {"bm25": -0.1, **gains})
    quiet, loud = Audit("recall", False, "all is well"), Audit("leak", True, "3 queries in data.train")
    web = replace(report(2, {"base": 0.0, "tuned": -0.2}, 25), added_positives=2, audits=[quiet, loud])
    return {"own": own, "web & more": web}


class Text(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]

    def handle_data(self, data):
        self.text += data.replace("\u00a0", " ")


def page(reports):
    return render_summary(make_summary(reports, seed=0), reports)


def test_the_gain_stands_above_the_loss_of_the_guard_and_the_macro_average(reports):
    summary = make_summary(reports, seed=0)
    tuned, bm25 = system_forests(summary, reports)
    assert (tuned.system, bm25.system) == ("tuned", "bm25")  # models before the first stage
    assert [row.name for row in tuned.chart.rows] == ["own", "web & more (guard)", "macro average"]
    assert [row.side for row in tuned.chart.rows][:2] == ["better", "worse"]
    assert tuned.chart.rows[1].x < tuned.chart.x.at(0) < tuned.chart.rows[0].x
    assert [row.name for row in bm25.chart.rows] == ["own"]  # without a macro average: not everywhere
    text = Text(page(reports)).text
    assert text.index("tuned is better than base") < text.index("tuned is worse than base")


def test_every_figure_of_every_collection_and_its_page_are_there(reports):
    found = Text(page(reports))
    for values in reports.values():
        for c in values.comparisons:
            assert f"{c.difference:+.3f}".replace("-", "−") in found.text
        for system in values.systems:
            for e in system.results.values():
                assert f"{e.mean:.3f} [{e.low:.3f}, {e.high:.3f}]" in found.text
    for row in make_summary(reports, seed=0).macro.values():
        for e in row.values():
            assert f"{e.mean:.3f} [{e.low:.3f}, {e.high:.3f}]" in found.text
    assert {"own/report.html", "web%20%26%20more/report.html"} <= set(found.links)


def test_what_limits_a_collection_is_said_with_its_name_and_added_passages_under_every_table(reports):
    text = Text(page(reports)).text
    assert "web & more: leak" in text
    assert "all is well" not in text
    assert text.count("Note, web & more: 2 relevant passages") == 1 + len(MEASURES)


def test_nothing_is_loaded_and_hostile_texts_stay_texts(reports):
    text = page(reports)
    found = Text(text)
    assert found.tags.count("script") == 1
    assert HOSTILE in found.text
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text


def test_different_baselines_have_no_macro_row(reports):
    mixed = {**reports, "web & more": report(2, {"base": 0.0, "tuned": -0.2}, 25, baseline="tuned")}
    summary = make_summary(mixed, seed=0)
    names = [row.name for found in system_forests(summary, mixed) for row in found.chart.rows]
    assert "macro average" not in names
    assert "the baseline of each collection" in Text(page(mixed)).text


def test_systems_that_share_nothing_are_a_page(reports):
    apart = {"own": report(1, {"a": 0.0}, baseline="a"), "web": report(2, {"b": 0.0}, baseline="b")}
    text = Text(page(apart)).text
    assert "No system was measured on every collection." in text


def test_the_page_is_written_beside_the_folders(reports, tmp_path):
    file = write_summary_page(make_summary(reports, seed=0), reports, tmp_path)
    assert file == tmp_path / "report.html"
    assert file.read_text(encoding="utf-8") == page(reports)
