"""Loss scaling for training in fp16, and the steps that it skips.

float16 reaches from 6e-8 to 65,504, and gradients are often below. So the loss is multiplied by a factor
before the backward pass and the gradients are divided by it afterwards (Micikevicius et al. 2018,
arXiv:1710.03740). Training adapts the factor with the constants of `torch.amp.GradScaler`. That class is not
used: the gradient norm, which every step computes anyway, is all that is needed, and equal on every rank.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)
GROWS_AFTER = 2000  # good steps
MOST_SKIPPED = 20  # in a row
SMALLEST = 1.0  # below it the gradient itself overflows float16, and no factor helps


@dataclass
class LossScale:
    """The loss factor and its history; checkpoints keep all of it.

    Attributes:
        factor: a power of 2, so that multiplying and dividing are exact.
        good_steps: steps since the last change of the factor.
        skipped: steps skipped so far.
        in_a_row: steps skipped since the last good one.

    >>> scale = LossScale()
    >>> scale.update(finite=False)
    >>> scale.factor, scale.skipped
    (32768.0, 1)
    """

    factor: float = 65_536.0
    good_steps: int = 0
    skipped: int = 0
    in_a_row: int = 0

    def update(self, *, finite: bool) -> None:
        """Choose the next factor after a step with finite gradients, or one to skip."""
        if not finite:
            self.factor, self.good_steps = self.factor / 2, 0
            self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
            return
        self.good_steps, self.in_a_row = self.good_steps + 1, 0
        if self.good_steps == GROWS_AFTER:
            self.factor, self.good_steps = 2 * self.factor, 0

    @property
    def hopeless(self) -> bool:
        """True if a smaller factor will not help."""
        return self.in_a_row >= MOST_SKIPPED or self.factor < SMALLEST

    def stats(self) -> dict[str, float]:
        """Return the values for metrics.jsonl."""
        return {"skipped_steps": self.skipped, "loss_scale": self.factor}

    def log_skipped(self, step: int) -> None:
        """Log a skipped step."""
        text = "step %d: skipped, its gradients were beyond fp16; loss scale now %s, %d skipped so far"
        log.info(text, step, f"{self.factor:,.0f}", self.skipped)
