"""The padding-free forward of BERT and (XLM-)RoBERTa cross-encoders, for training.

It runs on the modules of the transformers model itself, so weights, saving and the optimiser
stay theirs; only the way of the activations is ours. Every token-wise operation works on
the flat tokens (T, H); attention looks at one sequence at a time. Only the first token
reaches the head, so the last layer computes queries, output and feed-forward for it alone:
the same numbers with 1/L of that work.

Scores and gradients equal those of the padded forward to rounding (contract 5).
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
    """Whether the model is one of the architectures that this file knows."""
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
    more: bool = False,
    checkpointing: bool = False,
) -> torch.Tensor:
    """Raw scores of the sequences.

    Args:
        model: a `…ForSequenceClassification` with one label, see `can_pack`.
        batch: S sequences with T tokens.
        products: how matrix products are made; in fp32 when None.
        table: collects the gradient of the word table.
        more: further batches of the same step follow; see `WordTable`.
        checkpointing: the backward pass computes each layer again from what entered it.

    Returns:
        Logits, shape (S,), float32.
    """
    products, table = products or Products(), table or WordTable()
    dropout = KeyedDropout(batch, active=model.training)
    states = embed(model, batch, table, more=more)  # (T, H)
    states = dropout.tokens(states, model.base_model.embeddings.dropout.p, _EMBEDDINGS)
    layers = model.base_model.encoder.layer
    starts = torch.tensor(batch.offsets[:-1], device=states.device)
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        given = (states, batch, dropout, products, 4 * number + 4, starts if last else None)
        work = getattr(layer, METHOD, partial(_layer, layer))
        if checkpointing and torch.is_grad_enabled():  # dropout is drawn from keys: no generator to restore
            states = checkpoint(work, *given, use_reentrant=False, preserve_rng_state=False)
        else:
            states = work(*given)
    # In bf16 a logit has three digits, and documents tie that do not; the head's cost is nothing.
    return head_logits(model, states, dropout).clone()  # of its own: FSDP warns of views


def method_of_layer(layer: Any) -> str:
    """Make what is computed with a layer a method of it, for FSDP to gather its weights around; its name."""
    setattr(layer, METHOD, partial(_layer, layer))
    return METHOD


def embed(
    model: Any, batch: PackedBatch, table: WordTable | None = None, *, more: bool = False
) -> torch.Tensor:
    """Word, type and position embeddings after their norm, (T, H) float32."""
    module = model.base_model.embeddings
    # RoBERTa counts positions from padding_idx + 1, BERT (no padding row) from 0.
    padding = module.position_embeddings.padding_idx
    first = 0 if padding is None else padding + 1
    states = (table or WordTable())(batch.ids, module.word_embeddings, more=more)
    states = states + module.token_type_embeddings(batch.types)
    states = states + module.position_embeddings(batch.positions + first)
    normed: torch.Tensor = module.LayerNorm(states)
    return normed


def head_logits(model: Any, states: torch.Tensor, dropout: KeyedDropout) -> torch.Tensor:
    """First-token states (S, H) float32 to logits (S,)."""
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
    batch: PackedBatch,
    dropout: KeyedDropout,
    products: Products,
    site: int,
    starts: torch.Tensor | None,
) -> torch.Tensor:
    """One transformer layer, (T, H) to (T, H), or to (S, H) for the first tokens when `starts` is given.

    What flows from layer to layer and the norms are float32; products, GELU and dropout have the
    precision of the products.
    """
    attention, output = layer.attention.self, layer.attention.output
    drop = dropout.tokens if starts is None else dropout.firsts
    residual = states if starts is None else states[starts]
    inner = states.to(products.dtype)  # once for all three
    asked = inner if starts is None else inner[starts]
    heads = (-1, attention.num_attention_heads, attention.attention_head_size)
    query = products(asked, attention.query).view(heads)
    key, value = (products(inner, part).view(heads) for part in (attention.key, attention.value))
    mixed = attend(query, key, value, batch, dropout, attention.dropout.p, site)
    mixed = drop(products(mixed, output.dense), output.dropout.p, site + 1)
    residual = output.LayerNorm(mixed + residual)
    grown = layer.intermediate.intermediate_act_fn(products(residual, layer.intermediate.dense))
    grown = products(grown, layer.output.dense)
    normed: torch.Tensor = layer.output.LayerNorm(drop(grown, layer.output.dropout.p, site + 2) + residual)
    return normed
