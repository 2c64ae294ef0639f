"""Attention within each sequence of a packed batch, with one implementation for each kind of machine.

Shapes everywhere: query (T, heads, D), or (S, heads, D) for first tokens only; key and value (T, heads, D)
with the batch's unused tokens at the end; result (T or S, heads * D) with zeros in unused rows.
"""

from __future__ import annotations

import math
import threading
from itertools import groupby
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional

from .dropout import KeyedDropout
from .packing import PackedBatch


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: KeyedDropout,
    rate: float,
    site: int,
) -> torch.Tensor:
    """Compute attention in the way that suits the device and the dropout.

    Args:
        query: shapes as above.
        key: shapes as above.
        value: shapes as above.
        dropout: has the batch and draws the masks of the attention weights.
        rate: dropout rate of the attention weights.
        site: place in the network, for the dropout.
    """
    batch = dropout.batch
    dropping = dropout.active and rate > 0
    if query.device.type != "cpu" and not dropping:
        if varlen_kernel(query) is not None:
            return attend_varlen(query, key, value, batch)
        return attend_padded(query, key, value, batch)
    # The CPU's bf16 kernels are slower than fp32 in the backward pass, and the softmax wants the digits.
    query, key, value = query.float(), key.float(), value.float()
    with torch.autocast(query.device.type, enabled=False):
        if not dropping:
            return attend_by_length(query, key, value, batch)
        return attend_dropping(query, key, value, dropout, rate, site)


def attend_by_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, batch: PackedBatch
) -> torch.Tensor:
    """Compute neighbours of equal length in one kernel, without padding and mask."""
    runs = [(count, length) for length, count in _runs(batch)]
    tokens = [count * length for count, length in runs]
    queries = _parts(query, [count for count, _ in runs] if _firsts_only(query, key) else tokens)
    mixed = []
    for (count, _), *parts in zip(runs, queries, _parts(key, tokens), _parts(value, tokens), strict=True):
        q, k, v = (part.unflatten(0, (count, -1)).transpose(1, 2) for part in parts)  # (count, heads, L, D)
        mixed.append(
            functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).flatten(0, 1)
        )
    return _with_unused(mixed, query)


def attend_dropping(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: KeyedDropout,
    rate: float,
    site: int,
) -> torch.Tensor:
    """Compute attention with dropout on its weights, sequence by sequence.

    Written out, because fused kernels draw their own masks. The backward pass recomputes the weights, so
    memory grows with the length of a sequence and not with its square.
    """
    lengths = dropout.batch.lengths
    queries = _parts(query, [1] * len(lengths) if _firsts_only(query, key) else lengths)
    mixed = []
    for number, parts in enumerate(zip(queries, _parts(key, lengths), _parts(value, lengths), strict=True)):
        q, k, v = (part.transpose(0, 1) for part in parts)
        kept = dropout.kept((*q.shape[:2], k.shape[1]), rate, site, number)
        mixed.append(_Dropping.apply(q, k, v, kept, 1.0 - rate).transpose(0, 1).flatten(1))
    return _with_unused(mixed, query)


class _Dropping(Function):
    """softmax(q kᵀ / sqrt(D)) with dropout, times v, of one sequence; (heads, L, D) each.

    The backward pass is that of Dao et al. 2022, FlashAttention, appendix B.2, with a sequence as one tile.
    """

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, kept: torch.Tensor, share: float
    ) -> torch.Tensor:
        q, k, v = q.contiguous() * q.shape[-1] ** -0.5, k.contiguous(), v.contiguous()
        weights, other, _ = _scratch(q, k)
        _softmax(q, k, other, out=weights)
        mixed = weights.mul_(other.copy_(kept)) @ v / share
        ctx.save_for_backward(q, k, v, kept, mixed)
        ctx.share = share
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, kept, mixed = ctx.saved_tensors
        # Equals the softmax's row sum over (gradient * weight).
        taken_off = (grad * mixed).sum(-1, keepdim=True)
        grad = grad.contiguous() / ctx.share
        weights, left, other = _scratch(q, k)
        _softmax(q, k, other, out=weights)
        torch.mul(weights, other.copy_(kept), out=left)
        grad_value = left.transpose(1, 2) @ grad
        torch.bmm(grad, v.transpose(1, 2), out=other)
        grad_scores = left.mul_(other).addcmul_(weights, taken_off, value=-1.0)
        grad_query = (grad_scores @ k).mul_(q.shape[-1] ** -0.5)
        return grad_query, grad_scores.transpose(1, 2) @ q, grad_value, None, None


