"""The mixtures that are tried, and the rule that picks one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...eval.measures import Floats
from ...eval.results import Comparison, Estimate, Report
from ...eval.scoring import Scored
from ...eval.statistics import compare_systems

RULE = (
    "Of the mixtures within one standard error of the best one on the dev queries (of their paired "
    "difference: the rule of Breiman et al. 1984), the one with the highest mean over the guard collections; "
    "without guards the one with the highest on dev; if equal the one with more of the tuned model. The base "
    "itself is not among them."
)


@dataclass(frozen=True)
class Point:
    """One mixture and its measurements.

    Attributes:
        share: share of the tuned weights; the rest is the base.
        checkpoints: names of the averaged checkpoints; empty for the run's best model.
        weights: hash of the weights.
        dev: mean of the first measure over the dev queries.
        guards: mean over the queries of each guard, in order.
        to_best: paired difference on dev from the best mixture; None for the best itself.
        allowed: True if its dev result allows it to be chosen.
        chosen: True for the published mixture.
    """

    share: float
    checkpoints: tuple[str, ...]
    weights: str
    dev: Estimate
    guards: tuple[Estimate, ...]
    to_best: Comparison | None = None
    allowed: bool = False
    chosen: bool = False

    @property
    def guard_mean(self) -> float:
        """Return the mean over the guards, with equal weights."""
        return float(np.mean([guard.mean for guard in self.guards])) if self.guards else 0.0


@dataclass(frozen=True)
class Merged:
    """The mixtures that were tried and the one that was chosen.

    Attributes:
        measure: the measure that decides.
        rule: how it decides.
        points: all mixtures, sorted by share.
        guards: name, number of queries and candidates of each guard.
        tuned_weights: hash of the run's best model.
        head_kept: the base had no ranking head, so every mixture has the tuned one.
        guard_changes: paired difference between the published and the tuned model on each guard.
    """

    measure: str
    rule: str
    points: list[Point]
    guards: list[dict[str, object]]
    tuned_weights: str
    head_kept: bool
    guard_changes: list[Comparison] = field(default_factory=list)

    @property
    def chosen(self) -> Point:
        """Return the published mixture."""
        return next(point for point in self.points if point.chosen)

    @property
    def changed(self) -> bool:
        """Return True if the published model is not the run's best one."""
        return self.chosen.weights != self.tuned_weights


@dataclass(frozen=True, eq=False)
class Tried:
    """A mixture with its values per query: dev first, then each guard."""

    point: Point
    folders: Sequence[Path]
    scored: Scored
    values: list[Floats]


def choose_mixture(tried: Sequence[Tried], report: Report) -> list[Tried]:
    """Mark the mixtures that may be chosen and the chosen one; see `RULE`."""
    best = max(
        (one for one in tried if one.point.share > 0), key=lambda one: (one.point.dev.mean, one.point.share)
    )
    marked = []
    for one in tried:
        to_best, near = None, True
        if one is not best:
            to_best = compare_systems(
                one.values[0],
                best.values[0],
                system=_name(one),
                baseline=_name(best),
                measure=report.measures[0],
                seed=report.seed,
            )
            near = -to_best.difference <= _standard_error(one.values[0] - best.values[0])
        allowed = one.point.share > 0 and near
        marked.append(replace(one, point=replace(one.point, to_best=to_best, allowed=allowed)))

    def worth(one: Tried) -> tuple[float, float]:
        return (one.point.guard_mean if one.point.guards else one.point.dev.mean), one.point.share

    chosen = max((one for one in marked if one.point.allowed), key=worth)
    return [replace(one, point=replace(one.point, chosen=one is chosen)) for one in marked]


def _standard_error(differences: Floats) -> float:
    """Return the standard error of the mean of (Q,) differences; 0 for a single one."""
    return float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else 0.0


def _name(tried: Tried) -> str:
    return f"{tried.point.share:g}" + (" averaged" if tried.point.checkpoints else "")


def describe_mixture(point: Point, guards: Sequence[str]) -> str:
    """Return one line for the terminal."""
    parts = [f"{point.share:g} of the tuned weights" + (" (average)" if point.checkpoints else "")]
    parts += [f"dev {point.dev.mean:.4f}"]
    parts += [f"{guard} {found.mean:.4f}" for guard, found in zip(guards, point.guards, strict=True)]
    return ", ".join(parts) + (": published" if point.chosen else "")
