"""Plot of growth.py: one SVG file of panels with logarithmic x and y from zero."""

import math
from dataclasses import dataclass
from html import escape

from uprank.eval.report.drawing import Axis

WIDTH, HEIGHT, COLUMNS = 380, 240, 2
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 30, 42
STYLE = """text{font:12px sans-serif;fill:#555}.title{font-size:13px;font-weight:600}
line{stroke:#999;stroke-width:1;opacity:.35}polyline{fill:none;stroke:#2a78d6;stroke-width:2}circle{fill:#2a78d6}
@media(prefers-color-scheme:dark){text{fill:#bbb}}"""


@dataclass(frozen=True)
class Panel:
    """One curve: its title, the unit of x, and its points."""

    title: str
    things: str
    points: list[tuple[float, float]]


def draw(panels: list[Panel]) -> str:
    """Return an SVG with all panels in two columns."""
    rows = math.ceil(len(panels) / COLUMNS)
    parts = []
    for number, panel in enumerate(panels):
        x, y = WIDTH * (number % COLUMNS), HEIGHT * (number // COLUMNS)
        parts.append(f'<g transform="translate({x} {y})">{_panel(panel)}</g>')
    size = f'viewBox="0 0 {WIDTH * COLUMNS} {HEIGHT * rows}" width="{WIDTH * COLUMNS}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(panel: Panel) -> str:
    """Draw grid, labels, line and dots.

    >>> text = _panel(Panel("time", "pairs", [(100, 1.0), (1000, 3.0)]))
    >>> text.count("<circle"), "1,000" in text
    (2, True)
    """
    logs = [math.log10(size) for size, _ in panel.points]
    x = Axis(min(logs), max(logs), LEFT + 8, WIDTH - RIGHT - 8)
    y = Axis(0.0, max(value for _, value in panel.points) * 1.15 or 1.0, HEIGHT - BOTTOM, TOP)
    parts = [_text(LEFT, 16, panel.title, kind="title")]
    for place, label in y.ticks:
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place}" y2="{place}"/>')
        parts.append(_text(LEFT - 6, place + 4, label, anchor="end"))
    for power in range(math.floor(min(logs)), math.ceil(max(logs)) + 1):
        if min(logs) <= power <= max(logs):
            parts.append(_text(x.at(power), HEIGHT - BOTTOM + 16, f"{10**power:,}", anchor="middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, panel.things, anchor="middle"))
    at = [(x.at(log), y.at(value)) for log, (_, value) in zip(logs, panel.points, strict=True)]
    parts.append('<polyline points="' + " ".join(f"{a:g},{b:g}" for a, b in at) + '"/>')
    for (a, b), (size, value) in zip(at, panel.points, strict=True):
        parts.append(f'<circle cx="{a:g}" cy="{b:g}" r="3.5"><title>{size:,}: {value:.3g}</title></circle>')
    return "".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
