"""The merging curve as SVG: measure over the share of the tuned weights, dev and guards, with intervals."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from ...eval.results import Estimate
from ...eval.words import format_estimate
from .mixtures import Merged, Point

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 56, 170, 16, 44
COLOURS = ("#1f5fa8", "#b4541a", "#3d7a37", "#7a3d7a", "#555555")
DASHES = ("", "6 4", "2 3", "8 3 2 3", "1 3")


def merging_curve(merged: Merged, dev: str) -> str:
    """Return the SVG; averaged checkpoints are squares, and a grey bar marks the published share.

    Args:
        merged: the mixtures.
        dev: name of the dev data.
    """
    points = merged.points
    names = [f"{dev} (dev)", *(str(guard["name"]) for guard in merged.guards)]
    rows = [list(row) for row in zip(*([point.dev, *point.guards] for point in points), strict=True)]
    low = min(found.low for row in rows for found in row) - 0.02
    high = max(max(found.high for row in rows for found in row) + 0.02, low + 0.04)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    chosen = f"{_x(merged.chosen.share):.1f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        *(_grid_line(y(value), f"{value:.2f}") for value in _ticks(low, high)),
        *(_label(_x(share), f"{share:g}") for share in sorted({point.share for point in points})),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"share of the tuned weights</text>",
        f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {HEIGHT / 2})">{html.escape(merged.measure)}</text>',
        f'<line x1="{chosen}" x2="{chosen}" y1="{TOP}" '
        f'y2="{HEIGHT - BOTTOM}" stroke="#999" stroke-width="6" stroke-opacity="0.35"/>',
    ]
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        # Shifted aside: intervals of several lines at one share would cover each other.
        xs = [_x(point.share) + 5.0 * (number - (len(rows) - 1) / 2) for point in points]
        style = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        parts += _series(points, row, xs, y, style)
        parts.append(_legend(TOP + 14 + 20 * number, name, style))
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
    xs: Sequence[float],
    y: Callable[[float], float],
    style: tuple[str, str],
) -> list[str]:
    colour, dash = style
    # With averages the line goes through them alone, past the run's best model.
    averaged = any(point.checkpoints for point in points)
    line = [
        f"{x:.1f},{y(found.mean):.1f}"
        for x, found, point in zip(xs, row, points, strict=True)
        if bool(point.checkpoints) == averaged or point.share == 0
    ]
    parts = [
        f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="1.5" '
        f'stroke-dasharray="{dash}"/>'
    ]
    for x, found, point in zip(xs, row, points, strict=True):
        middle, low, high = y(found.mean), y(found.low), y(found.high)
        shape = (
            f'<rect x="{x - 4:.1f}" y="{middle - 4:.1f}" width="8" height="8" fill="{colour}">'
            if point.checkpoints
            else f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="4" fill="{colour}">'
        )
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}"/>')
        parts.append(f"{shape}<title>{format_estimate(found)}</title></{shape[1:].split()[0]}>")
    return parts


def _legend(y: int, name: str, style: tuple[str, str]) -> str:
    x, (colour, dash) = WIDTH - RIGHT + 14, style
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
