"""The name of a set of weights: a hash of their content.

Hashes of a tokenizer and of a configuration: of what decides a score, and of nothing else.
"""

from __future__ import annotations

import hashlib
import json
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


# In a config, what decides no score: where it came from, and what only training or other heads read.
_BOOKKEEPING = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "uprank"}
_BOOKKEEPING |= {"id2label", "label2id", "sentence_transformers", "sbert_ce_default_activation_function"}


def hash_tokenizer(tokenizer: Any) -> str:
    """`sha256:…` of everything that decides the ids of a text."""
    content: list[object] = [
        type(tokenizer).__name__,
        [str(token) for token in tokenizer.all_special_tokens],
        list(tokenizer.all_special_ids),
    ]
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        content.append(sorted(tokenizer.get_vocab().items()))
    else:
        fast.no_truncation()  # the state of the last call, which every call sets anew
        fast.no_padding()
        content.append(fast.to_str())
    return "sha256:" + hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


def hash_config(config: Any) -> str:
    """`sha256:…` of a transformers config without bookkeeping: heads, activations, epsilons and such."""
    kept = {
        key: value
        for key, value in config.to_dict().items()
        if key not in _BOOKKEEPING and "dropout" not in key
    }
    return "sha256:" + hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()
