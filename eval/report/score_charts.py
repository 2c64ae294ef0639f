"""Geometry of the charts of scores: depth curve, histogram and reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..results import Calibration, DepthPoint, Histogram, System
from ..words import count_of
from .charts import BOTTOM, HEIGHT, LARGEST_DOT, LEFT, RIGHT, SMALLEST_DOT, TOP, WIDTH, Axis, Chart, Mark

STYLES = 4  # of lines; each has its own colour, dash and shape in the style sheet
INSET = 10.0  # so that a dot at an end does not cover a label
LABEL_WIDTH = 34.0  # ticks closer than this would overlap
BESIDE = 7.0  # between the systems at one depth, so that their intervals do not cover each other


@dataclass(frozen=True)
class DepthLine:
    """One system over the depths.

    Attributes:
        name: of the system.
        style: number of its line style.
        path: through its means.
        points: with the tooltip of each.
        whiskers: (x, y of the upper end, y of the lower end) of each interval.
    """

    name: str
    style: int
    path: str
    points: list[Mark]
    whiskers: list[tuple[float, float, float]]


@dataclass(frozen=True)
class DepthChart:
    """Result over the number of reranked candidates, or over their cost; that axis is logarithmic.

    Attributes:
        ticks: position and label of depths or costs.
        y: axis of the measure.
        lines: one a system.
        reference: (y, label) of the first stage, which is what depth 0 would give; None without.
    """

    ticks: list[tuple[float, str]]
    y: Axis
    lines: list[DepthLine]
    reference: tuple[float, str] | None


def depth_chart(systems: Sequence[System], measure: str) -> DepthChart | None:
    """Result over the candidates reranked; None when no system has two depths."""
    curved = [system for system in systems if len(_points(system, measure)) > 1]
    depths = sorted({point.depth for system in curved for point in system.depths})
    ticks = [(float(depth), f"{depth:,}") for depth in depths]
    rows = [[(float(point.depth), point) for point in _points(s, measure)] for s in curved]
    return _chart(systems, curved, rows, measure, ticks, BESIDE) if curved else None


def cost_chart(systems: Sequence[System], measure: str, queries: int) -> DepthChart | None:
    """Result over milliseconds of scoring a query; None where nothing was timed."""
    rows, timed = [], []
    for system in systems:
        points = _points(system, measure)
        if len(points) > 1 and all(point.seconds for point in points):
            timed.append(system)
            rows.append([(1000 * (point.seconds or 0.0) / max(queries, 1), point) for point in points])
    costs = [cost for row in rows for cost, _ in row]
    if not costs or min(costs) == max(costs):
        return None
    return _chart(systems, timed, rows, measure, _one_two_five(min(costs), max(costs)), 0.0)


def _points(system: System, measure: str) -> list[DepthPoint]:
    return [point for point in system.depths if measure in point.results]


def _chart(
    systems: Sequence[System],
    curved: Sequence[System],
    rows: Sequence[Sequence[tuple[float, DepthPoint]]],
    measure: str,
    ticks: Sequence[tuple[float, str]],
    beside: float,
) -> DepthChart:
    start = next((s for s in systems if s.kind == "first_stage" and measure in s.results), None)
    found = [point.results[measure] for row in rows for _, point in row]
    values = [v for estimate in found for v in (estimate.low, estimate.high)]
    values += [start.results[measure].mean] if start else []
    margin = (max(values) - min(values)) * 0.08 or 0.01
    room = beside * (len(curved) - 1) / 2 + 16
    ends = [math.log(x) for row in rows for x, _ in row]
    x = Axis(min(ends), max(ends), LEFT + room, WIDTH - RIGHT - room)
    y = Axis(min(values) - margin, max(values) + margin, HEIGHT - BOTTOM, TOP)
    lines = [
        _depth_line(system, row, measure, x, y, number, beside * number - room + 16)
        for number, (system, row) in enumerate(zip(curved, rows, strict=True))
    ]
    reference = (y.at(start.results[measure].mean), start.name) if start else None
    return DepthChart(_apart([(x.at(math.log(at)), label) for at, label in ticks]), y, lines, reference)


def _depth_line(
    system: System,
    row: Sequence[tuple[float, DepthPoint]],
    measure: str,
    x: Axis,
    y: Axis,
    number: int,
    shift: float,
) -> DepthLine:
    points, whiskers = [], []
    for value, point in row:
        found = point.results[measure]
        at = round(x.at(math.log(value)) + shift, 2)
        text = (
            f"{system.name}, the best {point.depth:,} reranked: {found.mean:.3f} "
            f"[{found.low:.3f}, {found.high:.3f}], {count_of(point.pairs, 'pair')}"
        )
        text += f", {point.seconds:,.1f} s" if point.seconds else ""
        points.append(Mark(at, y.at(found.mean), 4.0, "", text))
        whiskers.append((at, y.at(found.high), y.at(found.low)))
    path = "M" + " L".join(f"{mark.x:g} {mark.y:g}" for mark in points)
    return DepthLine(system.name, number % STYLES, path, points, whiskers)


def _one_two_five(low: float, high: float) -> list[tuple[float, str]]:
    """The values 1, 2, 5, 10, 20 and so on between two ends, with labels."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [(v, f"{v:,.10g}") for v in values if low * 0.999 <= v <= high * 1.001]


