"""Parameters that training leaves as they are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ...configs.errors import UserError

log = logging.getLogger(__name__)


def freeze_parameters(model: Any, names: str | Sequence[str]) -> int:
    """Stop the gradients of all parameters that lie in the named parts.

    The word table of bge-reranker-base is 192 of its 278 million parameters: frozen, it has no gradients and
    no moments to keep.

    Args:
        model: what is trained.
        names: part of parameter names, or several, whole between dots: `embeddings`, `word_embeddings`,
            `layer.0`.

    Returns:
        How many numbers are frozen.

    Raises:
        UserError: a name is part of no parameter, or nothing is left to train.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        return 0
    parameters = dict(model.named_parameters())
    unknown = [name for name in names if not any(_within(name, key) for key in parameters)]
    if unknown:
        raise UserError(
            [f"model.freeze: no parameter lies in {name!r}" for name in unknown],
            advice=f"Parts of this model: {', '.join(_parts(list(parameters)))}.",
        )
    chosen = [weight for key, weight in parameters.items() if any(_within(name, key) for name in names)]
    if not any(parameter.requires_grad for parameter in chosen):
        log.warning("model.freeze=%s changes nothing: with LoRA these parts are not trained anyway", names)
    for parameter in chosen:
        parameter.requires_grad_(False)
    frozen = sum(parameter.numel() for parameter in parameters.values() if not parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters.values())
    if frozen == total:
        raise UserError(f"model.freeze={names}: nothing is left to train")
    log.info("frozen: %s of %s parameters", f"{frozen:,}", f"{total:,}")
    return frozen


def _within(name: str, parameter: str) -> bool:
    return f".{name}." in f".{parameter}."


def _parts(parameters: Sequence[str]) -> list[str]:
    """What one may want to freeze: names up to the number of a layer, embeddings, and the head."""
    found: dict[str, None] = {}
    for parameter in parameters:
        pieces = parameter.split(".")
        number = next((place for place, piece in enumerate(pieces) if piece.isdigit()), None)
        outer = pieces[1:2] if "embeddings" in pieces or "pooler" in pieces else pieces[:1]
        found[".".join(pieces[number - 1 : number + 1] if number else outer)] = None
    return list(found)