_kept_buffers = threading.local()


def _scratch(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Return three buffers (heads, queries, L) of this thread; new memory would take as long as the work."""
    shape = (3, *q.shape[:2], k.shape[1])
    size = math.prod(shape)
    flat = getattr(_kept_buffers, "flat", None)
    if flat is None or len(flat) < size or flat.device != q.device or flat.dtype != q.dtype:
        flat = _kept_buffers.flat = q.new_empty(size)
    buffers: torch.Tensor = flat[:size].view(shape)
    return buffers


def _softmax(q: torch.Tensor, k: torch.Tensor, scores: torch.Tensor, *, out: torch.Tensor) -> None:
    torch.bmm(q, k.transpose(1, 2), out=scores)
    torch.softmax(scores, -1, out=out)


def varlen_kernel(query: torch.Tensor) -> Any:
    """Return PyTorch's flash attention over packed sequences for 16 bit on CUDA, None elsewhere.

    Not yet run on a GPU; the tests compare its arguments with the other implementations.
    """
    if query.device.type != "cuda" or query.dtype not in (torch.bfloat16, torch.float16):
        return None
    if torch.cuda.get_device_capability(query.device) < (8, 0):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def attend_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, batch: PackedBatch, kernel: Any = None
) -> torch.Tensor:
    """Compute the batch in one kernel without padding; `kernel` as PyTorch's `varlen_attn`."""
    kernel = kernel or varlen_kernel(query)
    ends = torch.tensor(batch.offsets, dtype=torch.int32, device=query.device)
    longest = max(batch.lengths)
    if _firsts_only(query, key):
        query_ends, query_longest = torch.arange(len(ends), dtype=torch.int32, device=query.device), 1
        queries = query
    else:
        query_ends, query_longest, queries = ends, longest, query[: batch.tokens]
    mixed = kernel(
        queries, key[: batch.tokens], value[: batch.tokens], query_ends, ends, query_longest, longest
    )
    return _with_unused([mixed.flatten(1)], query)


def attend_padded(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, batch: PackedBatch
) -> torch.Tensor:
    """Compute the batch in one kernel with padding for the attention alone; GPUs prefer one to many."""
    lengths = torch.tensor(batch.lengths, device=query.device)
    longest = max(batch.lengths)
    real = torch.arange(longest, device=query.device) < lengths[:, None]  # (S, L)

    def pad(flat: torch.Tensor) -> torch.Tensor:
        padded = flat.new_zeros(len(lengths), longest, *flat.shape[1:])
        padded[real] = flat[: batch.tokens]
        return padded.transpose(1, 2)  # (S, heads, L, D)

    firsts = _firsts_only(query, key)
    queries = query[:, :, None] if firsts else pad(query)
    mixed = functional.scaled_dot_product_attention(
        queries, pad(key), pad(value), attn_mask=real[:, None, None, :]
    ).transpose(1, 2)
    return _with_unused([(mixed[:, 0] if firsts else mixed[real]).flatten(1)], query)


def _runs(batch: PackedBatch) -> list[tuple[int, int]]:
    """Return length and count of each run of neighbours of equal length."""
    return [(length, len(list(same))) for length, same in groupby(batch.lengths)]


def _parts(states: torch.Tensor, sizes: list[int]) -> tuple[torch.Tensor, ...]:
    """Split states by sequence in one operation; a slice's gradient would be as large as the whole."""
    return states[: sum(sizes)].split(sizes)


def _firsts_only(query: torch.Tensor, key: torch.Tensor) -> bool:
    return query.shape[0] != key.shape[0]


def _with_unused(mixed: list[torch.Tensor], query: torch.Tensor) -> torch.Tensor:
    """Join parts of (rows, heads * D), and add zero rows for the unused tokens at the end."""
    unused = query.shape[0] - sum(map(len, mixed))
    zeros = [mixed[0].new_zeros(unused, mixed[0].shape[1])] if unused else []
    return torch.cat([*mixed, *zeros]) if len(mixed) + len(zeros) > 1 else mixed[0]
