import re
from pathlib import Path

import pytest
from uprank.eval.report import charts
from uprank.eval.report.charts import (
    cost_chart,
    depth_chart,
    difference_text,
    forest,
    gain_bars,
    histogram_chart,
    reliability_chart,
    scatter,
)
from uprank.eval.report.drawing import Axis, signed
from uprank.eval.results import Calibration, Comparison, DepthPoint, Estimate, Histogram, System


def comparison(difference, low, high, p=0.001):
    return Comparison("tuned", "base", "nDCG@10", difference, low, high, p, 5, 3, 2)


def system(name, depths=(), kind="model"):
    points = [DepthPoint(d, {"nDCG@10": Estimate(v, v - 0.1, v + 0.1)}, 10 * d, s) for d, v, s in depths]
    return System(name, kind, "", "", {"nDCG@10": Estimate(0.3, 0.2, 0.4)}, depths=points)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (-0.5, 0.5, ["−0.4", "−0.2", "0", "0.2", "0.4"]),
        (0, 5000, ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]),
        (0, 2e-5, ["0", "5e−6", "1e−5", "1.5e−5", "2e−5"]),
    ],
)
def test_ticks_are_round_and_where_they_say(low, high, labels):
    axis = Axis(low, high, 100, 200)
    assert [label for _, label in axis.ticks] == labels
    value = float(labels[-1].replace(",", "").replace("−", "-"))
    assert axis.ticks[-1][0] == pytest.approx(100 + 100 * (value - low) / (high - low), abs=0.01)


def test_queries_with_the_same_values_share_a_larger_dot():
    chart = scatter({"a": (0.5, 0.7), "b": (0.501, 0.699), "c": (0.2, 0.1), "d": (1.0, 1.0)})
    shared, *others = chart.marks
    assert shared.text == "0.50 to 0.70: a, b"
    assert all(shared.extent > other.extent for other in others)
    assert [mark.side for mark in chart.marks] == ["better", "worse", "same"]
    assert shared.y < chart.y.at(0.5) < others[0].y  # better is above the diagonal


def test_many_queries_fall_into_coarser_cells_and_none_is_lost():
    values = {f"q{i}": (i % 97 / 96, i % 89 / 88) for i in range(8000)}
    chart = scatter({**values, "down": (0.999, 0.98)})
    assert len(chart.marks) <= 1500
    assert chart.grid == 0.05
    named = [mark.text.split(": ")[1] for mark in chart.marks]
    counts = [6 + int(text.split()[-2]) if text.endswith(" more") else 1 + text.count(",") for text in named]
    assert sum(counts) == 8001


def test_a_cell_takes_the_side_of_its_members():
    (mark,) = scatter({"a": (0.504, 0.5), "b": (0.503, 0.5)}).marks
    assert (mark.text, mark.side) == ("0.50 to 0.50: a, b", "worse")


def test_bars_are_as_long_as_the_differences_and_are_joined_where_there_are_many():
    chart = gain_bars({"a": 0.5, "b": -0.25, "c": 0.0})
    assert [mark.text for mark in chart.marks] == ["+0.500: a", "+0.000: c", "−0.250: b"]
    assert chart.marks[0].extent == pytest.approx(2 * chart.marks[2].extent, abs=0.02)
    assert chart.marks[2].y == pytest.approx(chart.y.at(0))
    many = gain_bars({f"q{i}": (i - 500) / 500 for i in range(1001)})
    assert many.binned == 3
    assert len(many.marks) == 334
    assert many.marks[0].text == "+0.998: 3 queries from q1000"


def test_a_forest_puts_zero_in_the_middle_and_colours_what_is_decided():
    rows = [("own", comparison(0.1, 0.05, 0.15)), ("far", comparison(-0.02, -0.05, 0.01, p=0.3))]
    chart = forest(rows)
    gain, undecided = chart.marks
    middle = chart.x.at(0)
    assert middle < gain.ends[0] < gain.x < gain.ends[1]
    assert undecided.ends[0] < undecided.x < middle < undecided.ends[1]
    assert (gain.side, undecided.side) == ("better", "same")
    assert (gain.name, undecided.text) == ("own", "−0.020 [−0.050, +0.010]")
    assert gain.ends[1] < 440
    assert undecided.y - gain.y > 30


