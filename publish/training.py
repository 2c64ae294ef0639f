"""The training settings as rows of the card."""

from __future__ import annotations

from typing import Any

from .sources import Source

# What decides the result, in the order in which a reader asks; paths are left out on purpose.
SHOWN = (
    "loss.name",
    "loss.weights",
    "loss.temperature",
    "optim.learning_rate",
    "optim.head_learning_rate",
    "optim.warmup_ratio",
    "optim.weight_decay",
    "optim.max_grad_norm",
    "data.mix",
    "train.epochs",
    "train.max_steps",
    "train.queries_per_step",
    "train.group_size",
    "train.positives_per_group",
    "model.precision",
    "model.attention_dropout",
    "model.hidden_dropout",
    "seed",
)


def training_rows(source: Source) -> list[tuple[str, str]]:
    """Name and value of each setting that was chosen, then what the run was; empty without a run."""
    if not source.manifest:
        return []
    rows = [
        (f"`{name}`", str(value)) for name in SHOWN if (value := _look_up(source.config, name)) is not None
    ]
    manifest = source.manifest
    versions = ", ".join(f"{name} {version}" for name, version in (manifest.get("versions") or {}).items())
    facts = {
        "steps": manifest.get("stopped_at") or manifest.get("steps"),
        "best step, the one published": manifest.get("best_step"),
        "time": _duration(manifest.get("seconds")),
        "hardware": manifest.get("hardware"),
        "versions": versions or None,
        "Uprank": manifest.get("uprank"),
        "commit": manifest.get("commit"),
        "base weights": f"`{source.base.weights}`" if source.base.weights else None,
    }
    return rows + [(name, str(value)) for name, value in facts.items() if value is not None]


def _look_up(config: dict[str, Any], name: str) -> Any:
    value: Any = config
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _duration(seconds: Any) -> str | None:
    """Hours, minutes and seconds.

    >>> _duration(3725.4)
    '1 h 2 min 5 s'
    """
    if not isinstance(seconds, (int, float)):
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "0 s"
