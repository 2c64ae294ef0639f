"""Validate settings shared by several commands, before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .schema import ModelSettings, ScoredModelSettings

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
MOST_THREADS = 1024  # beyond, systems refuse to make them
ON_ERROR = ("stop", "skip")
BACKENDS = ("uprank", "sentence_transformers", "flag_embedding", "onnx", "openvino")


def model_problems(model: ModelSettings) -> list[str]:
    """Return the problems of a model's settings."""
    problems = one_of("model.precision", model.precision, PRECISIONS)
    if isinstance(model, ScoredModelSettings):
        problems += one_of("model.backend", model.backend, BACKENDS)
    problems += above_zero({"model.query_tokens": model.query_tokens, "model.max_tokens": model.max_tokens})
    for name in ("attention_dropout", "hidden_dropout"):
        rate = getattr(model, name)
        if rate is not None and not 0 <= rate < 1:
            problems.append(f"model.{name}={rate}: must be at least 0 and below 1")
    return problems


def seed_problems(seed: int) -> list[str]:
    """Return a problem if no generator accepts the seed."""
    return [] if 0 <= seed < 2**63 else [f"seed={seed}: allowed are whole numbers from 0 to 2**63 - 1"]


def one_of(key: str, value: str, allowed: Sequence[str]) -> list[str]:
    """Return a problem if the value is not allowed."""
    return [] if value in allowed else [f"{key}={value}: allowed are {', '.join(allowed)}"]


def above_zero(values: dict[str, int | None]) -> list[str]:
    """Return a problem for each given number below 1."""
    limits = {"threads": f" to {MOST_THREADS:,}"}
    return [
        f"{key}={value}: allowed are whole numbers from 1{limits.get(key, '')}"
        for key, value in values.items()
        if value is not None and (value < 1 or (key in limits and value > MOST_THREADS))
    ]


def output_problems(output: Path) -> list[str]:
    """Return a problem if nothing can be written there: found before hours of work, not after."""
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if there != output and not there.is_dir():
        return [f"output={output}: {there} is a file, not a folder"]
    if not os.access(there, os.W_OK):
        return [f"output={output}: no permission to write in {there}"]
    return []
