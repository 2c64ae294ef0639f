"""Refuse launchers that training cannot work with, before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..optim import YES

INSTEAD = "start it with configs/accelerate/multi_gpu.yaml or torchrun; for less memory set "
INSTEAD += "train.tokens_per_batch, train.gradient_checkpointing=true, model.freeze=embeddings, or "
INSTEAD += "model.lora.rank=8 (docs/launching.md)"
FSDP_FILE = "configs/accelerate/fsdp.yaml"
REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": (
        "DeepSpeed: its engine clips and steps inside the backward pass, so that a loss or gradient that is "
        "not finite could not be refused before the step"
    ),
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM: it does not support cross-encoders of transformers",
    "ACCELERATE_USE_PARALLELISM_CONFIG": (
        "a parallelism_config: it shards every weight or text over the processes, where whole ones are read"
    ),
}


def launch_problems(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the settings of `accelerate launch` that training refuses.

    Args:
        environment: where `accelerate launch` writes its settings; that of this process if None.
    """
    values = os.environ if environment is None else environment
    asked = [name for name in REFUSED if values.get(name, "false").lower() in YES]
    problems = [f"started with {REFUSED[name]}; {INSTEAD}" for name in asked]
    if values.get("ACCELERATE_USE_FSDP", "false").lower() in YES:
        problems += [f"started with {text}; start it with {FSDP_FILE}" for text in _fsdp_problems(values)]
    return problems


def _fsdp_problems(values: Mapping[str, str]) -> list[str]:
    """Return settings of FSDP that training does not support."""
    version = values.get("FSDP_VERSION", "1")
    problems = [] if version == "2" else [f"FSDP version {version}: only 2 is supported"]
    if values.get("FSDP_OFFLOAD_PARAMS", "false").lower() in YES:
        problems.append("FSDP's fsdp_offload_params: weights stay on their device")
    return problems
