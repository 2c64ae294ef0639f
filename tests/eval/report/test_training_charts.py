"""Curves of a training run: intervals around the dev measures, and alarms at their steps."""

import re

import pytest
from uprank.eval.report.charts import training_alarms, training_curves
from uprank.eval.report.drawing import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH
from uprank.eval.report.page import render_report


def run(**of_step):
    """Rows of 30 steps with evaluations after 0, 10, 20 and 30; `step_7={...}` adds to the row of a step."""
    rows = [{"step": 0, "dev": {"nDCG@10": 0.5}, "intervals": {"nDCG@10": [0.4, 0.6]}}]
    for step in range(1, 31):
        row = {"step": step, "loss": 2.0 - step / 20, "loss_of_equal_scores": 2.079, "grad_norm": 1.0}
        row |= {"score_spread": step / 10, "learning_rate": 1e-5, "queries_per_second": 9.0}
        rows.append(row | of_step.get(f"step_{step}", {}))
        if step % 10 == 0:
            value = 0.5 + step / 100
            row = {"step": step, "dev": {"nDCG@10": value, "MRR@10": value / 2}}
            row |= {"intervals": {"nDCG@10": [value - 0.1, 0.95]}}
            rows.append(row | of_step.get(f"dev_{step}", {}))
    return rows


def by_title(rows):
    return {curve.title: curve for curve in training_curves(rows)}


def alarm(kind, text="what to try"):
    return {"alarms": [{"kind": kind, "text": text}]}


def test_the_band_runs_along_the_upper_ends_and_back_along_the_lower():
    dev = by_title(run())["Dev nDCG@10"]
    points = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", dev.band)]
    steps, ends = [0, 10, 20, 30, 30, 20, 10, 0], [0.6, 0.95, 0.95, 0.95, 0.7, 0.6, 0.5, 0.4]
    wanted = [(dev.x.at(step), dev.y.at(end)) for step, end in zip(steps, ends, strict=True)]
    assert points == [pytest.approx(pair) for pair in wanted]
    assert dev.band.endswith("Z")
    assert min(y for _, y in points) >= 0  # the axis has room for them
    assert max(y for _, y in points) <= HEIGHT - BOTTOM
    assert "95 % interval" in dev.caption


def test_rows_of_an_older_run_have_no_band():
    rows = [{key: value for key, value in row.items() if key != "intervals"} for row in run()]
    dev = by_title(rows)["Dev nDCG@10"]
    assert dev.band == ""
    assert "interval" not in dev.caption


def test_the_loss_is_shown_against_that_of_equal_scores():
    loss = by_title(run())["Loss"]
    assert loss.reference == pytest.approx(loss.y.at(2.079))
    assert "equal scores for all, 2.08" in loss.caption


@pytest.mark.parametrize(
    ("kind", "place", "titles"),
    [
        ("stuck", "step_7", {"Loss"}),
        ("explosion", "step_7", {"Gradient norm"}),
        ("collapse", "step_7", {"Spread of scores"}),
        ("no_rate", "step_7", {"Learning rate"}),
        ("below_base", "dev_10", {"Dev nDCG@10"}),
        ("overfit", "dev_10", {"Dev nDCG@10", "Loss"}),
        ("of a later version", "step_7", {"Loss"}),
    ],
)
def test_an_alarm_is_marked_on_what_it_is_about(kind, place, titles):
    rows = run(**{place: alarm(kind)})
    step = int(place.split("_")[1])
    marked = {curve.title: curve for curve in training_curves(rows) if curve.alarms}
    assert marked.keys() == titles
    for curve in marked.values():
        assert "A triangle is an alarm" in curve.caption
        assert curve.alarms == [(curve.x.at(step), f"step {step}: what to try")]
        assert LEFT <= curve.alarms[0][0] <= WIDTH - RIGHT
    (told,) = training_alarms(rows)
    assert (told.step, told.kind, told.text) == (step, kind, "what to try")


def test_an_alarm_of_an_older_run_is_its_kind():
    (told,) = training_alarms([{"step": 3, "alarms": ["stuck"]}])
    assert (told.step, told.kind, told.text) == (3, "stuck", "")


def test_skipped_steps_are_a_curve_where_there_were_any():
    assert "Skipped steps" not in by_title([row | {"skipped_steps": 0} for row in run()])
    assert "Skipped steps" in by_title([row | {"skipped_steps": row["step"] // 9} for row in run()])


def test_the_page_has_marks_and_a_list(html_report, read_html):
    rows = run(step_7=alarm("no_rate", "the learning rate is <0>"), dev_20=alarm("below_base", "is at -0.5"))
    text = render_report(html_report(), title="t", steps=rows)
    page = read_html(text).text
    assert text.count('<g class="alarm">') == 2
    assert text.count('class="band"') == 1
    assert "step 7: no rate" in page
    assert "the learning rate is <0>" in page
    assert "<0>" not in text
    assert "step 20: below base" in page
    assert "No alarm" not in page


def test_a_run_without_alarms_says_so(html_report, read_html):
    assert "No alarm was given" in read_html(render_report(html_report(), title="t", steps=run())).text
    assert "larm was given" not in read_html(render_report(html_report(), title="t")).text


def test_dev_curves_come_first_with_the_first_stage_and_the_best_trained_step(html_system):
    steps = [{"step": step, "dev": {"nDCG@10": value}} for step, value in ((0, 0.7), (2, 0.5), (4, 0.6))]
    steps += [{"step": step, "loss": 1.0, "learning_rate": 1e-5} for step in range(1, 5)]
    curves = training_curves(steps, html_system("bm25", 0.65, "first_stage"))
    assert [(curve.title, curve.main) for curve in curves] == [
        ("Dev nDCG@10", True), ("Loss", True), ("Learning rate", False),
    ]  # fmt: skip
    caption = (
        "best 0.600 at step 4; the dashed line is the untuned base, 0.700; the dotted line is bm25, 0.650"
    )
    assert caption in curves[0].caption
    assert curves[0].reference < curves[0].second  # higher values are further up
