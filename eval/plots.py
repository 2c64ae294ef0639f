"""Geometry of the report's charts: values to positions; the template draws them as SVG.

Drawn by the template and not by a plotting library, because then the lines take the colours of the
page, dark or light, and a report of thousands of queries stays small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from .compare import outcome
from .report import Comparison

# Units of the viewBox: narrow, so that the text stays readable when a phone shrinks the chart.
WIDTH, HEIGHT = 440.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 14.0, 40.0
ROW = 34.0
SMALLEST_DOT, LARGEST_DOT = 3.2, 16.0
MOST_BARS = 380
MOST_POINTS = 600


@dataclass(frozen=True)
class Axis:
    """A linear scale between two ends of the drawing, and where its ticks stand."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Position of a value in the drawing."""
        span = (self.high - self.low) or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels at round values."""
        step = _round_step(self.high - self.low)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(self.at(i * step), _label(i * step, step)) for i in range(first, last + 1)]


@dataclass(frozen=True)
class Mark:
    """A dot or a bar: position, extent (radius or height), side (`better`, `same`, `worse`), tooltip."""

    x: float
    y: float
    extent: float
    side: str
    text: str


@dataclass(frozen=True)
class Chart:
    """Axes with marks on them."""

    x: Axis
    y: Axis
    marks: list[Mark]
    height: float = HEIGHT
    width_of_bar: float = 0.0
    binned: int = 1


@dataclass(frozen=True)
class Curve:
    """A value over training steps, with an optional reference line (the base) and its best point."""

    title: str
    caption: str
    x: Axis
    y: Axis
    line: str
    smooth: str = ""
    reference: float | None = None
    dots: tuple[tuple[float, float], ...] = ()


def side(difference: float) -> str:
    """Which way a query moved: `better`, `same` or `worse`."""
    return "same" if abs(difference) < 1e-9 else "better" if difference > 0 else "worse"


def scatter(pairs: dict[str, tuple[float, float]]) -> Chart:
    """Baseline value (x) against system value (y); queries at one place share a dot, the larger the more."""
    places: dict[tuple[float, float], list[str]] = {}
    for query, (before, after) in pairs.items():
        places.setdefault((round(before, 2), round(after, 2)), []).append(query)
    x = Axis(0.0, 1.0, LEFT + LARGEST_DOT, WIDTH - RIGHT - LARGEST_DOT)
    y = Axis(0.0, 1.0, HEIGHT + 100 - BOTTOM - LARGEST_DOT, TOP + LARGEST_DOT)
    largest = max(map(len, places.values()), default=1)
    growth = min(0.5, math.log(LARGEST_DOT / SMALLEST_DOT) / math.log(max(largest, 2)))
    marks = []
    for (before, after), queries in sorted(places.items(), key=lambda item: -len(item[1])):
        named = ", ".join(queries[:6]) + (f" and {len(queries) - 6} more" if len(queries) > 6 else "")
        radius = round(SMALLEST_DOT * len(queries) ** growth, 2)
        text = f"{named}: {before:.2f} to {after:.2f}"
        marks.append(Mark(x.at(before), y.at(after), radius, side(after - before), text))
    return Chart(x, y, marks, height=HEIGHT + 100)


def gain_bars(differences: dict[str, float]) -> Chart:
    """One bar a query, largest gain first; beyond `MOST_BARS` queries a bar is the mean of neighbours."""
    ordered = sorted(differences.items(), key=lambda item: -item[1])
    binned = math.ceil(len(ordered) / MOST_BARS) or 1
    bins = [ordered[i : i + binned] for i in range(0, len(ordered), binned)]
    low, high = min([0.0, *differences.values()]), max([0.0, *differences.values()])
    margin = 0.04 * ((high - low) or 1.0)
    x = Axis(0.0, float(len(bins) or 1), LEFT, WIDTH - RIGHT)
    y = Axis(low - margin, high + margin, HEIGHT + 100 - BOTTOM, TOP)
    marks = []
    for i, members in enumerate(bins):
        mean = fmean(value for _, value in members)
        top, bottom = min(y.at(mean), y.at(0)), max(y.at(mean), y.at(0))
        text = f"{members[0][0]}{' to ' + members[-1][0] if len(members) > 1 else ''}: {mean:+.3f}"
        marks.append(Mark(x.at(i), top, round(bottom - top, 2), side(mean), text))
    width = round(min(0.86 * (x.end - x.start) / max(len(bins), 1), 40.0), 2)
    return Chart(x, y, marks, height=HEIGHT + 100, width_of_bar=width, binned=binned)


def forest(comparisons: Sequence[Comparison]) -> Chart:
    """A row each with the difference (x), its interval and the line of no difference."""
    ends = [abs(value) for c in comparisons for value in (c.low, c.high, c.difference)]
    most = (max(ends, default=0.0) or 0.01) * 1.08
    height = ROW * len(comparisons) + 36
    x = Axis(-most, most, 16.0, WIDTH - 16.0)
    marks = []
    for i, c in enumerate(comparisons):
        decided = outcome(c).replace("undecided", "same")
        marks.append(Mark(x.at(c.difference), ROW * i + 22, x.at(c.high) - x.at(c.low), decided, c.system))
    return Chart(x, Axis(0.0, 1.0, height - 30, 4.0), marks, height=height)


def curve(
    title: str,
    caption: str,
    points: Iterable[tuple[float, float]],
    *,
    smooth: bool = False,
    dots: bool = False,
    reference: float | None = None,
    from_zero: bool = False,
) -> Curve | None:
    """A curve over steps; None when fewer than two finite points exist."""
    finite = [(s, v) for s, v in points if math.isfinite(v)]
    if len(finite) < 2:
        return None
    thinned = _thin(finite)
    values = [v for _, v in thinned] + ([reference] if reference is not None else [])
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
    )


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


def _round_step(span: float, about: int = 5) -> float:
    rough = (span or 1.0) / about
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)


def _label(value: float, step: float) -> str:
    if value and abs(step) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
    text = f"{value:,.10g}" if abs(step) >= 1 else f"{value:.10g}"
    return "0" if abs(value) < step / 1e3 else text.replace("-", "−")
