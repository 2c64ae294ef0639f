"""The scale of the loss that training in fp16 needs, and the steps that are skipped on its account.

float16 reaches from 6e-8 to 65,504, and gradients are soon too small for it. So the loss is multiplied before
the backward pass and the gradients are divided after it (Micikevicius et al. 2018, arXiv:1710.03740). The
factor is sought while training runs, with the numbers of `torch.amp.GradScaler`; that one is not used, as
the norm of the gradient, which a step computes anyway, tells all there is to know, the same on every process.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)
GROWS_AFTER = 2000  # good steps
MOST_SKIPPED = 20  # in a row
SMALLEST = 1.0  # below it a gradient is itself beyond float16, and no factor helps


@dataclass
class LossScale:
    """The factor of the loss and how it came about; a checkpoint keeps all of it.

    Attributes:
        factor: of the loss, a power of 2, so that multiplying and dividing change no digit.
        good_steps: since the factor was last changed.
        skipped: steps skipped so far.
        in_a_row: how many of them just now.

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
        """Choose the next factor, after a step whose gradients were finite, or one to skip: they were not."""
        if not finite:
            self.factor, self.good_steps = self.factor / 2, 0
            self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
            return
        self.good_steps, self.in_a_row = self.good_steps + 1, 0
        if self.good_steps == GROWS_AFTER:
            self.factor, self.good_steps = 2 * self.factor, 0

    @property
    def hopeless(self) -> bool:
        """Whether a smaller factor cannot be what is missing."""
        return self.in_a_row >= MOST_SKIPPED or self.factor < SMALLEST

    def told(self) -> dict[str, float]:
        """What metrics.jsonl says of it."""
        return {"skipped_steps": self.skipped, "loss_scale": self.factor}

    def say_skipped(self, step: int) -> None:
        """One line for a step that was skipped."""
        text = "step %d: skipped, its gradients were beyond fp16; loss scale now %s, %d skipped so far"
        log.info(text, step, f"{self.factor:,.0f}", self.skipped)
