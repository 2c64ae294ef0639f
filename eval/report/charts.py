"""Charts of a report: differences, queries, depths, scores, and curves of a training run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from ..results import Calibration, Comparison, DepthPoint, Estimate, Histogram, System
from ..statistics import outcome
from ..words import count_of, format_estimate
from .drawing import (
    HEIGHT,
    LARGEST_DOT,
    LEFT,
    RIGHT,
    SMALLEST_DOT,
    WIDTH,
    Axis,
    Chart,
    Line,
    Mark,
    minus,
    path,
    signed,
    upward,
)

TALL = HEIGHT + 100
ROW = 46.0
MOST_BARS = 380
GRIDS, MOST_DOTS = (0.01, 0.02, 0.05), 1500  # queries within a cell of the grid share a dot
STYLES = 4  # line styles; each has its own colour, dash and shape in the style sheet
INSET = 10.0  # so that a dot at an end does not cover a label
LABEL_WIDTH = 34.0  # ticks closer than this would overlap
BESIDE = 7.0  # between the systems at one depth, so that their intervals do not cover each other
MOST_POINTS = 600
# Curves on which an alarm is marked, by its kind (named in train/monitor/alarms.py).
MARKED = {
    "Loss": ("stuck", "overfit"),
    "Spread of scores": ("collapse",),
    "Gradient norm": ("explosion",),
    "Learning rate": ("no_rate",),
    "Dev": ("below_base", "overfit"),
}


def forest(rows: Sequence[tuple[str, Comparison]]) -> Chart:
    """Draw named differences with their intervals, one below the other, around the line of no difference."""
    ends = [abs(value) for _, c in rows for value in (c.low, c.high, c.difference)]
    most = (max(ends, default=0.0) or 0.01) * 1.08
    x, height = Axis(-most, most, 16.0, WIDTH - 16.0), ROW * len(rows) + 34
    marks = [
        Mark(x.at(c.difference), ROW * i + 17, 5.5, decided(c), difference_text(c), name,
             (x.at(c.low), x.at(c.high)))
        for i, (name, c) in enumerate(rows)
    ]  # fmt: skip
    return Chart(x, upward(0.0, 1.0, height), marks, height)


def difference_text(comparison: Comparison) -> str:
    """Return difference and interval, formatted by `signed`."""
    return f"{signed(comparison.difference)} [{signed(comparison.low)}, {signed(comparison.high)}]"


def decided(comparison: Comparison | None) -> str:
    """Return the side that colours a comparison: `better`, `worse`, or `same` if undecided."""
    return "same" if comparison is None else outcome(comparison).replace("undecided", "same")


def side(difference: float) -> str:
    """Return the side that colours one query's difference: `better`, `same` or `worse`."""
    return "same" if abs(difference) < 1e-9 else "better" if difference > 0 else "worse"


def scatter(pairs: dict[str, tuple[float, float]]) -> Chart:
    """Plot baseline value (x) against system value (y); queries in one cell of a grid share a larger dot.

    The grid is coarser if there would be too many dots to tell apart.
    """
    for grid in GRIDS:
        places: dict[tuple[float, float], list[str]] = {}
        for query, (before, after) in pairs.items():
            cell = round(before / grid) * grid, round(after / grid) * grid
            places.setdefault(cell, []).append(query)
        if len(places) <= MOST_DOTS:
            break
    x = Axis(0.0, 1.0, LEFT + LARGEST_DOT, WIDTH - RIGHT - LARGEST_DOT)
    y = upward(0.0, 1.0, TALL, LARGEST_DOT)
    largest = max(map(len, places.values()), default=1)
    growth = min(0.5, math.log(LARGEST_DOT / SMALLEST_DOT) / math.log(max(largest, 2)))
    marks = []
    for (before, after), queries in sorted(places.items(), key=lambda item: -len(item[1])):
        named = ", ".join(queries[:6]) + (f" and {len(queries) - 6} more" if len(queries) > 6 else "")
        radius = round(SMALLEST_DOT * len(queries) ** growth, 2)
        text = f"{before:.2f} to {after:.2f}: {named}"
        # A cell of a coarse grid may hold gains and losses: the members decide, not its middle.
        moved = fmean(pairs[query][1] - pairs[query][0] for query in queries)
        marks.append(Mark(x.at(before), y.at(after), radius, side(moved), text))
    return Chart(x, y, marks, TALL, diagonal=True, grid=grid)


