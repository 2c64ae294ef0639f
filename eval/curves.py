"""Curves of a training run over its steps, as geometry for the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis

MOST_POINTS = 600


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


def training_curves(steps: list[dict[str, Any]]) -> list[Curve]:
    """Loss, dev measures with the base (the dev row of step 0) as a line, and how the run went."""
    seen = {measure: None for row in steps for measure in row.get("dev") or {}}
    curves = [
        curve("Loss", "Mean loss of each logged step, pale; its moving mean, strong.",
                    _column(steps, "loss"), smooth=True, from_zero=True),
        *(_dev_curve(steps, measure) for measure in seen),
        curve("Learning rate", "The schedule as it was applied.",
                    _column(steps, "learning_rate"), from_zero=True),
        curve("Gradient norm", "Before clipping; a sudden rise is where training shook.",
                    _column(steps, "grad_norm"), smooth=True, from_zero=True),
        curve("Queries per second", "Speed of training; a fall is a slower machine or longer texts.",
                    _column(steps, "queries_per_second"), smooth=True, from_zero=True),
    ]  # fmt: skip
    return [curve for curve in curves if curve]


def _dev_curve(steps: list[dict[str, Any]], measure: str) -> Curve | None:
    rows = [(row["step"], row["dev"][measure]) for row in steps if measure in (row.get("dev") or {})]
    base = next((value for step, value in rows if step == 0), None)
    best_step, best = max(rows, key=lambda row: row[1])
    caption = f"On the dev queries; best {best:.3f} at step {best_step:,}"
    caption += f"; the dashed line is the untuned base, {base:.3f}." if base is not None else "."
    return curve(f"Dev {measure}", caption, rows, dots=True, reference=base)


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