def test_what_rounds_to_zero_has_no_sign():
    assert [signed(value) for value in (0.0004, -0.0004, 0.0006, -0.0006)] == [
        "0.000", "0.000", "+0.001", "−0.001",
    ]  # fmt: skip
    assert difference_text(comparison(0.0, -0.01, 0.01)) == "0.000 [−0.010, +0.010]"


def test_depths_rise_to_the_right_and_the_first_stage_is_a_line():
    systems = [
        system("bm25", kind="first_stage"),
        system("tuned", [(10, 0.5, 1.0), (20, 0.6, 2.0), (100, 0.7, 10.0)]),
        system("other", [(10, 0.4, 0.0), (20, 0.4, 0.0), (100, 0.4, 0.0)]),
    ]
    chart = depth_chart(systems, "nDCG@10")
    assert [label for _, label in chart.ticks] == ["10", "20", "100"]
    tuned, other = chart.lines
    xs, ys = [mark.x for mark in tuned.points], [mark.y for mark in tuned.points]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)
    assert tuned.points[0].ends[1] < ys[0] < tuned.points[0].ends[0]
    assert tuned.style != other.style
    assert tuned.points[0].x != other.points[0].x
    assert chart.title == "bm25"
    assert chart.reference > max(ys)
    cost = cost_chart(systems, "nDCG@10", 100)  # 10 to 100 ms a query
    assert [line.name for line in cost.lines] == ["tuned"]  # nothing of the other was timed
    assert [label for _, label in cost.ticks] == ["10", "20", "50", "100"]
    assert cost.ticks[0][0] == pytest.approx(cost.lines[0].points[0].x, abs=0.02)


def test_labels_of_depths_do_not_touch():
    chart = depth_chart([system("tuned", [(d, 0.5, 1.0) for d in (10, 20, 50, 51)])], "nDCG@10")
    assert [label for _, label in chart.ticks] == ["10", "20", "51"]


def test_there_is_no_depth_chart_without_two_depths():
    assert depth_chart([system("tuned", [(10, 0.5, 1.0)]), system("base")], "nDCG@10") is None
    assert depth_chart([system("tuned", [(10, 0.5, 1.0), (20, 0.5, 1.0)])], "MAP") is None
    assert cost_chart([system("base")], "nDCG@10", 5) is None


def test_a_histogram_has_relevant_above_and_others_below_in_their_own_percent():
    chart = histogram_chart(Histogram([-2.0, 0.0, 2.0], [1, 3], [900, 100]))
    zero = chart.y.at(0)
    above = [mark for mark in chart.marks if mark.side == "better"]
    below = [mark for mark in chart.marks if mark.side == "same"]
    assert [mark.extent for mark in above] == pytest.approx(
        [zero - chart.y.at(25), zero - chart.y.at(75)], abs=0.02
    )
    assert [mark.y for mark in below] == [zero, zero]
    assert below[0].extent == pytest.approx(9 * below[1].extent, rel=0.01)
    assert below[0].text == "score −2.00 to 0.00: 900 other (90.0 % of them)"
    assert above[0].x < above[1].x


def test_a_histogram_without_relevant_candidates():
    assert len(histogram_chart(Histogram([0.0, 1.0], [0], [5])).marks) == 1


def test_reliability_on_the_diagonal_is_drawn_on_it_and_empty_bins_are_not():
    chart = reliability_chart(Calibration("all", [10, 0, 1000], [0.1, 0, 0.9], [0.1, 0, 0.9], 0.0))
    low, high = chart.marks
    ends = (chart.x.at(0), chart.y.at(0)), (chart.x.at(1), chart.y.at(1))
    slope = (ends[1][1] - ends[0][1]) / (ends[1][0] - ends[0][0])
    assert slope == pytest.approx(-1)
    for mark in chart.marks:
        assert mark.y == pytest.approx(ends[0][1] + slope * (mark.x - ends[0][0]), abs=0.02)
    assert low.extent < high.extent
    assert len(re.findall(r"[ML]", chart.curve)) == 2
    assert reliability_chart(Calibration("all", [0], [0.0], [0.0], 0.0)).curve == ""


def test_there_are_as_many_line_styles_as_the_page_has():
    css = (Path(charts.__file__).parent / "templates" / "page.css.j2").read_text(encoding="utf-8")
    for style in range(charts.STYLES):
        assert f".line-{style} {{" in css
        assert f".point-{style} {{" in css
