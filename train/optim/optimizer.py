"""Optimizers with their parameter groups, and the learning-rate schedule."""

from __future__ import annotations

import logging
import re
from typing import Any

import torch

from ...configs.errors import UserError
from ...configs.schema_train import OptimSettings
from ...model.weights import is_head
from .fsdp import full, spread_like

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")


def make_optimizer(model: Any, settings: OptimSettings, *, new_head: bool) -> torch.optim.Optimizer:
    """Make the optimizer; biases and norms have no weight decay, a new head has its own rate.

    With `layer_decay` d, layer l of L (from 0) has the rate times d^(L - l), the embeddings times d^(L + 1),
    the head the full rate (Clark et al. 2020, arXiv:2003.10555, counted as in Bao et al. 2021,
    arXiv:2106.08254).

    Each group has `base_lr`, its highest learning rate, and `body`, False for a new head.
    """
    layers = 1 + max((_layer(name) or 0 for name, _ in model.named_parameters()), default=0)
    groups: dict[tuple[bool, bool, int], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            head, layer = is_head(model, name), _layer(name)
            outside = layers + 1 if "embed" in name else 1  # a final norm has the last layer's rate
            depth = 0 if head else outside if layer is None else layers - layer
            key = (new_head and head, parameter.ndim > 1, 0 if settings.layer_decay == 1 else depth)
            groups.setdefault(key, []).append(parameter)
    head_rate = settings.head_learning_rate or settings.learning_rate
    made = [
        {
            "params": parameters,
            "lr": 0.0,
            "base_lr": head_rate if head else settings.learning_rate * settings.layer_decay**depth,
            "weight_decay": settings.weight_decay if decay else 0.0,
            "body": not head,
        }
        for (head, decay, depth), parameters in groups.items()
    ]
    if settings.name == "adafactor":
        return torch.optim.Adafactor(made)
    moments: Any = {"betas": (settings.betas[0], settings.betas[1]), "eps": settings.eps}
    if settings.name == "adamw_8bit":
        return _eight_bit()(made, **moments)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")  # one pass over the memory
    return torch.optim.AdamW(made, **moments, fused=fused)


def _eight_bit() -> Any:
    """Return AdamW with block-wise 8-bit moments (Dettmers et al. 2022, arXiv:2110.02861).

    Raises:
        UserError: `bitsandbytes` is not installed or does not work here.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels we do not use
    try:
        from bitsandbytes.optim import AdamW8bit
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"optim.name=adamw_8bit: bitsandbytes cannot be used ({error})",
            advice='pip install "uprank[8bit]", or optim.name=adamw',
        ) from error
    return AdamW8bit


def rate_factor(step: int, *, steps: int, warmup_ratio: float) -> float:
    """Return the share of the highest learning rate at a step from 0: linear up from 0, linear down to 0.

    Same schedule as transformers' `get_linear_schedule_with_warmup`. Step 0 of a warm-up has rate 0: Adam's
    first update is only the sign of the gradient.

    >>> [round(rate_factor(s, steps=5, warmup_ratio=0.4), 2) for s in range(5)]
    [0.0, 0.5, 1.0, 0.67, 0.33]
    """
    warmup = min(round(steps * warmup_ratio), steps - 1)
    return step / warmup if step < warmup else (steps - step) / (steps - warmup)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set the learning rate of every group; return the body's, that of its last layer if they differ."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    body = [group["lr"] for group in optimizer.param_groups if group["body"]]
    return float(max(body or [group["lr"] for group in optimizer.param_groups]))


def _layer(name: str) -> int | None:
    """Return the number of a parameter's layer; None for embeddings and head."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def optimizer_state(
    model: Any, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, torch.Tensor]:
    """Return the optimizer's tensors and counts by parameter name, ready for safetensors.

    Args:
        model: gives the names.
        optimizer: the optimizer; states sharded by FSDP are gathered (collective).
        keep: False returns nothing: this rank only helps to gather.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    state_dict: dict[str, torch.Tensor] = {}
    seen = set()
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensor = full(torch.as_tensor(value).detach())
            if not keep:
                continue
            tensor = tensor.cpu().contiguous()
            # Parameters share tables of bitsandbytes, and safetensors refuses shared tensors.
            tensor = tensor.clone() if tensor.data_ptr() in seen else tensor
            seen.add(tensor.data_ptr())
            state_dict[f"{names[parameter]}/{key}"] = tensor
    return state_dict


def restore_optimizer(model: Any, optimizer: torch.optim.Optimizer, state: dict[str, torch.Tensor]) -> None:
    """Load tensors of `optimizer_state`."""
    parameters = dict(model.named_parameters())
    for entry, value in state.items():
        name, _, key = entry.rpartition("/")
        parameter = parameters[name]
        if key == "step" and not value.is_floating_point():
            optimizer.state[parameter][key] = int(value)  # bitsandbytes counts in Python
        else:
            # The fused AdamW has its step count on the parameter's device, the others on the CPU.
            beside = key != "step" or optimizer.defaults.get("fused")
            optimizer.state[parameter][key] = spread_like(parameter, value) if beside else value
