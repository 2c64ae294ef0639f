"""The merging curve as SVG: measure over the share of the tuned weights, dev and guards, with intervals."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ...eval.results import Estimate
from .mixtures import Merged, Point

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 56, 170, 16, 44
COLOURS = ("#1f5fa8", "#b4541a", "#3d7a37", "#7a3d7a", "#555555")
DASHES = ("", "6 4", "2 3", "8 3 2 3", "1 3")


def merging_curve(merged: Merged, dev: str) -> str:
    """The picture; points of averaged checkpoints are squares, the chosen mixture has a line of its own.

    Args:
        merged: what was tried.
        dev: name of the dev data.
    """
    points = merged.points
    names = [f"{dev} (dev)", *(str(guard["name"]) for guard in merged.guards)]
    rows = [
        [point.dev for point in points],
        *([p.guards[n] for p in points] for n in range(len(merged.guards))),
    ]
    low = min(found.low for row in rows for found in row)
    high = max(found.high for row in rows for found in row)
    low, high = low - 0.02, max(high + 0.02, low + 0.04)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        *(_grid_line(y(value), f"{value:.2f}") for value in _ticks(low, high)),
        *(_label(_x(share), f"{share:g}") for share in sorted({point.share for point in points})),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"share of the tuned weights</text>",
        f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {HEIGHT / 2})">{html.escape(merged.measure)}</text>',
        f'<line x1="{_x(merged.chosen.share):.1f}" x2="{_x(merged.chosen.share):.1f}" y1="{TOP}" '
        f'y2="{HEIGHT - BOTTOM}" stroke="#999" stroke-width="6" stroke-opacity="0.35"/>',
    ]
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        # Intervals of several lines at one share would cover each other.
        aside = 5.0 * (number - (len(rows) - 1) / 2)
        parts += _series(
            points, row, [y(f.mean) for f in row], [(y(f.low), y(f.high)) for f in row], number, aside
        )
        parts.append(_legend(number, name))
    parts.append(
        f'<text x="{WIDTH - RIGHT + 14}" y="{TOP + 24 + 20 * len(names)}" fill="#555">'
        "grey: published</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _x(share: float) -> float:
    return LEFT + 20 + (WIDTH - LEFT - RIGHT - 40) * share


def _series(
    points: Sequence[Point],
    row: Sequence[Estimate],
    middles: Sequence[float],
    ends: Sequence[tuple[float, float]],
    number: int,
    aside: float,
) -> list[str]:
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    places = [_x(point.share) + aside for point in points]
    # The run's best model beside an average: the line goes through one kind only.
    averaged = any(point.checkpoints for point in points)
    line = [
        f"{x:.1f},{y:.1f}"
        for x, y, point in zip(places, middles, points, strict=True)
        if bool(point.checkpoints) == averaged or point.share == 0
    ]
    found = [
        f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="1.5" '
        f'stroke-dasharray="{dash}"/>'
    ]
    for x, y, (low, high), estimate, point in zip(places, middles, ends, row, points, strict=True):
        words = f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
        shape = (
            f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}">'
            if point.checkpoints
            else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
        )
        found.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}"/>')
        found.append(f"{shape}<title>{words}</title></{shape[1:].split()[0]}>")
    return found


def _legend(number: int, name: str) -> str:
    x, y = WIDTH - RIGHT + 14, TOP + 14 + 20 * number
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    return (
        f'<line x1="{x}" x2="{x + 24}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dash}"/><text x="{x + 30}" y="{y}">{html.escape(name)}</text>'
    )


def _grid_line(y: float, text: str) -> str:
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _label(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>'


def _ticks(low: float, high: float) -> list[float]:
    step = next(size for size in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / size <= 8)
    first = int(low / step) + 1
    return [number * step for number in range(first, int(high / step) + 1)]