def _apart(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks from the last to the first, without those that would touch the one kept before."""
    kept: list[tuple[float, str]] = []
    for tick in reversed(ticks):
        if not kept or kept[-1][0] - tick[0] >= LABEL_WIDTH:
            kept.append(tick)
    return kept[::-1]


def histogram_chart(histogram: Histogram) -> Chart:
    """Relevant candidates upward, the others downward, each in percent of its own number.

    Of their own number, because a relevant candidate is one in a hundred and would not be seen.
    """
    upward, downward = _shares(histogram.relevant), _shares(histogram.other)
    high, low = max([*upward, 1.0]), max([*downward, 1.0])
    edges = histogram.edges
    x = Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y = Axis(-low * 1.05, high * 1.05, HEIGHT - BOTTOM, TOP)
    marks = []
    for i, (left, right) in enumerate(pairwise(edges)):
        between = f"score {left:.2f} to {right:.2f}".replace("-", "−")
        for share, count, kind, sign in (
            (upward[i], histogram.relevant[i], "relevant", 1),
            (downward[i], histogram.other[i], "other", -1),
        ):
            if count:
                top, bottom = sorted((y.at(0), y.at(sign * share)))
                text = f"{between}: {count:,} {kind} ({share:.1f} % of them)"
                side = "better" if sign > 0 else "same"
                marks.append(Mark(x.at(left), top, round(bottom - top, 2), side, text))
    width = round(max((x.end - x.start) / max(len(edges) - 1, 1) - 1, 0.5), 2)
    return Chart(x, y, marks, width_of_bar=width)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [100 * count / total for count in counts]


def reliability_chart(calibration: Calibration) -> tuple[Chart, str]:
    """Mean sigmoid score (x) against the share that is relevant (y) of each bin, and the line through them.

    The larger the dot, the more candidates; empty bins have none.
    """
    # Square, so that the diagonal is one.
    edge = HEIGHT - TOP - BOTTOM - 2 * INSET
    middle = (LEFT + WIDTH - RIGHT) / 2
    x = Axis(0.0, 1.0, middle - edge / 2, middle + edge / 2)
    y = Axis(0.0, 1.0, HEIGHT - BOTTOM - INSET, TOP + INSET)
    most = max([*calibration.counts, 2])
    marks = []
    for count, score, share in zip(calibration.counts, calibration.scores, calibration.relevant, strict=True):
        if count:
            radius = SMALLEST_DOT + (LARGEST_DOT * 0.6 - SMALLEST_DOT) * math.log(count) / math.log(most)
            text = f"score {score:.2f}: {share:.1%} of {count_of(count, 'candidate')} relevant"
            marks.append(Mark(x.at(score), y.at(share), round(radius, 2), "better", text.replace("%", " %")))
    path = "M" + " L".join(f"{mark.x:g} {mark.y:g}" for mark in marks) if marks else ""
    return Chart(x, y, marks), path