def gain_bars(differences: dict[str, float]) -> Chart:
    """Plot one bar a query, largest gain first; beyond `MOST_BARS` a bar is the mean of neighbours."""
    ordered = sorted(differences.items(), key=lambda item: -item[1])
    binned = math.ceil(len(ordered) / MOST_BARS) or 1
    bins = [ordered[i : i + binned] for i in range(0, len(ordered), binned)]
    low, high = min([0.0, *differences.values()]), max([0.0, *differences.values()])
    margin = 0.04 * ((high - low) or 1.0)
    x, y = Axis(0.0, float(len(bins) or 1)), upward(low - margin, high + margin, TALL)
    marks = []
    for i, members in enumerate(bins):
        mean = fmean(value for _, value in members)
        named = count_of(len(members), "query") + " from " if len(members) > 1 else ""
        text = f"{minus(f'{mean:+.3f}')}: {named}{members[0][0]}"
        marks.append(_bar(x.at(i), y, mean, side(mean), text))
    width = round(min(0.86 * (x.end - x.start) / max(len(bins), 1), 40.0), 2)
    return Chart(x, y, marks, TALL, width, ticks=[], binned=binned)


def _bar(x: float, y: Axis, value: float, side: str, text: str) -> Mark:
    top, bottom = sorted((y.at(0), y.at(value)))
    return Mark(x, top, round(bottom - top, 2), side, text)


def depth_chart(systems: Sequence[System], measure: str) -> Chart | None:
    """Plot the result over the candidates reranked; None if no system has two depths."""
    rows = [
        (s, [(float(point.depth), point) for point in _points(s, measure)])
        for s in systems
        if len(_points(s, measure)) > 1
    ]
    ticks = [(float(depth), f"{depth:,}") for depth in sorted({p.depth for s, _ in rows for p in s.depths})]
    return _over_logarithm(systems, rows, measure, ticks, BESIDE) if rows else None


def cost_chart(systems: Sequence[System], measure: str, queries: int) -> Chart | None:
    """Plot the result over milliseconds of scoring a query; None if nothing was timed."""
    rows = [
        (s, [(1000 * (point.seconds or 0.0) / max(queries, 1), point) for point in points])
        for s in systems
        if len(points := _points(s, measure)) > 1 and all(point.seconds for point in points)
    ]
    costs = [cost for _, row in rows for cost, _ in row]
    if not costs or min(costs) == max(costs):
        return None
    low, high = min(costs), max(costs)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    ticks = [(v, f"{v:,.10g}") for v in values if low * 0.999 <= v <= high * 1.001]
    return _over_logarithm(systems, rows, measure, ticks, 0.0)


def _points(system: System, measure: str) -> list[DepthPoint]:
    return [point for point in system.depths if measure in point.results]


def _over_logarithm(
    systems: Sequence[System],
    rows: Sequence[tuple[System, Sequence[tuple[float, DepthPoint]]]],
    measure: str,
    ticks: Sequence[tuple[float, str]],
    beside: float,
) -> Chart:
    """Plot the points of `rows` on a logarithmic x axis; the first stage, which is depth 0, is a line."""
    start = next((s for s in systems if s.kind == "first_stage" and measure in s.results), None)
    estimates = [point.results[measure] for _, row in rows for _, point in row]
    values = [end for estimate in estimates for end in (estimate.low, estimate.high)]
    values += [start.results[measure].mean] if start else []
    margin = (max(values) - min(values)) * 0.08 or 0.01
    room = beside * (len(rows) - 1) / 2 + 16
    ends = [math.log(at) for _, row in rows for at, _ in row]
    x = Axis(min(ends), max(ends), LEFT + room, WIDTH - RIGHT - room)
    y = upward(min(values) - margin, max(values) + margin)
    lines = []
    for number, (system, row) in enumerate(rows):
        shift = beside * number - room + 16
        dots = []
        for value, point in row:
            at, estimate = round(x.at(math.log(value)) + shift, 2), point.results[measure]
            text = _depth_text(system.name, point, estimate)
            whisker = (y.at(estimate.low), y.at(estimate.high))
            dots.append(Mark(at, y.at(estimate.mean), 4.0, text=text, ends=whisker))
        lines.append(Line(system.name, number % STYLES, dots, path((dot.x, dot.y) for dot in dots)))
    kept: list[tuple[float, str]] = []
    for value, label in reversed(ticks):  # always the last one, the others if they do not touch
        at = x.at(math.log(value))
        if not kept or kept[-1][0] - at >= LABEL_WIDTH:
            kept.append((at, label))
    reference, name = (y.at(start.results[measure].mean), start.name) if start else (None, "")
    return Chart(x, y, lines=lines, ticks=kept[::-1], reference=reference, title=name)


def _depth_text(name: str, point: DepthPoint, estimate: Estimate) -> str:
    text = f"{name}, the best {point.depth:,} reranked: {format_estimate(estimate)}, "
    text += count_of(point.pairs, "pair")
    return text + (f", {point.seconds:,.1f} s" if point.seconds else "")


