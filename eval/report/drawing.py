"""Primitives of the charts: axes, marks and lines, in units of the drawing.

The templates draw them as SVG, not a plotting library: so the lines take the colours of the page, dark or
light, and a report of thousands of queries stays small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

# Units of the viewBox: narrow, so that the text stays readable when a phone shrinks the chart.
WIDTH, HEIGHT = 440.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 14.0, 46.0
SMALLEST_DOT, LARGEST_DOT = 3.2, 16.0


@dataclass(frozen=True)
class Axis:
    """A linear scale from the values `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float = LEFT
    end: float = WIDTH - RIGHT

    def at(self, value: float) -> float:
        """Return the position of a value in the drawing."""
        span = (self.high - self.low) or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of about five round values."""
        rough = ((self.high - self.low) or 1.0) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(self.at(i * step), _label(i * step, step)) for i in range(first, last + 1)]


def upward(low: float, high: float, height: float = HEIGHT, inset: float = 0.0) -> Axis:
    """Return a vertical axis; `inset` keeps dots at its ends clear of the labels."""
    return Axis(low, high, height - BOTTOM - inset, TOP + inset)


@dataclass(frozen=True)
class Mark:
    """A dot or a bar.

    Attributes:
        x: centre of a dot, left edge of a bar.
        y: centre of a dot, upper edge of a bar.
        extent: radius or height.
        side: `better`, `same` or `worse`, which decides the colour.
        text: tooltip.
        name: label of a row of a forest.
        ends: positions of the lower and upper end of the interval.
    """

    x: float
    y: float
    extent: float
    side: str = ""
    text: str = ""
    name: str = ""
    ends: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Line:
    """A line through dots with intervals, its entry in the legend, and the number of its style."""

    name: str
    style: int
    points: list[Mark]
    path: str


@dataclass(frozen=True)
class Chart:
    """Marks, lines and curves on two axes; positions in the drawing.

    Attributes:
        x: horizontal axis.
        y: vertical axis.
        marks: dots, or bars if `bar` is set.
        height: height of the drawing.
        bar: width of a bar.
        edges: left and right end of the grid.
        ticks: positions and labels below the x axis; those of the axis if None.
        reference: y of a dashed line to compare with.
        second: y of a dotted line to compare with.
        diagonal: draw the dashed line on which both axes have the same value.
        lines: lines of several systems.
        curve: SVG path.
        smooth: SVG path of the moving mean, beside which the curve is pale.
        band: outline of the intervals around the curve.
        alarms: x and words of each alarm.
        title: heading, or name of what `reference` is.
        caption: explanation below.
        binned: queries that share a bar.
        main: shown at once, not folded.
        grid: distance within which queries share a dot.
    """

    x: Axis
    y: Axis
    marks: list[Mark] = field(default_factory=list)
    height: float = HEIGHT
    bar: float = 0.0
    edges: tuple[float, float] = (LEFT, WIDTH - RIGHT)
    ticks: list[tuple[float, str]] | None = None
    reference: float | None = None
    second: float | None = None
    diagonal: bool = False
    lines: list[Line] = field(default_factory=list)
    curve: str = ""
    smooth: str = ""
    band: str = ""
    alarms: list[tuple[float, str]] = field(default_factory=list)
    title: str = ""
    caption: str = ""
    binned: int = 1
    main: bool = False
    grid: float = 0.0


def path(points: Iterable[tuple[float, float]]) -> str:
    """Return straight lines through points as an SVG path, empty without a point."""
    drawn = " L".join(f"{x:g} {y:g}" for x, y in points)
    return f"M{drawn}" if drawn else ""


def minus(text: str) -> str:
    """Return a number with a real minus sign."""
    return text.replace("-", "−")


def signed(value: float) -> str:
    """Format with three decimals, a sign and a real minus; a value that rounds to zero has no sign.

    >>> signed(0.0421), signed(-0.0001)
    ('+0.042', '0.000')
    """
    text = minus(f"{value:+.3f}")
    return "0.000" if text[1:] == "0.000" else text


def _label(value: float, step: float) -> str:
    if value and abs(step) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return minus(f"{float(mantissa):g}e{int(exponent)}")
    text = f"{value:,.10g}" if abs(step) >= 1 else f"{value:.10g}"
    return "0" if abs(value) < step / 1e3 else minus(text)
