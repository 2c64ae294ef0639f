"""Try at loading whether a model's score depends on what else is in the batch."""

from __future__ import annotations

from typing import Any

import torch

from ..configs.errors import UserError
from ..data.encoding import PairEncoder
from .forward import pack, padded_logits

TOLERANCE = 1e-4  # logits; rounding in fp32 is far below
LONGEST = 1024  # tokens, which bounds the time


def depends_on_padding(model: Any, pairs: PairEncoder, path: str) -> bool:
    """Return whether a short pair gets another score beside a long one than alone.

    Convolutions and Fourier transforms read padding; a head that reads the last token finds padding there.

    Args:
        model: a transformers cross-encoder in evaluation mode, with fp32 weights.
        pairs: encoder of the model's pairs.
        path: path of the model, for the message.

    Raises:
        UserError: a pair scored twice has two scores, or the model cannot score pairs.
    """
    short, long = ("one", "two"), ("one", "two " * LONGEST)

    def score(*texts: tuple[str, str]) -> torch.Tensor:
        flat = pairs.encode_flat(texts)
        batch = pack(flat, device=next(model.parameters()).device)
        with torch.inference_mode():
            return padded_logits(model, batch, token_types=pairs.gives_types)

    try:
        first, alone, again = score(long), score(short), score(long)
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"model.path={path}: cannot score a pair: {error}".splitlines()[0]) from error
    pairs.forget()
    if not bool(torch.isfinite(torch.cat([first, alone, again])).all()):
        return False  # named where scores are used
    if not torch.allclose(first, again, atol=TOLERANCE, rtol=TOLERANCE):
        raise UserError(
            f"model.path={path}: the score of a pair depends on the pairs scored before: "
            f"{float(first):.4f}, then {float(again):.4f} for one pair",
            advice="A block-sparse BigBird does this: set attention_type to original_full in config.json.",
        )
    together = score(short, long)
    return not torch.allclose(together, torch.cat([alone, first]), atol=TOLERANCE, rtol=TOLERANCE)


def reads_left_to_right(model: Any, pairs: PairEncoder) -> bool:
    """Return whether the state of a first token does not depend on the tokens behind it.

    Args:
        model: a transformers cross-encoder in evaluation mode, with fp32 weights.
        pairs: encoder of the model's pairs.
    """
    if model.config.is_encoder_decoder:
        return False
    ids = torch.from_numpy(pairs.encode_flat([("one", "two words")]).ids)[None].to(model.device)
    turned = torch.cat([ids[:, :1], ids[:, 1:].flip(1)], dim=1)
    with torch.inference_mode():
        one, other = (model.base_model(input_ids=read)[0][0, 0] for read in (ids, turned))
    return torch.allclose(one, other, atol=TOLERANCE, rtol=TOLERANCE)
