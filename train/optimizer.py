"""AdamW with its parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

from typing import Any

import torch

from ..configs.schema import OptimSettings

_HEAD = ("classifier.", "pooler.", "score.")


def make_optimizer(model: Any, settings: OptimSettings, *, new_head: bool) -> torch.optim.AdamW:
    """AdamW over the model; biases and norms without decay, a new head with its own rate.

    Each group carries `base_lr`, its highest learning rate.
    """
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            head = new_head and any(part in name for part in _HEAD)
            groups.setdefault((head, parameter.ndim > 1), []).append(parameter)
    head_rate = settings.head_learning_rate or settings.learning_rate
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": 0.0,
                "base_lr": head_rate if head else settings.learning_rate,
                "weight_decay": settings.weight_decay if decay else 0.0,
            }
            for (head, decay), parameters in groups.items()
        ],
        betas=(settings.betas[0], settings.betas[1]),
        eps=settings.eps,
        fused=next(model.parameters()).device.type in ("cpu", "cuda"),  # one pass over the memory
    )


def rate_factor(step: int, *, steps: int, warmup_ratio: float) -> float:
    """Share of the highest learning rate at a step counted from 0: linear up, then linear down to 0.

    Step 0 already learns (1 / warm-up steps), and the last step does too.

    >>> [round(rate_factor(s, steps=4, warmup_ratio=0.5), 2) for s in range(4)]
    [0.5, 1.0, 0.67, 0.33]
    """
    warmup = round(steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / (steps - warmup + (1 if warmup else 0))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group to its share and return the body's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(min(group["lr"] for group in optimizer.param_groups))


def optimizer_state(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's tensors by parameter name, ready for safetensors."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value.detach().cpu().contiguous()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_optimizer(model: Any, optimizer: torch.optim.Optimizer, state: dict[str, torch.Tensor]) -> None:
    """Put tensors of `optimizer_state` back."""
    parameters = dict(model.named_parameters())
    for entry, value in state.items():
        name, _, key = entry.rpartition("/")
        parameter = parameters[name]
        # The fused AdamW has its step count beside the parameter, the others on the CPU.
        beside = key != "step" or optimizer.defaults["fused"]
        optimizer.state[parameter][key] = value.to(parameter.device) if beside else value