def histogram_chart(histogram: Histogram) -> Chart:
    """Plot relevant candidates upward, the others downward, each in percent of its own number.

    In percent of all, relevant candidates would not be seen: they are one in a hundred.
    """
    kinds = [
        ("relevant", "better", 1, histogram.relevant, sum(histogram.relevant) or 1),
        ("other", "same", -1, histogram.other, sum(histogram.other) or 1),
    ]
    high, low = (max([*(100 * count / total for count in counts), 1.0]) for *_, counts, total in kinds)
    edges = histogram.edges
    x, y = Axis(edges[0], edges[-1]), upward(-low * 1.05, high * 1.05)
    marks = []
    for i, (left, right) in enumerate(pairwise(edges)):
        for kind, colour, sign, counts, total in kinds:
            if counts[i]:
                share = 100 * counts[i] / total
                text = f"{minus(f'score {left:.2f} to {right:.2f}')}: {counts[i]:,} {kind}"
                marks.append(_bar(x.at(left), y, sign * share, colour, f"{text} ({share:.1f} % of them)"))
    width = round(max((x.end - x.start) / max(len(edges) - 1, 1) - 1, 0.5), 2)
    return Chart(x, y, marks, bar=width)


def reliability_chart(calibration: Calibration) -> Chart:
    """Plot mean sigmoid score (x) against share relevant (y) of each filled bin, and the line through them.

    The larger the dot, the more candidates.
    """
    y = upward(0.0, 1.0, inset=INSET)
    edge, middle = y.start - y.end, (LEFT + WIDTH - RIGHT) / 2  # square, so that the diagonal is one
    x = Axis(0.0, 1.0, middle - edge / 2, middle + edge / 2)
    most = max([*calibration.counts, 2])
    marks = []
    for count, score, share in zip(calibration.counts, calibration.scores, calibration.relevant, strict=True):
        if count:
            radius = SMALLEST_DOT + (LARGEST_DOT * 0.6 - SMALLEST_DOT) * math.log(count) / math.log(most)
            text = f"score {score:.2f}: {100 * share:.1f} % of {count_of(count, 'candidate')} relevant"
            marks.append(Mark(x.at(score), y.at(share), round(radius, 2), "better", text))
    curve = path((mark.x, mark.y) for mark in marks)
    return Chart(x, y, marks, edges=(x.start, x.end), diagonal=True, curve=curve)


@dataclass(frozen=True)
class Alarm:
    """An alarm of a training run: its step, kind and words."""

    step: int
    kind: str
    text: str


def training_curves(steps: list[dict[str, Any]], stage: System | None = None) -> list[Chart]:
    """Plot dev measures with base and first stage as lines, the loss, and how the run went.

    Args:
        steps: rows of metrics.jsonl; the dev row of step 0 is the base.
        stage: the first stage.
    """
    measures = list(dict.fromkeys(measure for row in steps for measure in row.get("dev") or {}))
    first = [*(_dev_curve(steps, measure, stage) for measure in measures), _loss_curve(steps)]
    curves = [replace(curve, main=True) for curve in first if curve]
    for title, name, smooth, caption in (
        ("Learning rate", "learning_rate", False, "The schedule as it was applied."),
        ("Gradient norm", "grad_norm", True, "Before clipping; a sudden rise is where training shook."),
        ("Spread of scores", "score_spread", True,
         "Standard deviation of the scores of a group; near 0 nothing is ranked."),
        ("Queries per second", "queries_per_second", True,
         "Speed of training; a fall is a slower machine or longer texts."),
        ("Skipped steps", "skipped_steps", False, "Steps so far whose gradients were beyond fp16."),
    ):  # fmt: skip
        points = _column(steps, name)
        curve = _curve(title, caption, points, smooth=smooth)
        if curve and (name != "skipped_steps" or any(value for _, value in points)):
            curves.append(curve)
    leading, alarms = next(iter(measures), ""), training_alarms(steps)
    return [_marked(curve, alarms, leading) for curve in curves]


def training_alarms(steps: list[dict[str, Any]]) -> list[Alarm]:
    """Return the alarms of a run in the order in which they came; older runs kept the kind alone."""
    return [
        Alarm(row["step"], **alarm) if isinstance(alarm, dict) else Alarm(row["step"], alarm, "")
        for row in steps
        for alarm in row.get("alarms") or []
    ]


