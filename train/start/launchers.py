"""Ways of starting several processes that this loop cannot work with; found before anything is loaded."""

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
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM: it knows no cross-encoders of transformers",
    "ACCELERATE_USE_PARALLELISM_CONFIG": (
        "a parallelism_config: it leaves each process a part of every weight or text, where whole ones are "
        "read"
    ),
}


def launch_problems(environment: Mapping[str, str] | None = None) -> list[str]:
    """What was asked of `accelerate launch` that training refuses.

    Args:
        environment: that of this process when None; `accelerate launch` writes its settings there.
    """
    values = os.environ if environment is None else environment
    asked = [name for name in REFUSED if values.get(name, "false").lower() in YES]
    problems = [f"started with {REFUSED[name]}; {INSTEAD}" for name in asked]
    if values.get("ACCELERATE_USE_FSDP", "false").lower() in YES:
        problems += [f"started with {text}; start it with {FSDP_FILE}" for text in _fsdp_problems(values)]
    return problems


def _fsdp_problems(values: Mapping[str, str]) -> list[str]:
    """Settings of FSDP in the environment that would change what it does, and are not there."""
    version = values.get("FSDP_VERSION", "1")
    problems = [] if version == "2" else [f"FSDP version {version}: 2 is what there is"]
    if values.get("FSDP_OFFLOAD_PARAMS", "false").lower() in YES:
        problems.append("FSDP's fsdp_offload_params: weights stay on their device")
    return problems
