"""Training settings and facts as rows of the card."""

from __future__ import annotations

from typing import Any

from ...configs.schema_train import LoraSettings, LossSettings, OptimSettings, TrainSettings
from ..evidence import Source
from .text import inline, span

# Always shown: a reader asks for these first.
MAIN = (
    "loss.name",
    "loss.temperature",
    "optim.learning_rate",
    "optim.warmup_ratio",
    "optim.weight_decay",
    "optim.max_grad_norm",
    "train.epochs",
    "train.queries_per_step",
    "train.group_size",
    "train.positives_per_group",
)
FURTHER = (
    "model.freeze",
    "model.precision",
    "model.attention_dropout",
    "model.hidden_dropout",
    "data.mix",
    "seed",
)
# Memory, speed and disk: the result is the same.
HARMLESS = (
    "train.tokens_per_batch",
    "train.gradient_checkpointing",
    "train.log_every",
    "train.keep_checkpoints",
)
# A setting that has no effect -> the one that replaces it.
REPLACED = {"train.epochs": "train.max_steps", "loss.name": "loss.weights"}


def training_rows(source: Source, *, merged: bool = False) -> list[tuple[str, str]]:
    """Return name and value of each setting that decides the result, then facts about the run.

    Settings of loss, optimizer, training and LoRA are shown if they differ from their defaults. Paths are
    left out on purpose. Without a run there are no rows.

    Args:
        source: what is published.
        merged: the published weights are not those of the best step.
    """
    if not source.manifest:
        return []
    rows = [(f"`{name}`", inline(_words(value))) for name, value in _chosen(source.config).items()]
    manifest = source.manifest
    versions = ", ".join(f"{name} {version}" for name, version in (manifest.get("versions") or {}).items())
    facts = {
        "steps": manifest.get("stopped_at") or manifest.get("steps"),
        "best step" + ("" if merged else ", the one published"): manifest.get("best_step"),
        "time": _duration(manifest.get("seconds")),
        "hardware": manifest.get("hardware"),
        "versions": versions or None,
        "Uprank": manifest.get("uprank"),
        "commit": manifest.get("commit"),
    }
    weights = {"base weights": span(source.base.weights)} if source.base.weights else {}
    stated = {name: inline(value) for name, value in facts.items() if value is not None}
    return rows + list((stated | weights).items())


def _chosen(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings to show with their values, in the order of the schema."""
    shown: dict[str, Any] = {}
    parts = {"loss": LossSettings(), "optim": OptimSettings(), "train": TrainSettings()}
    for part, defaults in (parts | {"model.lora": LoraSettings()}).items():
        for key, default in vars(defaults).items():
            name = f"{part}.{key}"
            value = _look_up(config, name)
            if name in MAIN or (value != default and name not in HARMLESS):
                shown[name] = value
    shown |= {name: _look_up(config, name) for name in FURTHER}
    return {
        name: value
        for name, value in shown.items()
        if value not in (None, []) and (name not in REPLACED or shown.get(REPLACED[name]) is None)
    }


def _look_up(config: dict[str, Any], name: str) -> Any:
    value: Any = config
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _words(value: Any) -> str:
    """Return a value as a configuration writes it.

    >>> _words({"kl": 1, "listwise": 0.2}), _words(["embeddings", "layer.0"]), _words(None)
    ('{kl: 1, listwise: 0.2}', '[embeddings, layer.0]', 'null')
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_words(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_words, value)) + "]"
    return "null" if value is None else str(value)


def _duration(seconds: Any) -> str | None:
    """Return hours, minutes and seconds in words.

    >>> _duration(3725.4)
    '1 h 2 min 5 s'
    """
    if not isinstance(seconds, (int, float)):
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "0 s"
