"""From a packed batch to scores, packed where the architecture allows it, else padded."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from .packed import can_pack, packed_logits
from .packing import PackedBatch


class Scorer(nn.Module):
    """The module that is trained: a transformers cross-encoder behind one forward.

    Args:
        model: a transformers `…ForSequenceClassification` with one label.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.packed = can_pack(model)

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Raw scores of S sequences, shape (S,), float32."""
        if self.packed:
            return packed_logits(self.model, batch)
        return padded_logits(self.model, batch)


def padded_logits(model: Any, batch: PackedBatch) -> torch.Tensor:
    """The plain transformers forward on a padded batch, shape (S,), float32.

    Its dropout comes from the global generator, seeded by the first sequence: reproducible
    and resumable, but dependent on what is in the batch.
    """
    lengths = torch.tensor(batch.lengths, device=batch.ids.device)
    real = torch.arange(max(batch.lengths), device=batch.ids.device) < lengths[:, None]  # (S, L)
    padding = model.config.pad_token_id or 0
    ids = batch.ids.new_full(real.shape, padding)
    types = batch.types.new_zeros(real.shape)
    ids[real], types[real] = batch.ids[: batch.tokens], batch.types[: batch.tokens]
    inputs = {"input_ids": ids, "attention_mask": real.long()}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = types
    if model.training:
        torch.manual_seed(batch.keys[0])
    return model(**inputs).logits[:, 0].float()


def precision_context(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Autocast for `bf16`, nothing for `fp32`; weights stay fp32 in both."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
