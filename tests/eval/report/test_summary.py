"""Several collections: the figures, the terminal, and the page beside the folders."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from uprank.eval.report.page import render_summary, system_forests, write_summary_page
from uprank.eval.report.summary import make_summary
from uprank.eval.report.tables import summary_tables
from uprank.eval.report.terminal import print_summary
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
def plain():
    own = report(1, {"bm25": -0.1, "base": 0.0, "tuned": 0.2})
    return {"own": own, "web": report(2, {"base": 0.0, "tuned": -0.2}, 25)}


@pytest.fixture(scope="module")
def reports(plain):
    """A hostile name, added passages, a quiet and a loud audit."""
    quiet, loud = Audit("recall", False, "all is well"), Audit("leak", True, "3 queries in data.train")
    return {"own": plain["own"], "web & more": replace(plain["web"], added_positives=2, audits=[quiet, loud])}


def printed(found, width):
    stream = io.StringIO()
    console = Console(file=stream, width=width, legacy_windows=False)
    print_summary(make_summary(found, seed=0), found, console, Path("out"))
    return stream.getvalue()


def test_only_systems_of_every_collection_have_a_macro_average(plain):
    summary = make_summary(plain, seed=0)
    assert summary.systems == ["bm25", "base", "tuned"]
    assert list(summary.macro) == ["base", "tuned"]
    assert [(c.system, c.measure) for c in summary.comparisons] == [("tuned", m) for m in MEASURES]
    own, web = (found.system("tuned").results["MAP"].mean for found in plain.values())
    assert summary.macro["tuned"]["MAP"].mean == pytest.approx((own + web) / 2)  # not weighted by queries


def test_different_baselines_have_no_macro_comparison(plain):
    found = plain | {"web": report(2, {"base": 0.0, "tuned": -0.2}, baseline="tuned")}
    summary = make_summary(found, seed=0)
    assert (summary.baseline, summary.comparisons) == ("", [])
    assert "the baseline of each collection" in printed(found, 100)


@pytest.mark.parametrize("width", [60, 100])
def test_gain_and_loss_stand_below_each_other_and_no_figure_is_broken(plain, width):
    text = printed(plain, width)
    table = text.split("Differences are")[0]
    assert max(map(len, table.splitlines())) <= width
    for found in plain.values():
        for c in found.comparisons:
            assert f"{c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}]" in table
    assert "web (guard)" in table
    assert text.index("own: tuned is better than base") < text.index("web: tuned is worse than base")


def test_what_limits_a_collection_is_said_with_its_name(plain):
    found = plain | {"web": replace(plain["web"], missing_queries=["q3"], added_positives=2)}
    assert "web: 1 query without candidates, counted as 0: q3." in printed(found, 100)
    assert "own: 1 query" not in printed(found, 100)
    for table in summary_tables(make_summary(found, seed=0)):
        assert "Note, web: 2 relevant passages" in table.caption


def page(reports):
    return render_summary(make_summary(reports, seed=0), reports)


def test_the_gain_stands_above_the_loss_of_the_guard_and_the_macro_average(read_html, reports):
    summary = make_summary(reports, seed=0)
    tuned, bm25 = system_forests(summary, reports)
    assert (tuned.system, bm25.system) == ("tuned", "bm25")  # models before the first stage
    assert [row.name for row in tuned.chart.marks] == ["own", "web & more (guard)", "macro average"]
    assert [row.side for row in tuned.chart.marks][:2] == ["better", "worse"]
    assert tuned.chart.marks[1].x < tuned.chart.x.at(0) < tuned.chart.marks[0].x
    assert [row.name for row in bm25.chart.marks] == ["own"]  # without a macro average: not everywhere
    text = read_html(page(reports)).text
    assert text.index("tuned is better than base") < text.index("tuned is worse than base")


def test_every_figure_of_every_collection_and_its_page_are_there(read_html, reports):
    found = read_html(page(reports))
    for values in reports.values():
        for c in values.comparisons:
            assert f"{c.difference:+.3f}".replace("-", "−") in found.text
        for system in values.systems:
            for e in system.results.values():
                assert f"{e.mean:.3f} [{e.low:.3f}, {e.high:.3f}]" in found.text
    for row in make_summary(reports, seed=0).macro.values():
        for e in row.values():
            assert f"{e.mean:.3f} [{e.low:.3f}, {e.high:.3f}]" in found.text
    links = {v for tag, name, v in found.attributes if (tag, name) == ("a", "href")}
    assert {"own/report.html", "web%20%26%20more/report.html"} <= links


def test_limits_are_said_with_the_name_and_added_passages_under_every_table(read_html, reports):
    text = read_html(page(reports)).text
    assert "web & more: leak" in text
    assert "all is well" not in text
    assert text.count("Note, web & more: 2 relevant passages") == 1 + len(MEASURES)


def test_nothing_is_loaded_and_hostile_texts_stay_texts(read_html, reports):
    text = page(reports)
    found = read_html(text)
    assert found.tags.count("script") == 1
    assert HOSTILE in found.text
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text


def test_different_baselines_have_no_macro_row(read_html, reports):
    mixed = {**reports, "web & more": report(2, {"base": 0.0, "tuned": -0.2}, 25, baseline="tuned")}
    summary = make_summary(mixed, seed=0)
    names = [row.name for found in system_forests(summary, mixed) for row in found.chart.marks]
    assert "macro average" not in names
    assert "the baseline of each collection" in read_html(page(mixed)).text


def test_systems_that_share_nothing_are_a_page(read_html, reports):
    apart = {"own": report(1, {"a": 0.0}, baseline="a"), "web": report(2, {"b": 0.0}, baseline="b")}
    text = read_html(page(apart)).text
    assert "No system was measured on every collection." in text


def test_the_page_is_written_beside_the_folders(reports, tmp_path):
    file = write_summary_page(make_summary(reports, seed=0), reports, tmp_path)
    assert file == tmp_path / "report.html"
    assert file.read_text(encoding="utf-8") == page(reports)
