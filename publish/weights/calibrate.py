"""Calibration: a scale and a shift of the raw score, so that its sigmoid is a probability of relevance.

Platt 1999, Probabilistic outputs for support vector machines; with his targets, as in Lin, Lin and Weng 2007,
A note on Platt's probabilistic outputs for support vector machines, Machine Learning 68.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...eval.audits import calibration_of, sigmoid
from ...eval.measures import Bools, Floats, Ints, Ranking

# One parameter for every ten cases of the rarer kind, the usual rule for a logistic regression.
LEAST_FOR_SCALE, LEAST_FOR_SHIFT = 10, 20
CUTOFFS = tuple(number / 10 for number in range(1, 10))
STEPS = 200


@dataclass(frozen=True)
class Threshold:
    """What is kept when passages below a score are dropped.

    Attributes:
        probability: sigmoid of the score at the cut-off.
        score: the published raw score there.
        kept: candidates at or above it.
        relevant: relevant ones among them.
        precision: relevant / kept; None when nothing is kept.
        recall: relevant / all relevant candidates; what the first stage missed is not counted.
        f1: harmonic mean of the two.
        best: the cut-off with the largest F1.
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
    """How sigmoid scores were made probabilities, or why they were not.

    Errors are expected calibration errors: candidates are put into ten equal bins of their sigmoid score;
    the mean over candidates of |mean score - share of relevant| of their bin. Losses are mean log losses.

    Attributes:
        scale: published score = scale * measured score + shift; 1 when nothing was done.
        shift: see `scale`.
        form: `scale and shift`, `scale` (a temperature of 1 / scale), or `none`.
        reason: why nothing was done; empty when something was.
        over: `judged` candidates; or `all`, unjudged ones counted as not relevant, where the judgments hold
            only relevant documents.
        queries: dev queries fitted on.
        pairs: candidates of them.
        relevant: relevant ones among them.
        error_before: of the measured scores.
        error_held_out: fitted on one half of the queries and measured on the other, both ways; None when
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
    """The N candidates that are fitted on: row of the query, raw score, whether it is relevant."""

    rows: Ints
    scores: Floats
    relevant: Bools

    def of(self, chosen: Bools) -> Cases:
        """Some of them, (N,) bool."""
        return Cases(self.rows[chosen], self.scores[chosen], self.relevant[chosen])

    @property
    def rarer(self) -> int:
        """Relevant candidates or others, whichever are fewer."""
        return int(min(self.relevant.sum(), (~self.relevant).sum()))


def calibrate(ranking: Ranking, *, seed: int, wanted: bool = True) -> Calibrated:
    """Fit scale and shift on the candidates of the dev queries and say what it does to other queries.

    The same candidates count as in the report's calibration. Few cases give a scale alone, still fewer
    nothing. What does not lower the log loss of queries it was not fitted on is not done.

    Args:
        ranking: of the model that was measured.
        seed: decides which queries are in which half.
        wanted: without it nothing is fitted; errors before and thresholds are found all the same.
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
    if not wanted:
        found = replace(found, reason="switched off (`calibrate=false`)")
    else:
        found = _fitted(found, ranking, cases, seed)
    scores = found.scale * cases.scores + found.shift
    mapped: Any = found.scale * ranking.scores.astype(np.float64) + found.shift  # as exact as the fit
    after = calibration_of(replace(ranking, scores=mapped))
    assert after is not None, "there were candidates before"
    return replace(found, error_after=after.error, thresholds=find_thresholds(scores, cases.relevant))


def find_cases(ranking: Ranking, over: str) -> Cases:
    """The candidates of every query, or only the judged ones."""
    real = np.arange(ranking.scores.shape[1]) < ranking.lengths[:, None]  # (Q, K)
    if over == "judged":
        real &= ranking.levels >= 0
    rows, _ = np.nonzero(real)
    return Cases(rows, ranking.scores[real].astype(np.float64), ranking.levels[real] > 0)


def fit_calibration(cases: Cases, *, shift: bool) -> tuple[float, float]:
    """Scale and shift of least log loss, by Newton's method; (scale, 0) without `shift`.

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
    """Mean of -ln of the probability that the sigmoid gives to what is the case."""
    return float((np.logaddexp(0.0, scores) - relevant * scores).mean())


def base_rate_loss(relevant: Bools) -> float:
    """`log_loss` where every case is given the share of relevant ones as its probability."""
    share = float(relevant.mean())
    return log_loss(np.full(len(relevant), np.log(share / (1 - share))), relevant)


def find_thresholds(scores: Floats, relevant: Bools) -> list[Threshold]:
    """Cut-offs at probabilities of 0.1 to 0.9 and the one of the largest F1.

    Args:
        scores: (N,) published raw scores.
        relevant: (N,) bool.
    """
    if not relevant.any():
        return []
    found = [_threshold(scores, relevant, float(np.log(p / (1 - p))), p) for p in CUTOFFS]
    values = np.unique(scores)  # ascending
    # Between two scores and rounded, so that the cut-off that is printed keeps what is stated.
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
    """With scale and shift, or with the reason why there are none."""
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
    # A scale cannot make every score a low one: without a shift it may do no better than saying nothing.
    if not shift and not loss < (constant := base_rate_loss(cases.relevant)):
        return replace(
            found,
            reason=f"{few} allow a scale alone, and on queries that it was not fitted on its log loss is "
            f"{loss:.3f}, that of the share of relevant ones, said of every candidate, {constant:.3f}",
        )
    return replace(found, scale=scale, shift=offset, form="scale and shift" if shift else "scale")


def _held_out(ranking: Ranking, cases: Cases, *, shift: bool, seed: int) -> tuple[Floats, float] | None:
    """(N,) scores, each by what was fitted on the other half of the queries, and their calibration error."""
    halves = _halves(len(ranking.queries), cases, seed)
    scales, shifts = np.ones(len(halves)), np.zeros(len(halves))
    for half in (0, 1):
        others = cases.of(halves[cases.rows] != half)
        if not others.rarer or not others.scores.std() > 0:
            return None
        scales[halves == half], shifts[halves == half] = fit_calibration(others, shift=shift)
    scores = scales[:, None] * ranking.scores.astype(np.float64) + shifts[:, None]
    mapped: Any = scores  # as exact as the fit
    after = calibration_of(replace(ranking, scores=mapped))
    assert after is not None, "there were candidates before"
    return scales[cases.rows] * cases.scores + shifts[cases.rows], after.error


def _halves(queries: int, cases: Cases, seed: int) -> Ints:
    """(Q,) 0 or 1: a random half, such that both have as many queries with a relevant candidate."""
    order = np.random.default_rng(seed).permutation(queries)
    found = np.bincount(cases.rows[cases.relevant], minlength=queries) > 0
    order = np.concatenate([order[found[order]], order[~found[order]]])
    halves = np.zeros(queries, dtype=np.int64)
    halves[order[1::2]] = 1
    return halves
