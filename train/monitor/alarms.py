"""Alarms: signs of an unhealthy run, one line each, while it can still be stopped."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

# Rows (logged steps) that a judgement takes into account; a few steps prove nothing.
LONG, MIDDLE, SHORT = 50, 20, 10
NO_RATE = 3  # rows with a learning rate of 0; the first of a warm-up and the last of a decay may have it
STUCK = 0.98  # share of the loss of equal scores
DIVERGED, SPIKE = 1.02, 2.0  # likewise
SMALLEST_SPREAD = 1e-4  # of raw scores within a group, standard deviation
COLLAPSED = 0.01  # share of the largest spread of the run
EXPLOSION = 20.0  # times the usual gradient norm
LEARNED = 0.1  # share of the loss of equal scores: little is left to learn
FALLS = 2  # evaluations in a row below the base, or the best; one proves nothing


@dataclass(frozen=True)
class Alarm:
    """A sign of an unhealthy run.

    Attributes:
        kind: `stuck`, `diverged`, `collapse`, `explosion`, `no_rate`, `below_base` or `overfit`.
        text: the observation and what to try.
    """

    kind: str
    text: str


@dataclass
class Health:
    """The health of a run, judged by its rows of metrics.jsonl.

    There is no other source, so a continued run raises the same alarms after it was fed its rows again.

    Attributes:
        judge_base: False if the base's head was random, so that beating it proves nothing.
        active: kinds that are on; an alarm is raised when its kind comes on, and again after it was off.
    """

    judge_base: bool = True
    active: set[str] = field(default_factory=set)
    _rows: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=LONG))
    _most_spread: float = 0.0
    _base: float | None = None
    _dev: list[float] = field(default_factory=list)

    def update(self, row: Mapping[str, Any]) -> list[Alarm]:
        """Return the alarms that come on with this row of metrics.jsonl.

        Args:
            row: either `dev` (measure to value; the first one counts, step 0 is the base), or `loss`,
                `loss_of_equal_scores`, `score_spread`, `grad_norm` and `learning_rate` of a step; a row
                without `grad_norm` is a skipped step and is ignored.
        """
        if "dev" not in row and "grad_norm" not in row:
            return []
        if "dev" in row:
            kinds = {"below_base", "overfit"}
            alarms = self._judge_dev(row["step"], *next(iter(row["dev"].items())))
        else:
            kinds = {"stuck", "diverged", "collapse", "explosion", "no_rate"}
            alarms = self._judge_step(row)
        new = [alarm for alarm in alarms if alarm.kind not in self.active]
        self.active = (self.active - kinds) | {alarm.kind for alarm in alarms}
        return new

    def _judge_step(self, row: Mapping[str, float]) -> list[Alarm]:
        before = [known["grad_norm"] for known in self._rows]
        self._rows.append(row)
        rows = list(self._rows)
        alarms = [self._diverged(rows[-MIDDLE:]) or self._stuck(rows), self._collapse(rows[-SHORT:])]
        # A new head starts with small gradients, which grow while the loss falls: no explosion.
        worse = row["loss"] > row["loss_of_equal_scores"]
        usual = median(before) if before else 0.0
        if len(before) >= SHORT and worse and row["grad_norm"] > EXPLOSION * usual > 0:
            text = (
                f"gradient norm {row['grad_norm']:.3g}, usual is {usual:.3g}, and the loss of the step, "
                f"{row['loss']:.3g}, is above that of equal scores: the step was scaled down by "
                "optim.max_grad_norm; if it comes again, lower optim.learning_rate or use more warm-up"
            )
            alarms.append(Alarm("explosion", text))
        if len(rows) >= NO_RATE and all(known["learning_rate"] == 0 for known in rows[-NO_RATE:]):
            text = "the learning rate is 0: nothing is learned; set optim.learning_rate"
            alarms.append(Alarm("no_rate", text))
        return [alarm for alarm in alarms if alarm]

    def _diverged(self, recent: list[Mapping[str, float]]) -> Alarm | None:
        """A loss above that of equal scores that does not fall: the scores are worse than none."""
        # One step of a huge loss proves nothing.
        shares = [min(row["loss"] / (row["loss_of_equal_scores"] or math.inf), SPIKE) for row in recent]
        if len(shares) < MIDDLE or fmean(shares) <= DIVERGED or fmean(shares[SHORT:]) < fmean(shares[:SHORT]):
            return None
        return Alarm(
            "diverged",
            f"in the last {MIDDLE} logged steps the loss was {fmean(shares):.2f} times that of equal scores "
            "for all passages, and it does not fall: the run has diverged. Start anew with a lower "
            "optim.learning_rate and more warm-up; if it is low already, look at the labels",
        )

    def _stuck(self, rows: list[Mapping[str, float]]) -> Alarm | None:
        if len(rows) < LONG:
            return None
        loss, chance = fmean(row["loss"] for row in rows), fmean(row["loss_of_equal_scores"] for row in rows)
        if not loss >= STUCK * chance > 0:
            return None
        return Alarm(
            "stuck",
            f"in the last {LONG} logged steps the loss was {loss:.4g}, and equal scores for all passages "
            f"have {chance:.4g}: nothing is learned. Try a higher optim.learning_rate, and look at the rows: "
            "are the negatives really worse than the positives?",
        )

    def _collapse(self, recent: list[Mapping[str, float]]) -> Alarm | None:
        if len(recent) < SHORT:
            return None
        spread = fmean(row["score_spread"] for row in recent)
        self._most_spread = max(self._most_spread, spread)
        if spread > max(SMALLEST_SPREAD, COLLAPSED * self._most_spread):
            return None
        return Alarm(
            "collapse",
            f"the scores of a group's passages no longer differ (standard deviation {spread:.2g}, at most "
            f"{self._most_spread:.2g}): the model has collapsed. Start anew with a lower optim.learning_rate "
            "and more warm-up",
        )

    def _judge_dev(self, step: int, measure: str, value: float) -> list[Alarm]:
        if not step:
            self._base = value
            return []
        self._dev.append(value)
        alarms = []
        recent = self._dev[-FALLS:]
        if self.judge_base and self._base is not None and len(recent) == FALLS and max(recent) < self._base:
            text = (
                f"dev {measure} {value:.4f} is below the base's {self._base:.4f}, as it was before: training "
                "makes it worse. Lower optim.learning_rate, check the negatives (false ones?), or stop"
            )
            alarms.append(Alarm("below_base", text))
        best, last = max(self._dev), self._dev[-FALLS - 1 :]
        falling = len(last) > FALLS and all(later < best for later in last[-FALLS:]) and last[-1] < last[0]
        rows = list(self._rows)[-SHORT:]
        if falling and rows:
            loss, chance = (fmean(row[key] for row in rows) for key in ("loss", "loss_of_equal_scores"))
            if loss < LEARNED * chance:
                text = (
                    f"the training loss is {loss:.3g} (equal scores: {chance:.3g}) while dev {measure} "
                    f"falls, {value:.4f} after {best:.4f}: overfit. The best model is kept; stop here, or "
                    "use fewer train.epochs, more data, or train.patience"
                )
                alarms.append(Alarm("overfit", text))
        return alarms
