"""Alarms come on when a run goes wrong, once, and never in a healthy one."""

import math

import pytest
from uprank.train.monitor.alarms import LONG, MIDDLE, SHORT, Health


def step(number, **changed):
    """A row of a healthy run: the loss falls from ln 8, the spread grows."""
    row = {
        "step": number,
        "loss": math.log(8) * math.exp(-number / 40),
        "loss_of_equal_scores": math.log(8),
        "score_spread": 0.02 + number / 100,
        "grad_norm": 1 + 0.5 * math.sin(number),
        "learning_rate": 1e-5,
    }
    return row | changed


def kinds(rows, **given):
    """What comes on, with the number of the row (from 1)."""
    health = Health(**given)
    return [(number, alarm.kind) for number, row in enumerate(rows, 1) for alarm in health.update(row)]


def dev(number, value):
    return {"step": number, "dev": {"nDCG@10": value, "MRR@10": 0.0}}


def test_a_healthy_run_is_silent():
    rows = [dev(0, 0.5), *(step(number) for number in range(1, 200)), dev(100, 0.6), dev(199, 0.59)]
    assert kinds(rows) == []


def test_the_first_steps_of_a_warm_up_are_no_alarm():
    assert kinds([step(1, learning_rate=0.0), step(2, learning_rate=0.0), step(3)]) == []


@pytest.mark.parametrize(("share", "on"), [(1.0, True), (0.985, True), (0.97, False)])
def test_a_loss_like_that_of_equal_scores(share, on):
    rows = [step(number, loss=share * math.log(8)) for number in range(1, 120)]
    assert kinds(rows) == ([(LONG, "stuck")] if on else [])


@pytest.mark.parametrize(
    ("losses", "on"),
    [
        ([1.4 * math.log(8)] * 25, [(MIDDLE, "diverged")]),
        ([1.05 * math.log(8)] * 60, [(MIDDLE, "diverged")]),  # and not also "stuck"
        ([(2 - row / 10) * math.log(8) for row in range(15)], []),  # a reranker that unlearns its confidence
        ([(2 - row / 30) * math.log(8) for row in range(29)], []),
        ([1.01 * math.log(8)] * 40, []),
    ],
)
def test_a_loss_that_stays_above_that_of_equal_scores(losses, on):
    assert kinds([step(number, loss=loss) for number, loss in enumerate(losses)]) == on


def test_ragged_groups_have_another_chance_loss():
    rows = [step(number, loss=math.log(2), loss_of_equal_scores=math.log(2)) for number in range(1, LONG + 1)]
    assert kinds(rows) == [(LONG, "stuck")]


def test_collapse_is_seen_against_the_spread_that_was():
    rows = [step(number) for number in range(1, 41)]
    rows += [step(number, score_spread=1e-3) for number in range(41, 60)]
    assert [kind for _, kind in kinds(rows)] == ["collapse"]
    assert kinds(rows)[0][0] == 40 + SHORT  # the mean of the last rows
    assert kinds([step(number, score_spread=5e-5) for number in range(1, 20)]) == [(SHORT, "collapse")]


def test_an_explosion_is_one_against_the_usual_norm():
    rows = [step(number, grad_norm=2.0) for number in range(1, 20)]
    assert kinds([*rows, step(20, grad_norm=39.0, loss=9.0)]) == []
    bad = [step(20, grad_norm=41.0, loss=9.0), step(21, grad_norm=50.0, loss=9.0), step(22)]
    assert kinds([*rows, *bad, step(23, grad_norm=45.0, loss=9.0)]) == [
        (20, "explosion"),
        (23, "explosion"),  # off in between
    ]


def test_growing_gradients_of_a_new_head_are_no_explosion_while_its_loss_falls():
    rows = [step(number, grad_norm=0.3 if number < 13 else 13.0) for number in range(1, 40)]  # as recorded
    assert kinds(rows) == []


def test_a_learning_rate_of_zero():
    assert kinds([step(number, learning_rate=0.0) for number in range(1, 9)]) == [(3, "no_rate")]


def test_worse_than_the_base_unless_its_head_was_random():
    rows = [dev(0, 0.5), dev(10, 0.49), dev(20, 0.48), dev(30, 0.51), dev(40, 0.4), dev(50, 0.4)]
    assert kinds(rows) == [(3, "below_base"), (6, "below_base")]  # one evaluation below says nothing
    assert kinds(rows, judge_base=False) == []


def test_overfit_needs_a_loss_near_zero_and_a_falling_dev_measure():
    learned = [step(number, loss=0.05) for number in range(1, 30)]
    falling = [dev(30, 0.7), dev(31, 0.68), dev(32, 0.66)]
    assert kinds([*learned, *falling]) == [(32, "overfit")]
    assert kinds([*[step(number) for number in range(1, 30)], *falling]) == []
    assert kinds([*learned, dev(30, 0.7), dev(31, 0.68), dev(32, 0.71)]) == []
    assert kinds([*learned, dev(30, 0.7), dev(31, 0.71), dev(32, 0.70)]) == []  # one fall says nothing


def test_every_alarm_says_what_was_seen_and_what_to_set():
    health = Health()
    rows = [
        dev(0, 0.9),
        *(step(number, loss=2.1, learning_rate=0.0) for number in range(1, LONG + 1)),
        *(step(number, loss=3.0) for number in range(LONG, LONG + MIDDLE)),
        dev(60, 0.1),
        dev(70, 0.1),
    ]
    texts = {alarm.kind: alarm.text for row in rows for alarm in health.update(row)}
    assert texts.keys() == {"no_rate", "stuck", "diverged", "below_base"}
    assert "2.1" in texts["stuck"]
    assert "times that of equal scores" in texts["diverged"]
    assert "2.079" in texts["stuck"]
    assert "0.1000 is below the base's 0.9000" in texts["below_base"]
    assert all("\n" not in text and "optim.learning_rate" in text for text in texts.values())


def test_a_continued_run_gives_no_alarm_twice():
    rows = [step(number, loss=math.log(8)) for number in range(1, 80)]
    once = Health()
    for row in rows[:60]:
        once.update(row)
    again = Health()
    for row in rows[:60]:
        again.update(row)
    for row in rows[60:]:
        assert once.update(row) == again.update(row) == []
