"""Calibration: scale and shift the raw score so that its sigmoid is a probability of relevance.

Platt 1999, Probabilistic outputs for support vector machines; his targets as in Lin, Lin and Weng 2007,
A note on Platt's probabilistic outputs for support vector machines, Machine Learning 68.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...eval.audits import calibration_of, sigmoid
from ...eval.measures import Bools, Floats, Ints, Ranking

# One parameter per ten cases of the rarer class, the usual rule for a logistic regression.
LEAST_FOR_SCALE, LEAST_FOR_SHIFT = 10, 20
CUTOFFS = tuple(number / 10 for number in range(1, 10))
STEPS = 200


@dataclass(frozen=True)
class Threshold:
    """The passages kept when those below a score are dropped.

    Attributes:
        probability: sigmoid of the score at the cut-off.
        score: published raw score at the cut-off.
        kept: candidates at or above it.
        relevant: relevant ones among them.
        precision: relevant / kept; None when nothing is kept.
        recall: relevant / all relevant candidates; passages that the first stage missed do not count.
        f1: harmonic mean of precision and recall.
        best: True for the cut-off with the largest F1.
    """

    probability: float
    score: float
    kept: int
    relevant: int
    precision: float | None
    recall: float
    f1: float
    best: bool = False


@dataclass(frozen=True)
class Calibrated:
    """The calibration of the scores, or why there is none.

    Errors are expected calibration errors: candidates fall into ten equal bins of their sigmoid score, and
    the error is the mean over candidates of |mean score - share of relevant| in their bin. Losses are mean
    log losses.

    Attributes:
        scale: published score = scale * measured score + shift; 1 without calibration.
        shift: see `scale`.
        form: `scale and shift`, `scale` (a temperature of 1 / scale), or `none`.
        reason: why there is no calibration; empty if there is one.
        over: the candidates used: `judged`, or `all` (unjudged ones count as not relevant) if the judgments
            hold only relevant documents.
        queries: dev queries of the fit.
        pairs: their candidates.
        relevant: relevant ones among them.
        error_before: of the measured scores.
        error_held_out: fitted on one half of the queries, measured on the other, both ways; None if
            nothing could be fitted.
        error_after: of the published scores, on the queries they were fitted on.
        loss_before: as `error_before`.
        loss_held_out: as `error_held_out`.
        thresholds: cut-offs of the published score, on the same candidates.
    """

    scale: float = 1.0
    shift: float = 0.0
    form: str = "none"
    reason: str = ""
    over: str = ""
    queries: int = 0
    pairs: int = 0
    relevant: int = 0
    error_before: float | None = None
    error_held_out: float | None = None
    error_after: float | None = None
    loss_before: float | None = None
    loss_held_out: float | None = None
    thresholds: list[Threshold] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Cases:
    """The N candidates of the fit: row of the query, raw score, True if relevant."""

    rows: Ints
    scores: Floats
    relevant: Bools

    def of(self, chosen: Bools) -> Cases:
        """Select cases by a (N,) bool mask."""
        return Cases(self.rows[chosen], self.scores[chosen], self.relevant[chosen])

    @property
    def rarer(self) -> int:
        """Return the number of relevant candidates or of others, whichever is smaller."""
        return int(min(self.relevant.sum(), (~self.relevant).sum()))


def calibrate(ranking: Ranking, *, seed: int, wanted: bool = True) -> Calibrated:
    """Fit scale and shift on the candidates of the dev queries, and measure them on held-out queries.

    The candidates are those of the report's calibration. With few cases only a scale is fitted, with still
    fewer nothing. A fit that does not lower the log loss of held-out queries is rejected.

    Args:
        ranking: ranking by the measured model.
        seed: splits the queries into halves.
        wanted: if False nothing is fitted; errors and thresholds are still measured.
    """
    before = calibration_of(ranking)
    if before is None:
        return Calibrated(reason="no dev query has a candidate")
    cases = find_cases(ranking, before.over)
    found = Calibrated(
        over=before.over,
        queries=len(ranking.queries),
        pairs=len(cases.scores),
        relevant=int(cases.relevant.sum()),
        error_before=before.error,
        loss_before=log_loss(cases.scores, cases.relevant),
    )
    if wanted:
        found = _fitted(found, ranking, cases, seed)
    else:
        found = replace(found, reason="switched off (`calibrate=false`)")
    error = _error(ranking, found.scale, found.shift)
    scores = found.scale * cases.scores + found.shift
    return replace(found, error_after=error, thresholds=find_thresholds(scores, cases.relevant))


def find_cases(ranking: Ranking, over: str) -> Cases:
    """Return the candidates of every query, or only the judged ones."""
    real = np.arange(ranking.scores.shape[1]) < ranking.lengths[:, None]  # (Q, K)
    if over == "judged":
        real &= ranking.levels >= 0
    rows, _ = np.nonzero(real)
    return Cases(rows, ranking.scores[real].astype(np.float64), ranking.levels[real] > 0)


def fit_calibration(cases: Cases, *, shift: bool) -> tuple[float, float]:
    """Return scale and shift of least log loss, by Newton's method; (scale, 0) without `shift`.

    The targets are Platt's (N+ + 1) / (N+ + 2) and 1 / (N- + 2), not 1 and 0: the result stays finite when
    the scores separate relevant passages from all others.
    """
    spread = float(cases.scores.std()) or 1.0
    centre = float(cases.scores.mean()) if shift else 0.0
    inputs = (cases.scores - centre) / spread
    design = np.stack([inputs, np.ones_like(inputs)], axis=1) if shift else inputs[:, None]  # (N, 2 or 1)
    positives = int(cases.relevant.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (len(inputs) - positives + 2)
    targets = np.where(cases.relevant, high, low)

    def loss(values: Floats) -> float:
        logits = design @ values
        return float((np.logaddexp(0.0, logits) - targets * logits).sum())

    values = np.zeros(design.shape[1])
    for _ in range(STEPS):
        chances = sigmoid(design @ values)
        gradient = design.T @ (chances - targets)
        if np.abs(gradient).max() < 1e-10 * len(inputs):
            break
        curvature = (design * (chances * (1 - chances))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(values)), gradient)
        size = 1.0
        while size > 1e-10 and loss(values - size * step) > loss(values):  # convex: a small step goes down
            size /= 2
        values = values - size * step
    scale = float(values[0]) / spread
    return scale, float(values[1]) - scale * centre if shift else 0.0


def log_loss(scores: Floats, relevant: Bools) -> float:
    """Return the mean of -ln of the probability that the sigmoid gives to the true label."""
    return float((np.logaddexp(0.0, scores) - relevant * scores).mean())


def base_rate_loss(relevant: Bools) -> float:
    """Return the `log_loss` of the constant probability, the share of relevant cases."""
    share = float(relevant.mean())
    return log_loss(np.full(len(relevant), np.log(share / (1 - share))), relevant)


def find_thresholds(scores: Floats, relevant: Bools) -> list[Threshold]:
    """Return cut-offs at probabilities of 0.1 to 0.9 and the one with the largest F1.

    Args:
        scores: (N,) published raw scores.
        relevant: (N,) bool.
    """
    if not relevant.any():
        return []
    found = [_threshold(scores, relevant, float(np.log(p / (1 - p))), p) for p in CUTOFFS]
    values = np.unique(scores)  # ascending
    # Between two scores and rounded, so that the printed cut-off keeps the stated passages.
    between = np.unique(np.round((values[1:] + values[:-1]) / 2, 3)) if len(values) > 1 else values - 1.0
    rows = [_threshold(scores, relevant, float(cut)) for cut in between]
    best = max(rows, key=lambda row: row.f1)
    return sorted([*found, replace(best, best=True)], key=lambda row: row.score)


def _threshold(scores: Floats, relevant: Bools, cut: float, probability: float | None = None) -> Threshold:
    kept = scores >= cut
    count, hits, every = int(kept.sum()), int((kept & relevant).sum()), int(relevant.sum())
    chance = float(sigmoid(np.array(cut))) if probability is None else probability
    precision = hits / count if count else None
    return Threshold(chance, cut, count, hits, precision, hits / every, 2 * hits / (count + every))


def _fitted(found: Calibrated, ranking: Ranking, cases: Cases, seed: int) -> Calibrated:
    """Add scale and shift, or the reason why there are none."""
    few = f"{found.relevant} relevant among {found.pairs} candidates"
    if cases.rarer < LEAST_FOR_SCALE:
        least = f"at least {LEAST_FOR_SCALE} relevant and as many others are needed"
        return replace(found, reason=f"too few dev judgments: {few}; {least}")
    if not cases.scores.std() > 0:
        return replace(found, reason="all dev candidates have the same score")
    shift = cases.rarer >= LEAST_FOR_SHIFT
    scale, offset = fit_calibration(cases, shift=shift)
    if not scale > 0:
        return replace(found, reason="relevant dev candidates do not score higher than others")
    held_out = _held_out(ranking, cases, shift=shift, seed=seed)
    if held_out is None:
        return replace(found, reason=f"too few dev judgments to test it on other queries: {few}")
    scores, error = held_out
    loss = log_loss(scores, cases.relevant)
    found = replace(found, error_held_out=error, loss_held_out=loss)
    if found.loss_before is not None and not loss < found.loss_before:
        return replace(found, reason="it does not lower the log loss of queries that it was not fitted on")
    # A scale cannot make all scores low: without a shift it may do no better than the constant share.
    if not shift and not loss < (constant := base_rate_loss(cases.relevant)):
        return replace(
            found,
            reason=f"{few} allow a scale alone, and on queries that it was not fitted on its log loss is "
            f"{loss:.3f}, that of the share of relevant ones, said of every candidate, {constant:.3f}",
        )
    return replace(found, scale=scale, shift=offset, form="scale and shift" if shift else "scale")


def _held_out(ranking: Ranking, cases: Cases, *, shift: bool, seed: int) -> tuple[Floats, float] | None:
    """Return (N,) scores, each by the fit on the other half of the queries, and their calibration error."""
    halves = _halves(len(ranking.queries), cases, seed)
    scales, shifts = np.ones(len(halves)), np.zeros(len(halves))
    for half in (0, 1):
        others = cases.of(halves[cases.rows] != half)
        if not others.rarer or not others.scores.std() > 0:
            return None
        scales[halves == half], shifts[halves == half] = fit_calibration(others, shift=shift)
    error = _error(ranking, scales[:, None], shifts[:, None])
    return scales[cases.rows] * cases.scores + shifts[cases.rows], error


def _error(ranking: Ranking, scale: float | Floats, shift: float | Floats) -> float:
    """Return the calibration error of the scaled and shifted scores, in float64 as in the fit."""
    scores: Any = scale * ranking.scores.astype(np.float64) + shift
    after = calibration_of(replace(ranking, scores=scores))
    assert after is not None, "calibrate has found candidates"
    return after.error


def _halves(queries: int, cases: Cases, seed: int) -> Ints:
    """Return 0 or 1 per query, (Q,): random halves, equal in queries with a relevant candidate."""
    order = np.random.default_rng(seed).permutation(queries)
    found = np.bincount(cases.rows[cases.relevant], minlength=queries) > 0
    order = np.concatenate([order[found[order]], order[~found[order]]])
    halves = np.zeros(queries, dtype=np.int64)
    halves[order[1::2]] = 1
    return halves
