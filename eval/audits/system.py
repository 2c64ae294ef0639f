"""Which audits a system gets, and from what they are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...data.groups import Collection
from ..measures import Floats, Measure, Ranking, all_equal, ideal, tie_bounds
from ..results import Audit, Calibration
from ..retrieval import Candidates
from ..scoring import Scored
from . import scores as audits
from .data import Leaks, zeros

LEAST_ORDERS, MOST_ORDERS, SAMPLED_CELLS = 5, 100, 2**25  # bounds the time at seconds


@dataclass(frozen=True, eq=False)
class Setting:
    """What all systems of a report have in common.

    Attributes:
        collection: the judged queries.
        candidates: what was ranked; None where runs brought their own documents.
        leading: the first measure.
        ceiling: its mean for the best order of the candidates.
        floor: name and mean of the first stage; None where the candidates have no order.
        missing: queries for which no system has a document; the report says so.
        leaks: test queries in the training data; None where no training data were given.
        machine: what the speed was measured on.
        seed: of intervals and tests.
    """

    collection: Collection
    candidates: Candidates | None
    leading: Measure
    ceiling: float
    floor: tuple[str, float] | None
    missing: frozenset[str]
    leaks: Leaks | None
    machine: str
    seed: int


def audit_system(
    kind: str,
    scored: Scored,
    ranking: Ranking,
    values: Mapping[str, Floats],
    calibrated: Calibration | None,
    setting: Setting,
) -> list[Audit]:
    """The audits of one system, in the order in which they are told.

    Args:
        kind: `model`, `first_stage` or `run`.
        scored: its scores and counts.
        ranking: its ranking.
        values: measure to (Q,) values.
        calibrated: calibration of its sigmoid scores; None for what has no logits.
        setting: what all systems have in common.
    """
    leading, is_model = setting.leading, kind == "model"
    own = values[str(leading)]
    found: list[Audit | None] = [
        audits.ties(ranking, leading, _bounds(leading, ranking)),
        audits.spread(ranking, logits=is_model),
        _direction(kind, ranking, own, setting),
        audits.judged(ranking, leading),
    ]
    if is_model:
        found.append(audits.headroom(leading, float(own.mean()), _floor(ranking, setting), setting.ceiling))
        found.append(_truncation(scored, ranking, own, setting))
    elif kind == "run":
        found.append(audits.own_documents(ranking, leading, ideal(ranking)))
        found += zeros([query for query in ranking.missing if query not in setting.missing], ())
        found.append(audits.not_judged(scored.run, setting.collection.qrels))
    if setting.leaks is not None and setting.leaks.same.any():
        found.append(audits.clean(values, setting.leaks.same, setting.seed))
    if calibrated is not None:
        found.append(audits.calibrated(calibrated))
    if is_model:
        queries = len(ranking.queries) - len(ranking.missing)
        found.append(audits.speed(scored.pairs, scored.cached, scored.seconds, queries, setting.machine))
    return [audit for audit in found if audit is not None]


def _direction(kind: str, ranking: Ranking, own: Floats, setting: Setting) -> Audit | None:
    """None for a first stage at whose end relevant passages were put in: read from there it looks better."""
    if kind == "first_stage" and setting.candidates is not None and setting.candidates.added:
        return None
    return audits.direction(ranking, setting.leading, own, setting.seed)


def _bounds(measure: Measure, ranking: Ranking) -> tuple[Floats, Floats, Floats]:
    """(Q,) worst, expected, best; where the expectation is sampled, by fewer orders of a large ranking."""
    orders = max(LEAST_ORDERS, min(MOST_ORDERS, SAMPLED_CELLS // ranking.levels.size))
    return tie_bounds(measure, ranking, orders=orders)


def _floor(ranking: Ranking, setting: Setting) -> tuple[str, float]:
    """The first stage; without one a random order, which is what equal scores expect."""
    if setting.floor is not None:
        return setting.floor
    shuffled = all_equal(ranking)
    return "a random order", float(_bounds(setting.leading, shuffled)[1].mean())


def _truncation(scored: Scored, ranking: Ranking, values: Floats, setting: Setting) -> Audit:
    cut: np.ndarray | None = None
    if scored.cut is not None and setting.candidates is not None:
        collection = setting.collection
        cut = audits.relevant_cut(ranking.queries, setting.candidates.run, collection.qrels, scored.cut)
    return audits.truncation(scored.pairs, scored.truncated, measure=setting.leading, values=values, cut=cut)
