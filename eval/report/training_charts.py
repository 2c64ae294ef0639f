"""Curves of a training run over its steps, as geometry for the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from .charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis

MOST_POINTS = 600
# On which curves an alarm is marked, by its kind: `train/health.py` says them.
MARKED = {
    "Loss": ("stuck", "overfit"),
    "Spread of scores": ("collapse",),
    "Gradient norm": ("explosion",),
    "Learning rate": ("no_rate",),
    "Dev": ("below_base", "overfit"),
}


@dataclass(frozen=True)
class Told:
    """An alarm of a training run: when it came, its kind and its words."""

    step: int
    kind: str
    text: str


@dataclass(frozen=True)
class Curve:
    """A value over training steps.

    Attributes:
        reference: where a line of comparison stands (the base).
        dots: its points, where they are few.
        band: outline of the intervals around the points.
        alarms: where on the x axis an alarm came, and its words.
    """

    title: str
    caption: str
    x: Axis
    y: Axis
    line: str
    smooth: str = ""
    reference: float | None = None
    dots: tuple[tuple[float, float], ...] = ()
    band: str = ""
    alarms: tuple[tuple[float, str], ...] = ()


def training_curves(steps: list[dict[str, Any]]) -> list[Curve]:
    """Loss, dev measures with the base (the dev row of step 0) as a line, and how the run went."""
    seen = {measure: None for row in steps for measure in row.get("dev") or {}}
    skipped = _column(steps, "skipped_steps") if any(row.get("skipped_steps") for row in steps) else []
    curves = [
        _loss_curve(steps),
        *(_dev_curve(steps, measure) for measure in seen),
        curve("Learning rate", "The schedule as it was applied.",
                    _column(steps, "learning_rate"), from_zero=True),
        curve("Gradient norm", "Before clipping; a sudden rise is where training shook.",
                    _column(steps, "grad_norm"), smooth=True, from_zero=True),
        curve("Spread of scores", "Standard deviation of the scores of a group; near 0 nothing is ranked.",
                    _column(steps, "score_spread"), smooth=True, from_zero=True),
        curve("Queries per second", "Speed of training; a fall is a slower machine or longer texts.",
                    _column(steps, "queries_per_second"), smooth=True, from_zero=True),
        curve("Skipped steps", "Steps so far whose gradients were beyond fp16.", skipped, from_zero=True),
    ]  # fmt: skip
    leading, alarms = next(iter(seen), ""), training_alarms(steps)
    return [_marked(curve, alarms, leading) for curve in curves if curve]


def training_alarms(steps: list[dict[str, Any]]) -> list[Told]:
    """What a run gave alarm about, in the order in which it did."""
    return [
        # Older runs kept the kind alone.
        Told(row["step"], **alarm) if isinstance(alarm, dict) else Told(row["step"], alarm, "")
        for row in steps
        for alarm in row.get("alarms") or []
    ]


def _marked(curve: Curve, alarms: list[Told], leading: str) -> Curve:
    """The curve with the alarms that are about it; of the dev measures, they are about the leading one."""
    kinds = MARKED.get("Dev" if curve.title == f"Dev {leading}" else curve.title, ())
    if curve.title == "Loss":  # also of kinds that no curve here is about
        known = {kind for some in MARKED.values() for kind in some}
        kinds += tuple({alarm.kind for alarm in alarms} - known)
    marks = tuple(
        (min(max(curve.x.at(alarm.step), LEFT), WIDTH - RIGHT), f"step {alarm.step:,}: {alarm.text}")
        for alarm in alarms
        if alarm.kind in kinds
    )
    return replace(curve, alarms=marks, caption=curve.caption + (" A triangle is an alarm." if marks else ""))


def _loss_curve(steps: list[dict[str, Any]]) -> Curve | None:
    points, equal = _column(steps, "loss"), [value for _, value in _column(steps, "loss_of_equal_scores")]
    caption = "Mean loss of each logged step, pale; its moving mean, strong"
    chance = fmean(equal) if equal and all(map(math.isfinite, equal)) else None
    caption += "." if chance is None else f"; the dashed line is that of equal scores for all, {chance:.3g}."
    return curve("Loss", caption, points, smooth=True, from_zero=True, reference=chance)


def _dev_curve(steps: list[dict[str, Any]], measure: str) -> Curve | None:
    dev = [row for row in steps if measure in (row.get("dev") or {})]
    rows = [(row["step"], row["dev"][measure]) for row in dev]
    base = next((value for step, value in rows if step == 0), None)
    best_step, best = max(rows, key=lambda row: row[1])
    caption = f"On the dev queries; best {best:.3f} at step {best_step:,}"
    caption += f"; the dashed line is the untuned base, {base:.3f}" if base is not None else ""
    given = [(row["step"], *row["intervals"][measure]) for row in dev if measure in row.get("intervals", {})]
    caption += "; the band is the 95 % interval of each mean" if given else ""
    return curve(f"Dev {measure}", f"{caption}.", rows, dots=True, reference=base, intervals=given)


def _column(steps: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in steps if row.get(name) is not None]


def curve(
    title: str,
    caption: str,
    points: Iterable[tuple[float, float]],
    *,
    smooth: bool = False,
    dots: bool = False,
    reference: float | None = None,
    intervals: Sequence[tuple[float, float, float]] = (),
    from_zero: bool = False,
) -> Curve | None:
    """A curve over steps; None when fewer than two finite points exist.

    Args:
        title: of the curve.
        caption: what it shows.
        points: step and value.
        smooth: draw the moving mean, too.
        dots: draw the points.
        reference: a value to compare with.
        intervals: step, lower and upper end.
        from_zero: let the axis begin at 0.
    """
    finite = [(s, v) for s, v in points if math.isfinite(v)]
    if len(finite) < 2:
        return None
    thinned = _thin(finite)
    values = [v for _, v in thinned] + ([reference] if reference is not None else [])
    values += [end for _, *ends in intervals for end in ends]
    low, high = (min([*values, 0.0]) if from_zero else min(values)), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    x = Axis(finite[0][0], finite[-1][0], LEFT, WIDTH - RIGHT)
    y = Axis(low if from_zero and low == 0 else low - margin, high + margin, HEIGHT - BOTTOM, TOP)
    return Curve(
        title,
        caption,
        x,
        y,
        _path(thinned, x, y),
        _path(_moving_mean(thinned), x, y) if smooth and len(finite) >= 10 else "",
        None if reference is None else y.at(reference),
        tuple((x.at(s), y.at(v)) for s, v in thinned) if dots else (),
        _band(intervals, x, y),
    )


def _band(intervals: Sequence[tuple[float, float, float]], x: Axis, y: Axis) -> str:
    if len(intervals) < 2:
        return ""
    upper = _path([(step, high) for step, _, high in intervals], x, y)
    back = _path([(step, low) for step, low, _ in reversed(intervals)], x, y)
    return f"{upper} L{back[1:]} Z"


def _path(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return "M" + " L".join(f"{x.at(step):g} {y.at(value):g}" for step, value in points)


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(len(points) / MOST_POINTS)
    bins = [points[i : i + size] for i in range(0, len(points), size)]
    return [(fmean(step for step, _ in b), fmean(value for _, value in b)) for b in bins]


def _moving_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    reach = max(2, len(points) // 25)  # centred, so that the mean does not lag behind a falling loss
    values = [value for _, value in points]
    return [(step, fmean(values[max(0, i - reach) : i + reach + 1])) for i, (step, _) in enumerate(points)]
