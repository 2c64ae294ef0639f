"""The scorer: from a packed batch to scores, the fastest way that model, device and purpose allow."""

from __future__ import annotations

import copy
import inspect
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
        precision: of matrix products: `fp32`, `bf16` or `fp16`; in training, weights, norms, softmax and head
            stay fp32.
        token_types: whether a model that is not packed is given token types; its tokenizer decides.
        by_length: whether such a model gets only sequences of one length together, because padding changes
            its scores.
    """

    def __init__(
        self, model: Any, precision: str = "fp32", *, token_types: bool = True, by_length: bool = False
    ) -> None:
        super().__init__()
        self.token_types, self.by_length = token_types, by_length
        self.model = model
        self.packed = can_pack(model)
        self._dtype = DTYPES[precision]
        self._products, self._table = Products(self._dtype), WordTable()
        self._fused: FusedForward | None = None
        self._checkpointing = False

    def checkpoint_layers(self) -> None:
        """Keep only each layer's input for the backward pass, which recomputes the rest.

        Raises:
            UserError: the model does not support it.
        """
        if not self.packed:
            if not self.model.supports_gradient_checkpointing:
                raise UserError(
                    f"train.gradient_checkpointing=true: {type(self.model).__name__} does not support it",
                    advice="Leave it out; a lower train.tokens_per_batch saves memory, too.",
                )
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self._checkpointing = True

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Return the raw scores of S sequences, shape (S,), float32."""
        if not self.packed:
            return padded_logits(
                self.model, batch, self._dtype, token_types=self.token_types, by_length=self.by_length
            )
        if torch.is_grad_enabled() or self.training:
            return packed_logits(
                self.model, batch, self._products, self._table, checkpointing=self._checkpointing
            )
        fused = self.prepare()
        return fused.logits(batch) if fused else packed_logits(self.model, batch, self._products)

    def replica(self) -> Scorer:
        """Return a scorer that shares the memory of the weights and has its own gradients."""
        shared = {id(weight): nn.Parameter(weight.detach()) for weight in self.parameters()}
        for weight, twin_weight in zip(self.parameters(), shared.values(), strict=True):
            twin_weight.requires_grad_(weight.requires_grad)
        shared_buffers = {id(buffer): buffer for buffer in self.buffers()}
        twin = copy.deepcopy(self, {**shared, **shared_buffers, id(self._products): self._products})
        twin._table = WordTable()
        return twin

    def gather(self, replicas: Sequence[Scorer]) -> None:
        """Move the gradients of replicas to this scorer, added in order.

        No batch of the step may have had `last=True`.
        """
        for replica in replicas:
            self._table.take(replica._table)
            for weight, other in zip(self.parameters(), replica.parameters(), strict=True):
                if other.grad is not None:
                    weight.grad = other.grad if weight.grad is None else weight.grad.add_(other.grad)
                    other.grad = None
        if self._table.waits:
            embedding = self.model.get_input_embeddings()
            table = self._table.collect(embedding.weight, embedding.padding_idx)
            grad = embedding.weight.grad
            embedding.weight.grad = table if grad is None else grad.add_(table)

    def prepare(self) -> FusedForward | None:
        """Return the fused forward, rebuilt after the weights changed; None if the model cannot be fused."""
        if not self.packed:
            return None
        if self._fused is None or not self._fused.is_current():
            fusible = self._dtype != torch.float16 and can_fuse(self.model, self._dtype)
            self._fused = FusedForward(self.model, self._dtype) if fusible else None
        return self._fused

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies, without the fused forward."""
        return {**self.__dict__, "_fused": None}

    def weights_changed(self) -> None:
        """Drop everything derived from the weights; call this after weights were written.

        PyTorch's usual operations are noticed anyway; writes of fused optimizers are not.
        """
        self._fused = None
        self._products.forget()

    def keep_no_copies(self) -> None:
        """Cache no 16-bit copies: FSDP's weights change at the same address without a new version."""
        self._products = Products(self._dtype, keep=False)

    def train(self, mode: bool = True) -> Scorer:
        """Set the mode; training drops the fused forward, whose copies would only cost memory."""
        if mode:
            self._fused = None
        return super().train(mode)


def padded_logits(
    model: Any,
    batch: PackedBatch,
    dtype: torch.dtype = torch.float32,
    *,
    token_types: bool = True,
    by_length: bool = False,
) -> torch.Tensor:
    """Return scores of the plain transformers forward on a padded batch, shape (S,), float32.

    Dropout comes from the global generator, seeded by the first sequence: reproducible and resumable, but
    dependent on the rest of the batch.

    Args:
        model: a transformers `…ForSequenceClassification` with one label.
        batch: S sequences.
        dtype: of matrix products.
        token_types: whether the model is given token types, if it takes any.
        by_length: compute sequences of each length apart, without padding.
    """
    lengths = torch.tensor(batch.lengths, device=batch.ids.device)
    real = torch.arange(max(batch.lengths), device=batch.ids.device) < lengths[:, None]  # (S, L)
    padding = model.config.pad_token_id or 0
    ids = batch.ids.new_full(real.shape, padding)
    types = batch.types.new_zeros(real.shape)
    ids[real], types[real] = batch.ids[: batch.tokens], batch.types[: batch.tokens]
    inputs = {"input_ids": ids, "attention_mask": real.long()}
    if token_types and takes_token_types(model):
        inputs["token_type_ids"] = types
    if model.training:
        torch.manual_seed(batch.keys[0])
    # Autocast caches the casts of the weights for one batch only, which is slow; such models are rare.
    with torch.autocast(ids.device.type, dtype=dtype, enabled=dtype != torch.float32):
        if not by_length:
            return model(**inputs).logits[:, 0].float()
        scores: list[torch.Tensor] = []
        for length in sorted(set(batch.lengths)):
            rows = lengths == length
            scores.append(model(**{name: part[rows, :length] for name, part in inputs.items()}).logits[:, 0])
        return torch.cat(scores).float()[lengths.argsort(stable=True).argsort()]


def takes_token_types(model: Any) -> bool:
    """Return whether a model reads token types."""
    kinds = getattr(model.config, "type_vocab_size", None)
    return "token_type_ids" in inspect.signature(model.forward).parameters and (kinds is None or kinds > 1)
