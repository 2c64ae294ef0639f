"""Hashes of everything that decides a score: weights, tokenizer and configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def hash_weights(state: Mapping[str, torch.Tensor]) -> str:
    """Return `sha256:…` over names, types, shapes and bytes, independent of order and file layout.

    Reports, manifests and published folders contain it, so that a report can be matched to a model.
    """
    import torch  # not above: an ONNX model is loaded without torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return "sha256:" + digest.hexdigest()


def is_head(model: Any, name: str) -> bool:
    """Return whether a parameter or module of a cross-encoder belongs to its head.

    The head is everything outside the encoder, and the pooler, which only a head uses.
    """
    return not name.startswith(f"{model.base_model_prefix}.") or "pooler" in name.split(".")


# Keys of a config that decide no score: its origin, and what only training or other heads read.
_BOOKKEEPING = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "uprank"}
_BOOKKEEPING |= {"id2label", "label2id", "sentence_transformers", "sbert_ce_default_activation_function"}


def hash_tokenizer(tokenizer: Any) -> str:
    """Return `sha256:…` of everything that decides the ids of a text."""
    content: list[object] = [
        type(tokenizer).__name__,
        [str(token) for token in tokenizer.all_special_tokens],
        list(tokenizer.all_special_ids),
    ]
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        content.append(sorted(tokenizer.get_vocab().items()))
    else:
        fast.no_truncation()  # state of the last call; every call sets it again
        fast.no_padding()
        content.append(fast.to_str())
    return "sha256:" + hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


def hash_config(config: Any) -> str:
    """Return `sha256:…` of a transformers config without bookkeeping: heads, activations, epsilons."""
    kept = {
        key: value
        for key, value in config.to_dict().items()
        if key not in _BOOKKEEPING and "dropout" not in key
    }
    return "sha256:" + hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()
