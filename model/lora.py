"""LoRA: low-rank adapters trained in place of the layers' weights, and folded into them on saving.

Hu et al. 2021, arXiv:2106.09685. The adapters are those of `peft`; this file adds them to a reranker, and
returns the plain model that everybody can load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..configs.errors import UserError
from .weights import is_head


def add_adapters(model: Any, *, rank: int, alpha: float | None, targets: Sequence[str], seed: int) -> int:
    """Add adapters to the linear layers of a model's body; the body is frozen, the head is trained.

    The adapters' inputs have no dropout: it could not be the same for every token budget (contract 1).

    Args:
        model: a transformers `…ForSequenceClassification`; changed in place.
        rank: rank of the adapters.
        alpha: the product of the matrices is scaled by alpha / rank; twice the rank if None.
        targets: last parts of the names of the layers that get an adapter.
        seed: seed of the adapters' first matrices; the second ones start at 0, which changes nothing yet.

    Returns:
        Number of trained parameters.

    Raises:
        UserError: `peft` is not installed, or a target names no linear layer of the body.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            "model.lora.rank: peft is not installed", advice='pip install "uprank[peft]"'
        ) from error
    inside = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    body = [name for name in inside if not is_head(model, name)]
    unknown = [target for target in targets if not any(name.endswith(f".{target}") for name in body)]
    if unknown or not targets:
        last = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in body))
        raise UserError(
            [f"model.lora.targets: no layer of the body is called {target!r}" for target in unknown]
            or ["model.lora.targets is empty"],
            advice=f"Linear layers of this model: {last}.",
        )
    chosen = [name for name in body if any(name.endswith(f".{target}") for target in targets)]
    scaled: Any = 2 * rank if alpha is None else alpha  # peft says int, and divides
    config = LoraConfig(r=rank, lora_alpha=scaled, target_modules=chosen, lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if is_head(model, name):
            parameter.requires_grad_(True)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def adapted(layer: Any) -> tuple[Any, torch.Tensor, torch.Tensor, float] | None:
    """Return an adapter's layer, matrices (r, in) and (out, r), and scale; None without an adapter."""
    base = getattr(layer, "base_layer", None)
    if base is None:
        return None
    (name,) = layer.active_adapters
    return base, layer.lora_A[name].weight, layer.lora_B[name].weight, float(layer.scaling[name])


def plain_state(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights as a plain model's: products of adapters are added to the layers' weights."""
    state = {name: tensor for name, tensor in model.state_dict().items() if ".lora_" not in name}
    for name, module in model.named_modules():
        found = adapted(module)
        if found and found[2].any():  # new adapters change nothing, not even the sign of a zero
            base, first, second, scale = found
            key = f"{name}.base_layer.weight"
            state[key] = (base.weight.double() + scale * (second.double() @ first.double())).to(
                base.weight.dtype
            )
    return {name.replace(".base_layer.", "."): tensor.detach() for name, tensor in state.items()}
