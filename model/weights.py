"""The name of a set of weights: a hash of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch


def hash_weights(state: Mapping[str, torch.Tensor]) -> str:
    """`sha256:…` over names, types, shapes and bytes, independent of the order and the file layout.

    Reports, manifests and published folders carry it, so that a report can be matched to a model.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return "sha256:" + digest.hexdigest()


def is_head(model: Any, name: str) -> bool:
    """Whether a parameter or module of a cross-encoder is part of its head: what an encoder comes without.

    That is all outside the encoder itself, and a pooler, which has no use but for a head.
    """
    return not name.startswith(f"{model.base_model_prefix}.") or "pooler" in name.split(".")
