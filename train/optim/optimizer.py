"""The optimisers with their parameter groups, and the learning rate as a function of the step."""

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
    """The optimiser over what is trained; biases and norms without decay, a new head with its own rate.

    With `layer_decay` d, layer l of L (from 0) learns at d^(L - l) of the rate, the embeddings at
    d^(L + 1), the head at the whole rate (Clark et al. 2020, arXiv:2003.10555, counted as by Bao et al. 2021,
    arXiv:2106.08254).

    Each group carries `base_lr`, its highest learning rate, and `body`, whether it is no part of a new head.
    """
    layers = 1 + max((_layer(name) or 0 for name, _ in model.named_parameters()), default=0)
    groups: dict[tuple[bool, bool, int], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            head, layer = is_head(model, name), _layer(name)
            outside = layers + 1 if "embed" in name else 1  # a last norm goes with the last layer
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
    """AdamW with moments of 8 bit, block by block (Dettmers et al. 2022, arXiv:2110.02861).

    Raises:
        UserError: `bitsandbytes` is not installed, or cannot work here.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # what it has no kernels for is not used
    try:
        from bitsandbytes.optim import AdamW8bit
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"optim.name=adamw_8bit: bitsandbytes cannot be used ({error})",
            advice='pip install "uprank[8bit]", or optim.name=adamw',
        ) from error
    return AdamW8bit


def rate_factor(step: int, *, steps: int, warmup_ratio: float) -> float:
    """Share of the highest learning rate at a step counted from 0: linear up from 0, then linear down to 0.

    That of transformers' `get_linear_schedule_with_warmup`. In the first step of a warm-up Adam only begins
    its moments: of a single gradient they are its signs, and every weight would move alike.

    >>> [round(rate_factor(s, steps=5, warmup_ratio=0.4), 2) for s in range(5)]
    [0.0, 0.5, 1.0, 0.67, 0.33]
    """
    warmup = min(round(steps * warmup_ratio), steps - 1)
    return step / warmup if step < warmup else (steps - step) / (steps - warmup)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group to its share and return the body's learning rate, of its last layer if they differ."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    body = [group["lr"] for group in optimizer.param_groups if group["body"]]
    return float(max(body or [group["lr"] for group in optimizer.param_groups]))


def _layer(name: str) -> int | None:
    """Number of the layer that a parameter belongs to; None for embeddings and head."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def optimizer_state(
    model: Any, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, torch.Tensor]:
    """The optimiser's tensors and counts by parameter name, ready for safetensors.

    Args:
        model: has the names.
        optimizer: where parameters are shared out (FSDP), every process has to ask, and gets whole ones.
        keep: False gives nothing: this process only helps to gather.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, torch.Tensor] = {}
    shared = set()
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensor = full(torch.as_tensor(value).detach())
            if not keep:
                continue
            tensor = tensor.cpu().contiguous()
            # The parameters have tables of bitsandbytes in common, which safetensors refuses.
            tensor = tensor.clone() if tensor.data_ptr() in shared else tensor
            shared.add(tensor.data_ptr())
            found[f"{names[parameter]}/{key}"] = tensor
    return found


def restore_optimizer(model: Any, optimizer: torch.optim.Optimizer, state: dict[str, torch.Tensor]) -> None:
    """Put tensors of `optimizer_state` back."""
    parameters = dict(model.named_parameters())
    for entry, value in state.items():
        name, _, key = entry.rpartition("/")
        parameter = parameters[name]
        if key == "step" and not value.is_floating_point():
            optimizer.state[parameter][key] = int(value)  # bitsandbytes counts in Python
        else:
            # The fused AdamW has its step count beside the parameter, the others on the CPU.
            beside = key != "step" or optimizer.defaults.get("fused")
            optimizer.state[parameter][key] = spread_like(parameter, value) if beside else value
