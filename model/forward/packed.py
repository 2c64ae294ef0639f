"""The padding-free forward of BERT and (XLM-)RoBERTa cross-encoders, for training.

It calls the modules of the transformers model, which keeps its weights, its saving and its optimizer; only
the path of the activations is different. Token-wise operations work on the flat tokens (T, H); attention
works on one sequence at a time. Only the first token reaches the head, so the last layer computes queries,
output and feed-forward for that token alone: the same numbers with 1/L of the work.

Scores and gradients equal those of the padded forward up to rounding (contract 5).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from .attention import attend
from .dropout import KeyedDropout
from .linear import Products, WordTable
from .packing import PackedBatch

FAMILIES = ("bert", "roberta", "xlm-roberta")
METHOD = "packed_forward"
_EMBEDDINGS, _HEAD_IN, _HEAD_OUT = 0, 1, 2  # dropout sites; those of layer i start at 4 * i + 4


def can_pack(model: Any) -> bool:
    """Return True for architectures that this file can compute."""
    config = model.config
    return (
        config.model_type in FAMILIES
        and type(model).__name__.endswith("ForSequenceClassification")
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
    )


def packed_logits(
    model: Any,
    batch: PackedBatch,
    products: Products | None = None,
    table: WordTable | None = None,
    *,
    checkpointing: bool = False,
) -> torch.Tensor:
    """Compute the raw scores of S sequences, shape (S,), float32.

    Args:
        model: a `…ForSequenceClassification` with one label, see `can_pack`.
        batch: S sequences with T tokens.
        products: the matrix products; fp32 if None.
        table: collects the gradient of the word table.
        checkpointing: recompute each layer in the backward pass from its input.
    """
    products, table = products or Products(), table or WordTable()
    dropout = KeyedDropout(batch, active=model.training)
    states = embed(model, batch, table)  # (T, H)
    states = dropout.tokens(states, model.base_model.embeddings.dropout.p, _EMBEDDINGS)
    layers = model.base_model.encoder.layer
    starts = torch.tensor(batch.offsets[:-1], device=states.device)
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        given = (states, dropout, products, 4 * number + 4, starts if last else None)
        work = getattr(layer, METHOD, partial(_layer, layer))
        if checkpointing and torch.is_grad_enabled():  # dropout is drawn from keys: no generator to restore
            states = checkpoint(work, *given, use_reentrant=False, preserve_rng_state=False)
        else:
            states = work(*given)
    # The head is float32: with the three digits of bf16, different documents would tie.
    return head_logits(model, states, dropout).clone()  # FSDP warns of views


def method_of_layer(layer: Any) -> str:
    """Make `_layer` a method of the layer, around which FSDP gathers its weights; return its name."""
    setattr(layer, METHOD, partial(_layer, layer))
    return METHOD


def embed(model: Any, batch: PackedBatch, table: WordTable | None = None) -> torch.Tensor:
    """Return word, type and position embeddings after their norm, (T, H) float32."""
    module = model.base_model.embeddings
    # RoBERTa counts positions from padding_idx + 1, BERT (no padding row) from 0.
    padding = module.position_embeddings.padding_idx
    first = 0 if padding is None else padding + 1
    states = (table or WordTable())(batch.ids, module.word_embeddings, last=batch.last)
    states = states + module.token_type_embeddings(batch.types)
    states = states + module.position_embeddings(batch.positions + first)
    normed: torch.Tensor = module.LayerNorm(states)
    return normed


def head_logits(model: Any, states: torch.Tensor, dropout: KeyedDropout) -> torch.Tensor:
    """Map first-token states (S, H) float32 to logits (S,)."""
    if model.config.model_type == "bert":
        pooled = torch.tanh(model.bert.pooler.dense(states))
        logits: torch.Tensor = model.classifier(dropout.firsts(pooled, model.dropout.p, _HEAD_OUT))
        return logits[:, 0]
    head = model.classifier
    hidden = torch.tanh(head.dense(dropout.firsts(states, head.dropout.p, _HEAD_IN)))
    logits = head.out_proj(dropout.firsts(hidden, head.dropout.p, _HEAD_OUT))
    return logits[:, 0]


def _layer(
    layer: Any,
    states: torch.Tensor,
    dropout: KeyedDropout,
    products: Products,
    site: int,
    starts: torch.Tensor | None,
) -> torch.Tensor:
    """Compute a transformer layer, (T, H) to (T, H), or to (S, H) for the first tokens, `starts`.

    Norms and the states between layers are float32; products, GELU and dropout have the precision of the
    products.
    """
    attention, output = layer.attention.self, layer.attention.output
    drop = dropout.tokens if starts is None else dropout.firsts
    residual = states if starts is None else states[starts]
    inner = states.to(products.dtype)  # once for query, key and value
    asked = inner if starts is None else inner[starts]
    heads = (-1, attention.num_attention_heads, attention.attention_head_size)
    query = products(asked, attention.query).view(heads)
    key, value = (products(inner, part).view(heads) for part in (attention.key, attention.value))
    mixed = attend(query, key, value, dropout, attention.dropout.p, site)
    mixed = drop(products(mixed, output.dense), output.dropout.p, site + 1)
    residual = output.LayerNorm(mixed + residual)
    grown = layer.intermediate.intermediate_act_fn(products(residual, layer.intermediate.dense))
    grown = products(grown, layer.output.dense)
    normed: torch.Tensor = layer.output.LayerNorm(drop(grown, layer.output.dropout.p, site + 2) + residual)
    return normed
