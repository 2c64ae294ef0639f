"""An exponential moving average of the weights, which ranks more steadily than the weights of one step.

Polyak and Juditsky 1992; the warm-up is that of TensorFlow's ExponentialMovingAverage (`num_updates`) and
diffusers' EMAModel. The averages are part of the optimizer state, so checkpoints hold them.
"""

from __future__ import annotations

import torch

from .fsdp import local

KEY = "average"  # in the optimizer state of a parameter
PIECE = 1 << 22  # numbers swapped at a time, to avoid a second copy of the word table


def decay_at(step: int, decay: float) -> float:
    """Return the share of the old average after step `step`, counted from 1.

    The average starts as the weights after step 1. Without the warm-up the base's weights would still make up
    90 % of it after a hundred steps at 0.999, and a short run would show nothing.

    >>> [round(decay_at(step, 0.999), 3) for step in (2, 11, 101, 10_000)]
    [0.182, 0.55, 0.918, 0.999]
    """
    return min(decay, step / (step + 9))


@torch.no_grad()
def update_average(optimizer: torch.optim.Optimizer, decay: float | None, step: int) -> None:
    """Update the averages after step `step`, counted from 1; do nothing if `decay` is None."""
    if decay is None:
        return
    for parameter, state in optimizer.state.items():
        if KEY in state:
            weights = local(parameter.detach()).to(state[KEY].dtype)
            local(state[KEY]).lerp_(weights, 1 - decay_at(step, decay))
        else:
            state[KEY] = parameter.detach().to(torch.float32, copy=True)


@torch.no_grad()
def swap_average(optimizer: torch.optim.Optimizer) -> None:
    """Swap every weight with its average, in place and bit for bit."""
    for parameter, state in optimizer.state.items():
        if KEY in state:
            pieces = (tensor.view(-1).split(PIECE) for tensor in map(local, (parameter.detach(), state[KEY])))
            for weights, average in zip(*pieces, strict=True):
                held = weights.clone()
                weights.copy_(average)
                average.copy_(held)