def _marked(curve: Chart, alarms: list[Alarm], leading: str) -> Chart:
    """Mark the alarms that are about this curve; alarms about dev measures are about the leading one."""
    kinds = MARKED.get("Dev" if curve.title == f"Dev {leading}" else curve.title, ())
    if curve.title == "Loss":  # also kinds that no curve here is about
        kinds += tuple({alarm.kind for alarm in alarms} - {kind for some in MARKED.values() for kind in some})
    marks = [
        (min(max(curve.x.at(alarm.step), LEFT), WIDTH - RIGHT), f"step {alarm.step:,}: {alarm.text}")
        for alarm in alarms
        if alarm.kind in kinds
    ]
    return replace(curve, alarms=marks, caption=curve.caption + (" A triangle is an alarm." if marks else ""))


def _loss_curve(steps: list[dict[str, Any]]) -> Chart | None:
    points, equal = _column(steps, "loss"), [value for _, value in _column(steps, "loss_of_equal_scores")]
    caption = "Mean loss of each logged step, pale; its moving mean, strong"
    chance = fmean(equal) if equal and all(map(math.isfinite, equal)) else None
    caption += "." if chance is None else f"; the dashed line is that of equal scores for all, {chance:.3g}."
    return _curve("Loss", caption, points, smooth=True, reference=chance)


def _dev_curve(steps: list[dict[str, Any]], measure: str, stage: System | None) -> Chart | None:
    dev = [row for row in steps if measure in (row.get("dev") or {})]
    rows = [(row["step"], row["dev"][measure]) for row in dev]
    base = next((value for step, value in rows if step == 0), None)
    trained = [row for row in rows if row[0]] or rows  # step 0 is the base
    best_step, best = max(trained, key=lambda row: row[1])
    caption = f"On the dev queries; best {best:.3f} at step {best_step:,}"
    caption += f"; the dashed line is the untuned base, {base:.3f}" if base is not None else ""
    line = stage.results[measure].mean if stage and measure in stage.results else None
    caption += f"; the dotted line is {stage.name}, {line:.3f}" if stage and line is not None else ""
    given = [(row["step"], *row["intervals"][measure]) for row in dev if measure in row.get("intervals", {})]
    caption += "; the band is the 95 % interval of each mean" if given else ""
    return _curve(f"Dev {measure}", f"{caption}.", rows, reference=base, second=line, intervals=given)


def _column(steps: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    # A damaged line may hold anything, also a whole number beyond every float.
    rows = [row for row in steps if type(row.get(name)) in (int, float)]
    return [
        (row["step"], row[name]) for row in rows if isinstance(row[name], float) or abs(row[name]) < 2**60
    ]


def _curve(
    title: str,
    caption: str,
    points: Iterable[tuple[float, float]],
    *,
    smooth: bool = False,
    reference: float | None = None,
    second: float | None = None,
    intervals: Sequence[tuple[float, float, float]] | None = None,
) -> Chart | None:
    """Plot a value over steps; None if there are fewer than two finite points.

    Args:
        title: heading.
        caption: explanation below.
        points: step and value.
        smooth: draw the moving mean, too.
        reference: value to compare with.
        second: another one.
        intervals: (step, lower end, upper end) of a dev measure, which has dots and an axis of its own range;
            None for a logged value, whose axis begins at 0.
    """
    finite = [(s, v) for s, v in points if math.isfinite(v)]
    if len(finite) < 2:
        return None
    size = math.ceil(len(finite) / MOST_POINTS)
    bins = [finite[i : i + size] for i in range(0, len(finite), size)]
    drawn = [(fmean(step for step, _ in members), fmean(value for _, value in members)) for members in bins]
    values = [v for _, v in drawn] + [line for line in (reference, second) if line is not None]
    values += [end for _, *ends in intervals or () for end in ends]
    from_zero = intervals is None
    low, high = (min([*values, 0.0]) if from_zero else min(values)), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    x = Axis(finite[0][0], finite[-1][0])
    y = upward(low if from_zero and low == 0 else low - margin, high + margin)

    def place(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x.at(step), y.at(value)) for step, value in points]

    band = ""
    if intervals and len(intervals) > 1:
        back = path(place((step, low) for step, low, _ in reversed(intervals)))
        band = f"{path(place((step, high) for step, _, high in intervals))} L{back[1:]} Z"
    return Chart(
        x,
        y,
        [] if from_zero else [Mark(*at, 3.0, "better") for at in place(drawn)],
        reference=None if reference is None else y.at(reference),
        second=None if second is None else y.at(second),
        curve=path(place(drawn)),
        smooth=path(place(_moving_mean(drawn))) if smooth and len(finite) >= 10 else "",
        band=band,
        title=title,
        caption=caption,
    )


def _moving_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    reach = max(2, len(points) // 25)  # centred, so that the mean does not lag behind a falling loss
    values = [value for _, value in points]
    return [(step, fmean(values[max(0, i - reach) : i + reach + 1])) for i, (step, _) in enumerate(points)]
