"""Parameters that training does not change."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ...configs.errors import UserError

log = logging.getLogger(__name__)


def freeze_parameters(model: Any, names: str | Sequence[str]) -> int:
    """Freeze all parameters in the named parts; return the count of frozen numbers.

    The word table has 192 of bge-reranker-base's 278 million parameters; frozen, it needs no gradients and no
    moments.

    Args:
        model: the model.
        names: parts of parameter names, complete between dots: `embeddings`, `word_embeddings`, `layer.0`.

    Raises:
        UserError: a name matches no parameter, or nothing is left to train.
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
    """Return the parts to freeze: names up to the number of a layer, embeddings, and the head."""
    parts: dict[str, None] = {}
    for parameter in parameters:
        pieces = parameter.split(".")
        number = next((place for place, piece in enumerate(pieces) if piece.isdigit()), None)
        outer = pieces[1:2] if "embeddings" in pieces or "pooler" in pieces else pieces[:1]
        parts[".".join(pieces[number - 1 : number + 1] if number else outer)] = None
    return list(parts)
