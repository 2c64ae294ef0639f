"""From a packed batch to scores: the fastest way that the model, the device and the purpose allow."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...configs.errors import UserError
from .fused import FusedForward, can_fuse
from .linear import Products, WordTable
from .packed import can_pack, packed_logits
from .packing import PackedBatch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Scorer(nn.Module):
    """The module that is trained: a transformers cross-encoder behind one forward.

    Args:
        model: a transformers `…ForSequenceClassification` with one label.
        precision: `fp32`, or matrix products in `bf16` or `fp16`; weights, norms, softmax and head stay fp32
            in training.
    """

    def __init__(self, model: Any, precision: str = "fp32") -> None:
        super().__init__()
        self.model = model
        self.packed = can_pack(model)
        self._dtype = DTYPES[precision]
        self._products, self._table = Products(self._dtype), WordTable()
        self._fused: FusedForward | None = None
        self._checkpointing = False

    def checkpoint_layers(self) -> None:
        """From now on keep only what enters each layer for the backward pass; the rest is computed again.

        Raises:
            UserError: the model cannot.
        """
        if not self.packed:
            if not self.model.supports_gradient_checkpointing:
                raise UserError(
                    f"train.gradient_checkpointing=true: {type(self.model).__name__} cannot do it",
                    advice="Leave it out; a lower train.tokens_per_batch saves memory, too.",
                )
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self._checkpointing = True

    def forward(self, batch: PackedBatch, *, more: bool = False) -> torch.Tensor:
        """Raw scores of S sequences, shape (S,), float32.

        Args:
            batch: S sequences.
            more: in training, whether further batches of the same step follow: the gradient of the word
                table is then complete only after the backward pass of the last one.
        """
        if not self.packed:
            return padded_logits(self.model, batch, self._dtype)
        if torch.is_grad_enabled() or self.training:
            return packed_logits(
                self.model, batch, self._products, self._table, more=more, checkpointing=self._checkpointing
            )
        fused = self.prepare()
        return fused.logits(batch) if fused else packed_logits(self.model, batch, self._products)

    def replica(self) -> Scorer:
        """One with the same weights, in the same memory, and gradients of its own."""
        shared = {id(weight): nn.Parameter(weight.detach()) for weight in self.parameters()}
        for weight, own in zip(self.parameters(), shared.values(), strict=True):
            own.requires_grad_(weight.requires_grad)
        shared_buffers = {id(buffer): buffer for buffer in self.buffers()}
        twin = copy.deepcopy(self, {**shared, **shared_buffers, id(self._products): self._products})
        twin._table = WordTable()
        return twin

    def gather(self, replicas: Sequence[Scorer]) -> None:
        """Add the gradients of replicas to this one's, in order; theirs are gone then.

        All batches must have been scored with `more`.
        """
        for replica in replicas:
            self._table.take(replica._table)
            for weight, own in zip(self.parameters(), replica.parameters(), strict=True):
                if own.grad is not None:
                    weight.grad = own.grad if weight.grad is None else weight.grad.add_(own.grad)
                    own.grad = None
        if self._table.waits:
            embedding = self.model.get_input_embeddings()
            table = self._table.collect(embedding.weight, embedding.padding_idx)
            own = embedding.weight.grad
            embedding.weight.grad = table if own is None else own.add_(table)

    def prepare(self) -> FusedForward | None:
        """Make what scoring needs of the weights, once for each state of them; None where nothing is."""
        if not self.packed:
            return None
        if self._fused is None or not self._fused.is_current():
            fusible = self._dtype != torch.float16 and can_fuse(self.model, self._dtype)
            self._fused = FusedForward(self.model, self._dtype) if fusible else None
        return self._fused

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without what is made of the weights anew."""
        return {**self.__dict__, "_fused": None}

    def weights_changed(self) -> None:
        """To be called when weights were written: what was made of them is made anew.

        Writes by PyTorch's usual operations are noticed without it, those of fused optimisers are not.
        """
        self._fused = None
        self._products.forget()

    def keep_no_copies(self) -> None:
        """For weights that come and go at the same address, without a sign of having changed: FSDP's."""
        self._products = Products(self._dtype, keep=False)

    def train(self, mode: bool = True) -> Scorer:
        """Copies of weights that are about to change only cost memory."""
        if mode:
            self._fused = None
        return super().train(mode)


def padded_logits(model: Any, batch: PackedBatch, dtype: torch.dtype = torch.float32) -> torch.Tensor:
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
    # Autocast keeps the casts of the weights for one batch only; such models are not what we are fast at.
    with torch.autocast(ids.device.type, dtype=dtype, enabled=dtype != torch.float32):
        return model(**inputs).logits[:, 0].float()
