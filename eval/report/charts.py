"""Geometry of the report's charts: values to positions; the template draws them as SVG.

Drawn by the template and not by a plotting library, because then the lines take the colours of the
page, dark or light, and a report of thousands of queries stays small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ..results import Comparison
from ..statistics import outcome
from ..words import count_of

# Units of the viewBox: narrow, so that the text stays readable when a phone shrinks the chart.
WIDTH, HEIGHT = 440.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 14.0, 46.0
ROW = 46.0
SMALLEST_DOT, LARGEST_DOT = 3.2, 16.0
MOST_BARS = 380
GRIDS, MOST_DOTS = (0.01, 0.02, 0.05), 1500  # queries within a cell of the grid share a dot


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
    grid: float = 0.0


@dataclass(frozen=True)
class Interval:
    """A row of a forest: positions of the difference and its interval, side, name, figures in words."""

    y: float
    low: float
    x: float
    high: float
    side: str
    name: str
    text: str


@dataclass(frozen=True)
class Forest:
    """Differences with their intervals, one below the other."""

    x: Axis
    rows: list[Interval]
    height: float


def side(difference: float) -> str:
    """Which way a query moved: `better`, `same` or `worse`."""
    return "same" if abs(difference) < 1e-9 else "better" if difference > 0 else "worse"


def scatter(pairs: dict[str, tuple[float, float]]) -> Chart:
    """Baseline value (x) against system value (y); queries at one place share a dot, the larger the more.

    A place is a cell of a grid, coarser where there would be too many dots to be told apart.
    """
    grid, places = next(
        (grid, found)
        for grid in GRIDS
        if len(found := _places(pairs, grid)) <= MOST_DOTS or grid == GRIDS[-1]
    )
    x = Axis(0.0, 1.0, LEFT + LARGEST_DOT, WIDTH - RIGHT - LARGEST_DOT)
    y = Axis(0.0, 1.0, HEIGHT + 100 - BOTTOM - LARGEST_DOT, TOP + LARGEST_DOT)
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
    return Chart(x, y, marks, height=HEIGHT + 100, grid=grid)


def _places(pairs: dict[str, tuple[float, float]], grid: float) -> dict[tuple[float, float], list[str]]:
    """Cell of the grid to the queries in it."""
    places: dict[tuple[float, float], list[str]] = {}
    for query, (before, after) in pairs.items():
        cell = round(before / grid) * grid, round(after / grid) * grid
        places.setdefault(cell, []).append(query)
    return places


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
        named = count_of(len(members), "query") + " from " if len(members) > 1 else ""
        text = f"{mean:+.3f}: {named}{members[0][0]}".replace("-", "−", 1 if mean < 0 else 0)
        marks.append(Mark(x.at(i), top, round(bottom - top, 2), side(mean), text))
    width = round(min(0.86 * (x.end - x.start) / max(len(bins), 1), 40.0), 2)
    return Chart(x, y, marks, height=HEIGHT + 100, width_of_bar=width, binned=binned)


def forest(rows: Sequence[tuple[str, Comparison]]) -> Forest:
    """A row each, with its name, the difference, its interval, and the line of no difference."""
    ends = [abs(value) for _, c in rows for value in (c.low, c.high, c.difference)]
    most = (max(ends, default=0.0) or 0.01) * 1.08
    x = Axis(-most, most, 16.0, WIDTH - 16.0)
    found = [
        Interval(
            ROW * i + 17, x.at(c.low), x.at(c.difference), x.at(c.high),
            outcome(c).replace("undecided", "same"), name, difference_text(c),
        )
        for i, (name, c) in enumerate(rows)
    ]  # fmt: skip
    return Forest(x, found, ROW * len(rows) + 34)


def difference_text(comparison: Comparison) -> str:
    """Difference and interval, as `signed` writes them."""
    return f"{signed(comparison.difference)} [{signed(comparison.low)}, {signed(comparison.high)}]"


def signed(value: float) -> str:
    """Three decimals with a sign and a real minus; what rounds to zero has no sign.

    >>> signed(0.0421), signed(-0.0001)
    ('+0.042', '0.000')
    """
    text = f"{value:+.3f}".replace("-", "−")
    return "0.000" if text[1:] == "0.000" else text


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
