"""The padding-free forward of BERT and (XLM-)RoBERTa cross-encoders.

It runs the modules of the transformers model itself, so weights, saving and the optimiser
stay theirs; only the way of the activations is ours. Every token-wise operation works on
the flat tokens (T, H); attention looks at one sequence at a time. Only the first token
reaches the head, so the last layer computes queries, output and feed-forward for it alone:
the same numbers with 1/L of that work.

Scores and gradients equal those of the padded forward to rounding (contract 5).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from .dropout import KeyedDropout
from .packing import PackedBatch

FAMILIES = ("bert", "roberta", "xlm-roberta")
_EMBEDDINGS, _HEAD_IN, _HEAD_OUT = 0, 1, 2  # dropout sites; those of layer i start at 4 * i + 4


def can_pack(model: Any) -> bool:
    """Whether the model is one of the architectures that this file knows."""
    config = model.config
    return (
        config.model_type in FAMILIES
        and type(model).__name__.endswith("ForSequenceClassification")
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
    )


def packed_logits(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Raw scores of the sequences.

    Args:
        model: a `…ForSequenceClassification` with one label, see `can_pack`.
        batch: S sequences with T tokens.

    Returns:
        Logits, shape (S,), float32.
    """
    dropout = KeyedDropout(batch, active=model.training)
    states = _embed(model, batch, dropout)  # (T, H)
    layers = model.base_model.encoder.layer
    starts = torch.tensor(batch.offsets[:-1], device=states.device)
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        states = _layer(layer, states, batch, dropout, 4 * number + 4, starts if last else None)
    # In bf16 a logit has three digits, and documents tie that do not; the head's cost is nothing.
    with torch.autocast(states.device.type, enabled=False):
        return _head(model, states.float(), dropout)


def _embed(model: Any, batch: PackedBatch, dropout: KeyedDropout) -> torch.Tensor:
    module = model.base_model.embeddings
    # RoBERTa counts positions from padding_idx + 1, BERT (no padding row) from 0.
    padding = module.position_embeddings.padding_idx
    first = 0 if padding is None else padding + 1
    states = module.word_embeddings(batch.ids)
    states = states + module.token_type_embeddings(batch.types)
    states = states + module.position_embeddings(batch.positions + first)
    return dropout.tokens(module.LayerNorm(states), module.dropout.p, _EMBEDDINGS)


def _layer(
    layer: Any,
    states: torch.Tensor,
    batch: PackedBatch,
    dropout: KeyedDropout,
    site: int,
    starts: torch.Tensor | None,
) -> torch.Tensor:
    """One transformer layer, (T, H) to (T, H), or to (S, H) for the first tokens when `starts` is given."""
    attention, output = layer.attention.self, layer.attention.output
    drop = dropout.tokens if starts is None else dropout.firsts
    residual = states if starts is None else states[starts]
    heads = (-1, attention.num_attention_heads, attention.attention_head_size)
    query = attention.query(residual).view(heads)
    key, value = attention.key(states).view(heads), attention.value(states).view(heads)
    mixed = _attend(query, key, value, batch, dropout, attention.dropout.p, site)
    mixed = drop(output.dense(mixed), output.dropout.p, site + 1)
    residual = output.LayerNorm(mixed + residual)
    grown = layer.output.dense(layer.intermediate(residual))
    return layer.output.LayerNorm(drop(grown, layer.output.dropout.p, site + 2) + residual)


def _head(model: Any, states: torch.Tensor, dropout: KeyedDropout) -> torch.Tensor:
    """First-token states (S, H) to logits (S,)."""
    if model.config.model_type == "bert":
        pooled = torch.tanh(model.bert.pooler.dense(states))
        return model.classifier(dropout.firsts(pooled, model.dropout.p, _HEAD_OUT))[:, 0]
    head = model.classifier
    hidden = torch.tanh(head.dense(dropout.firsts(states, head.dropout.p, _HEAD_IN)))
    return head.out_proj(dropout.firsts(hidden, head.dropout.p, _HEAD_OUT))[:, 0]


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    batch: PackedBatch,
    dropout: KeyedDropout,
    rate: float,
    site: int,
) -> torch.Tensor:
    """Attention within each sequence.

    Args:
        query: (T, heads, D), or (S, heads, D) for first tokens only.
        key: (T, heads, D).
        value: (T, heads, D).
        batch: the spans of the sequences.
        dropout: draws the masks of the attention weights.
        rate: dropout rate of the attention weights.
        site: where in the network, for the dropout.

    Returns:
        Mixed values, (T or S, heads * D).
    """
    dropping = dropout.active and rate > 0
    if query.device.type != "cpu" and not dropping:
        return attend_padded(query, key, value, batch)
    with torch.autocast(query.device.type, enabled=False):
        if query.device.type == "cpu":
            # The CPU kernels of bf16 attention are slower than fp32, backward above all.
            query, key, value = query.float(), key.float(), value.float()
        return _attend_by_sequence(query, key, value, batch, dropout, rate if dropping else 0.0, site)


def _attend_by_sequence(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    batch: PackedBatch,
    dropout: KeyedDropout,
    rate: float,
    site: int,
) -> torch.Tensor:
    first_only = query.shape[0] != key.shape[0]
    mixed = []
    for number, (start, stop) in enumerate(batch.spans):
        rows = slice(number, number + 1) if first_only else slice(start, stop)
        q, k, v = (part.transpose(0, 1) for part in (query[rows], key[start:stop], value[start:stop]))
        if rate > 0:  # written out, because the fused kernels draw their own masks
            weights = torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1)
            out = dropout.weights(weights, rate, site, number) @ v
        else:
            out = functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        mixed.append(out.transpose(0, 1))  # (L, heads, D)
    return _with_unused(torch.cat(mixed).flatten(1), query)


def attend_padded(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, batch: PackedBatch
) -> torch.Tensor:
    """Attention with padding for it alone: one kernel for the batch, which GPUs prefer.

    Shapes as in `_attend`.
    """
    lengths = torch.tensor(batch.lengths, device=query.device)
    longest = max(batch.lengths)
    real = torch.arange(longest, device=query.device) < lengths[:, None]  # (S, L)

    def pad(flat: torch.Tensor) -> torch.Tensor:
        padded = flat.new_zeros(len(lengths), longest, *flat.shape[1:])
        padded[real] = flat[: batch.tokens]
        return padded.transpose(1, 2)  # (S, heads, L, D)

    first_only = query.shape[0] != key.shape[0]
    queries = query[:, :, None] if first_only else pad(query)
    mixed = functional.scaled_dot_product_attention(
        queries, pad(key), pad(value), attn_mask=real[:, None, None, :]
    ).transpose(1, 2)
    return _with_unused((mixed[:, 0] if first_only else mixed[real]).flatten(1), query)


def _with_unused(mixed: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Add zero rows for the unused tokens at the end of the batch."""
    return functional.pad(mixed, (0, 0, 0, query.shape[0] - mixed.shape[0]))
