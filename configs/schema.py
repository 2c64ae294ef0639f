"""Settings shared by several commands: a model and how it reads pairs, and a bi-encoder.

This file and the other `schema_*.py` define every setting of every command: its type, its default and a
sentence on its effect. They are plain dataclasses without other imports: these files define the names, YAML
and the command line choose the values. `MISSING` marks what the user must give.
"""

from dataclasses import dataclass
from typing import Any

MISSING: Any = "???"  # OmegaConf's own mark for a mandatory value


@dataclass
class ModelSettings:
    """A reranker, and how a pair becomes token ids."""

    path: str = MISSING
    """Hub id, folder, or `package:NAME` for a model inside an installed Python package."""
    revision: str | None = None
    """Branch, tag or commit of a hub model. Default: its main branch."""
    precision: str = "fp32"
    """`fp32`, `bf16`, `fp16`, or `auto`: `bf16` where the hardware has it, else `fp32`. Only matrix products
    run in 16 bit; weights, softmax and loss stay fp32. `fp16` is for GPUs without bfloat16: training scales
    the loss and skips steps whose gradients overflow."""
    query_tokens: int | None = None
    """Query tokens kept when a pair is too long (the passage is cut first). Default: the value saved with the
    model, else 128."""
    max_tokens: int | None = None
    """Longest pair in tokens, special tokens included; at most the model's positions. Default: the value
    saved with the model, else the tokenizer's own limit, at most 512."""
    query_prompt: str | None = None
    """Text put before each query whose row has no `query_prompt`; counts towards the budgets. Default: the
    prompt saved with the model. An empty string means none."""
    passage_prompt: str | None = None
    """Text put before each passage whose row has no `passage_prompt`; otherwise like `query_prompt`."""
    attention_dropout: float | None = None
    """Dropout on attention weights during training. Default: the model's own."""
    hidden_dropout: float | None = None
    """Dropout on hidden states during training. Default: the model's own."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`. Default: the fastest one present."""


@dataclass
class ScoredModelSettings(ModelSettings):
    """A model that scores and is not trained."""

    backend: str = "uprank"
    """Library that scores: `uprank`, or for comparison `sentence_transformers`, `flag_embedding`, `onnx` (a
    folder with model.onnx and tokenizer.json) or `openvino`. A dynamically quantised ONNX graph gets one
    pair at a time, because its scores depend on the batch."""


@dataclass
class EvalModelSettings(ScoredModelSettings):
    """The one model to evaluate, and the budgets of all models."""

    path: str | None = None  # type: ignore[assignment]
    """Hub id or folder of the one model to evaluate; `models` takes several."""


@dataclass
class DenseSettings:
    """The bi-encoder behind the first stages `dense` and `hybrid`."""

    path: str | None = None
    """Hub id, folder or `package:NAME` of a sentence-transformers model."""
    query_prompt: str = ""
    """Text put before each query: `query: ` for E5 models. Default: the model's own prompt."""
    passage_prompt: str = ""
    """Text put before each passage: `passage: ` for E5 models. Default: the model's own prompt."""
    batch_size: int = 32
    """Texts embedded at a time. Affects memory and speed; results differ only by rounding."""
