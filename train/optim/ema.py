"""A moving average of the weights, which ranks more steadily than the weights of any single step.

Polyak and Juditsky 1992; with exponential weights and this warm-up as TensorFlow's ExponentialMovingAverage
(`num_updates`) and diffusers' EMAModel have it. The averages are kept with the states of the optimiser, so
that checkpoints hold them as well.
"""

from __future__ import annotations

import torch

from .fsdp import local

KEY = "average"  # among the optimiser's states of a parameter


def decay_at(step: int, decay: float) -> float:
    """Share of the old average after step `step`, counted from 1.

    The average begins as the weights after the first step. Without the warm-up those of the base would make
    up 90 % of it after a hundred steps at 0.999, and nothing would be seen of a short run.

    >>> [round(decay_at(step, 0.999), 3) for step in (2, 11, 101, 10_000)]
    [0.182, 0.55, 0.918, 0.999]
    """
    return min(decay, step / (step + 9))


@torch.no_grad()
def update_average(optimizer: torch.optim.Optimizer, decay: float | None, step: int) -> None:
    """Move the averages to the weights after step `step`, counted from 1; nothing where `decay` is None."""
    if decay is None:
        return
    for parameter, state in optimizer.state.items():
        if KEY in state:
            weights = local(parameter.detach()).to(state[KEY].dtype)
            local(state[KEY]).lerp_(weights, 1 - decay_at(step, decay))
        else:
            state[KEY] = parameter.detach().to(torch.float32, copy=True)
