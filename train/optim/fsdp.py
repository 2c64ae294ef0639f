"""FSDP: each rank keeps a shard of weights, gradients, moments and averages, and all of them during a step.

PyTorch's `fully_shard` (FSDP 2; Zhao et al. 2023, arXiv:2304.11277) trains a copy of the scorer. The reranker
itself, which evaluations, hashes and `best/` read, has weights only within `Run.whole`; otherwise they are
empty. The first forward pass of a step gathers the weights; weights and gradients are kept until the last
backward pass reduces and scatters the gradients. So ranks may have different numbers of batches and parts,
and a step sends each weight once (ZeRO stage 2; Rajbhandari et al. 2020, arXiv:1910.02054, with the weights
of stage 3 between steps).
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch

from ...configs.errors import UserError
from ...configs.schema_train import TrainCommand
from ...model.forward import method_of_layer

YES = ("1", "true", "yes")

log = logging.getLogger(__name__)


def is_wanted(environment: Mapping[str, str] | None = None) -> bool:
    """Return True if `accelerate launch` was told to use FSDP and there are several processes."""
    values = os.environ if environment is None else environment
    asked = values.get("ACCELERATE_USE_FSDP", "false").lower() in YES
    return asked and int(values.get("WORLD_SIZE", "1")) > 1


def sharding_problems(settings: TrainCommand) -> list[str]:
    """Return the settings that FSDP does not support; none without FSDP."""
    if not is_wanted():
        return []
    problems = []
    if settings.model.precision == "fp16":
        problems.append("model.precision=fp16: not under FSDP; bf16 and fp32 are")
    if settings.optim.name != "adamw":
        problems.append(
            f"optim.name={settings.optim.name}: not under FSDP, whose parts it cannot keep; adamw"
        )
    if settings.model.lora.rank:
        problems.append(
            "model.lora.rank: not under FSDP, which saves nothing there: adapters have next to no gradients "
            "and moments; configs/accelerate/multi_gpu.yaml"
        )
    if settings.plan:
        problems.append("plan=true: not under FSDP; leave the launcher out")
    return problems


def shard(scorer: Any, accelerator: Any) -> Any:
    """Return a sharded copy of the scorer to train, and empty the scorer's own weights.

    Raises:
        UserError: the model cannot be packed.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if not scorer.packed:
        raise UserError(
            f"{type(scorer.model).__name__} cannot be trained under FSDP: only BERT and (XLM-)RoBERTa",
            advice="Start it with configs/accelerate/multi_gpu.yaml.",
        )
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    twin = copy.deepcopy(scorer)
    twin.keep_no_copies()
    for layer in twin.model.base_model.encoder.layer:
        fully_shard(layer, mesh=mesh)
        name = method_of_layer(layer)
        register_fsdp_forward_method(layer, name)
    fully_shard(twin, mesh=mesh)
    twin.set_reshard_after_forward(False)
    empty(scorer.model)
    log.info("FSDP: each of %d processes keeps its part of the weights", accelerator.num_processes)
    return twin


def exchange(scorer: Any, *, last: bool) -> None:
    """Announce before a forward pass if its backward pass is the last of the step."""
    scorer.set_requires_gradient_sync(last)
    scorer.set_reshard_after_backward(last)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's shard of a tensor, in the same memory; the tensor itself if it is not sharded."""
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def full(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a tensor (collective)."""
    complete: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return complete


def spread_like(parameter: Any, value: torch.Tensor) -> torch.Tensor:
    """Shard a whole tensor like a parameter of its shape (collective)."""
    if not hasattr(parameter, "device_mesh") or value.shape != parameter.shape:
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


@torch.no_grad()
def restore_weights(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Load whole weights into a model, sharded or not."""
    if not any(hasattr(parameter, "device_mesh") for parameter in model.parameters()):
        model.load_state_dict(state)
        return
    parts = model.state_dict()
    if parts.keys() != state.keys():
        raise KeyError(*(parts.keys() ^ state.keys()))
    for name, part in parts.items():
        local(part).copy_(local(spread_like(part, state[name])))


def empty(model: Any) -> None:
    """Free the memory of a model's weights; their names and requires_grad stay."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
