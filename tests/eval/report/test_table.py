import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from uprank.eval.report.tables import terminal_results
from uprank.eval.report.terminal import print_report
from uprank.eval.results import Comparison, Estimate, Report, System
from uprank.eval.words import format_p

MEASURES = ["nDCG@10", "MRR@10"]
WHERE = Path("runs/a-rather-long-name-of-a-run/eval/step-000400-on-the-held-out-queries/report.html")


def report(measures=MEASURES, **changes):
    systems = [
        System(name, kind, "", "", {m: Estimate(mean, mean - 0.031, mean + 0.03) for m in measures})
        for name, kind, mean in (
            ("bm25", "first_stage", 0.645),
            ("base", "model", 0.67),
            ("tuned", "model", 0.712),
        )
    ]
    comparisons = [
        Comparison(name, "base", m, d, d - 0.024, d + 0.024, p, wins, 30, 90 - wins)
        for name, d, p, wins in (("bm25", -0.025, 0.0612, 40), ("tuned", 0.042, 0.0002, 62))
        for m in measures
    ]
    values = Report(
        "2025-01-20T14:03:11+00:00", "0.1.0", "uprank eval", "test", "sha256:00", 120,
        [f"q{i}" for i in range(7)], ["q44"], "bm25", 100, 0.912, measures, "base", systems, comparisons,
    )  # fmt: skip
    return replace(values, **changes)


def printed(values, width, *, terminal=False):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, legacy_windows=False)
    print_report(values, console, WHERE)
    return stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_stands_unbroken(width, terminal):
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(report(), width, terminal=terminal))
    for figure in (
        "0.645 [0.614, 0.675]", "-0.025 [-0.049, -0.001]", "p = 0.061", "40/30/50",
        "0.712 [0.681, 0.742]", "+0.042 [+0.018, +0.066]", "p < 0.001", "62/30/28",
    ):  # fmt: skip
        assert figure in text
    # In the row once a measure, and in the sentence below.
    assert text.count("[+0.018, +0.066]") == 3
    table = text.split("Differences are")[0]
    assert max(map(len, table.splitlines())) <= width


def test_a_pipe_gets_plain_text_and_whole_sentences():
    lines = printed(report(), 80).splitlines()
    assert not any("\x1b" in line or "\u00a0" in line for line in lines)
    verdict = (
        r"tuned is better than base: nDCG@10 0\.712 against 0\.670, difference .* p = 0\.0002, 120 queries\.$"
    )
    assert [line for line in lines if re.match(verdict, line)]
    assert lines[-1] == f"Report: {WHERE}"


def test_a_terminal_gets_wrapped_lines_and_the_path_in_one_piece():
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed(report(), 80, terminal=True)).splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"Report: {WHERE}"


def test_limits_are_named():
    systems = report().systems
    tuned = replace(systems[-1], pairs=12_000, truncated_pairs=384, tied_queries=90)
    text = printed(report(systems=[*systems[:-1], tuned]), 120)
    assert "7 queries without candidates, counted as 0: q0, q1, q2, q3, q4 and 2 more." in text
    assert "1 query without a relevant document, counted as 0: q44." in text
    assert "recall 0.912" in text
    assert "tuned: 3.2 % of 12,000 pairs cut" in text
    assert "tuned: equal scores within the top 10 in 90 queries (75.0 %); it hardly tells" in text


def test_many_measures_are_split_over_tables_that_fit():
    measures = ["nDCG@10", "MRR@10", "MAP", "R@100", "P@10"]
    text = printed(report(measures=measures), 80)
    assert all(text.count(measure) >= 1 for measure in measures)
    assert text.count("0.712 [0.681, 0.742]") == len(measures)
    assert text.count("won/tied/lost") == 1
    assert max(map(len, text.split("Differences are")[0].splitlines())) <= 80


def test_long_names_fold_and_numbers_do_not():
    long = "bge-reranker-base-tuned-on-our-own-support-tickets-of-2024"
    systems = report().systems
    text = printed(report(systems=[*systems[:-1], replace(systems[-1], name=long)]), 80)
    assert "0.712 [0.681, 0.742]" in text
    assert long[:12] in text


def test_names_are_text_and_not_markup():
    systems = [replace(report().systems[0], name="[red]x[/red]")]
    assert "[red]x[/red]" in printed(report(systems=systems, comparisons=[], baseline="[red]x[/red]"), 80)


def test_one_system_has_no_difference():
    text = printed(report(systems=report().systems[:1], comparisons=[], baseline="bm25"), 80)
    assert "0.645 [0.614, 0.675]" in text
    assert "baseline" not in text
    assert "won/tied/lost" not in text


def test_one_row_a_system():
    assert terminal_results(report(), MEASURES).rich().row_count == 3


@pytest.mark.parametrize(("p", "text"), [(1.0, "p = 1.000"), (0.001, "p = 0.001"), (0.00099, "p < 0.001")])
def test_p_is_never_written_as_zero(p, text):
    assert format_p(p) == text


def test_the_terminal_ends_with_verdict_three_levels_and_where_to_look():
    lines = printed(report(), 80).splitlines()
    assert [line.split(":")[0] for line in lines[-6:]] == [
        "bm25 is not distinguishable from base", "tuned is better than base", "Stops you", "Know this",
        "Fine", "Report",
    ]  # fmt: skip
    assert lines[-4:-1] == ["Stops you: nothing.", "Know this: missing, unanswerable.", "Fine: 1 check."]
