import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from uprank.eval.report.summary import make_summary
from uprank.eval.report.tables import summary_tables
from uprank.eval.report.terminal import print_summary
from uprank.eval.results import Report, System
from uprank.eval.statistics.compare import compare_all, estimate

MEASURES = ["nDCG@10", "MAP"]


def report(seed, gains, queries=40, baseline="base"):
    random = np.random.default_rng(seed)
    values = {
        measure: {
            name: np.clip(random.normal(0.5 + gain, 0.1, queries), 0, 1) for name, gain in gains.items()
        }
        for measure in MEASURES
    }
    systems = [
        System(name, "model", "", "", {m: estimate(values[m][name], 0) for m in MEASURES}) for name in gains
    ]
    comparisons = [c for m in MEASURES for c in compare_all(values[m], baseline=baseline, measure=m, seed=0)]
    per_query = {
        m: {name: {f"q{i}": float(v) for i, v in enumerate(row)} for name, row in rows.items()}
        for m, rows in values.items()
    }
    return Report("2025", "0.1", "uprank eval", "d", "sha256:0", queries, [], [], "bm25", 100, 0.9, MEASURES,
                  baseline, systems, comparisons, per_query=per_query)  # fmt: skip


def reports():
    gains = {"base": 0.0, "tuned": 0.2}
    return {"own": report(1, {"bm25": -0.1, **gains}), "web": report(2, {"base": 0.0, "tuned": -0.2}, 25)}


def printed(found, width):
    stream = io.StringIO()
    console = Console(file=stream, width=width, legacy_windows=False)
    print_summary(make_summary(found, seed=0), found, console, Path("out"))
    return stream.getvalue()


def test_only_systems_of_every_collection_have_a_macro_average():
    summary = make_summary(reports(), seed=0)
    assert summary.systems == ["bm25", "base", "tuned"]
    assert list(summary.macro) == ["base", "tuned"]
    assert [(c.system, c.measure) for c in summary.comparisons] == [("tuned", m) for m in MEASURES]
    own, web = (found.system("tuned").results["MAP"].mean for found in reports().values())
    assert summary.macro["tuned"]["MAP"].mean == pytest.approx((own + web) / 2)  # not weighted by queries


def test_different_baselines_have_no_macro_comparison():
    found = reports()
    found["web"] = report(2, {"base": 0.0, "tuned": -0.2}, baseline="tuned")
    summary = make_summary(found, seed=0)
    assert (summary.baseline, summary.comparisons) == ("", [])
    assert "the baseline of each collection" in printed(found, 100)


@pytest.mark.parametrize("width", [60, 100])
def test_gain_and_loss_stand_below_each_other_and_no_figure_is_broken(width):
    text = printed(reports(), width)
    table = text.split("Differences are")[0]
    assert max(map(len, table.splitlines())) <= width
    for found in reports().values():
        for c in found.comparisons:
            assert f"{c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}]" in table
    assert "web (guard)" in table
    assert text.index("own: tuned is better than base") < text.index("web: tuned is worse than base")


def test_what_limits_a_collection_is_said_with_its_name():
    found = reports()
    found["web"] = replace(found["web"], missing_queries=["q3"], added_positives=2)
    assert "web: 1 query without candidates, counted as 0: q3." in printed(found, 100)
    assert "own: 1 query" not in printed(found, 100)
    for table in summary_tables(make_summary(found, seed=0)):
        assert "Note, web: 2 relevant passages" in table.caption
