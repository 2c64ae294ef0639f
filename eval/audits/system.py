"""Run the audits of one system."""

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
    """Everything that all systems of a report share.

    Attributes:
        collection: judged queries.
        candidates: ranked candidates; None if runs brought their own documents.
        leading: first measure.
        ceiling: mean of the leading measure for the best order of the candidates.
        floor: name and mean of the first stage; None if the candidates have no order.
        missing: queries for which no system has a document; an audit of the data names them.
        leaks: test queries in the training data; None if no training data were given.
        machine: name of the machine on which the speed was measured.
        seed: seed of intervals and tests.
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
    """Return the audits of one system, in the order of the report.

    Args:
        kind: `model`, `first_stage` or `run`.
        scored: scores and counts of the system.
        ranking: ranking of the system.
        values: measure to (Q,) values.
        calibrated: calibration of its sigmoid scores; None if it has no logits.
        setting: everything that all systems share.
    """
    leading, is_model = setting.leading, kind == "model"
    first = values[str(leading)]
    checks: list[Audit | None] = [
        audits.ties(ranking, leading, _bounds(leading, ranking)),
        audits.spread(ranking, logits=is_model),
        _direction(kind, ranking, first, setting),
        audits.judged(ranking, leading),
    ]
    if is_model:
        checks.append(
            audits.headroom(leading, float(first.mean()), _floor(ranking, setting), setting.ceiling)
        )
        checks.append(_truncation(scored, ranking, first, setting))
    elif kind == "run":
        checks.append(audits.own_documents(ranking, leading, ideal(ranking)))
        checks += zeros([query for query in ranking.missing if query not in setting.missing], ())
        checks.append(audits.not_judged(scored.run, setting.collection.qrels))
    if setting.leaks is not None and setting.leaks.same.any():
        checks.append(audits.clean(values, setting.leaks.same, setting.seed))
    if calibrated is not None:
        checks.append(audits.calibrated(calibrated))
    if is_model:
        queries = len(ranking.queries) - len(ranking.missing)
        checks.append(audits.speed(scored.pairs, scored.cached, scored.seconds, queries, setting.machine))
    return [audit for audit in checks if audit is not None]


def _direction(kind: str, ranking: Ranking, values: Floats, setting: Setting) -> Audit | None:
    """Skip a first stage with relevant passages added at its end: read from there it would look better."""
    if kind == "first_stage" and setting.candidates is not None and setting.candidates.added:
        return None
    return audits.direction(ranking, setting.leading, values, setting.seed)


def _bounds(measure: Measure, ranking: Ranking) -> tuple[Floats, Floats, Floats]:
    """Return (Q,) worst, expected and best values; a large ranking is sampled by fewer orders."""
    orders = max(LEAST_ORDERS, min(MOST_ORDERS, SAMPLED_CELLS // ranking.levels.size))
    return tie_bounds(measure, ranking, orders=orders)


def _floor(ranking: Ranking, setting: Setting) -> tuple[str, float]:
    """Return name and mean of the first stage, or of a random order, which is what equal scores expect."""
    if setting.floor is not None:
        return setting.floor
    shuffled = all_equal(ranking)
    return "a random order", float(_bounds(setting.leading, shuffled)[1].mean())


def _truncation(scored: Scored, ranking: Ranking, values: Floats, setting: Setting) -> Audit:
    cut, rel = None, setting.leading.rel
    if scored.cut is not None and setting.candidates is not None:
        run, qrels = setting.candidates.run, setting.collection.qrels
        cut = audits.relevant_cut(ranking.queries, run, qrels, scored.cut, rel)
    return audits.truncation(
        scored.pairs,
        scored.truncated,
        measure=setting.leading,
        values=values,
        cut=cut,
        found=np.asarray(ranking.hits(rel).any(axis=1)),
    )
