"""Settings that several commands have: a model and how it reads pairs, a bi-encoder.

This file and `schema_*.py` beside it hold every setting of every command: its type, its default, and a
sentence on what it decides. Plain dataclasses and no other imports: YAML and the command line choose values,
these files say which names exist. `MISSING` marks what the user has to give.
"""

from dataclasses import dataclass
from typing import Any

MISSING: Any = "???"  # OmegaConf's own mark for a mandatory value


@dataclass
class ModelSettings:
    """Which reranker, and how a pair becomes token ids."""

    path: str = MISSING
    """Hub id, folder, or `package:NAME` for a model inside an installed Python package."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; its main branch when not set."""
    precision: str = "fp32"
    """`fp32`; `bf16` or `fp16`: matrix products in 16 bit, weights, softmax and loss stay fp32. `fp16` is for
    GPUs without bfloat16: in training the loss is scaled, and steps whose gradients overflow are skipped."""
    query_tokens: int | None = None
    """Tokens of the query that are kept when a pair is too long (the passage is cut first); when not set,
    what the model was saved with, else 128."""
    max_tokens: int | None = None
    """Longest pair in tokens, special tokens included, never above the model's positions; when not set,
    what the model was saved with, else the length that its tokenizer states, 512 at most."""
    query_prompt: str | None = None
    """Put before every query whose row has no `query_prompt` of its own, and counted in the budgets; what the
    model was saved with when not set, an empty string for none."""
    passage_prompt: str | None = None
    """Put before every passage whose row has no `passage_prompt` of its own; otherwise as `query_prompt`."""
    attention_dropout: float | None = None
    """Dropout on attention weights while training; the model's own value when not set."""
    hidden_dropout: float | None = None
    """Dropout on hidden states while training; the model's own value when not set."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`; the fastest one present when not set."""


@dataclass
class ScoredModelSettings(ModelSettings):
    """A model that is only scored with, not trained."""

    backend: str = "uprank"
    """What scores: `uprank`, or to compare libraries `sentence_transformers`, `flag_embedding`, `onnx`
    (a folder with model.onnx and tokenizer.json; a dynamically quantised graph, whose scores would
    depend on the batch, is given one pair at a time), `openvino` (a folder with an OpenVINO graph)."""


@dataclass
class EvalModelSettings(ScoredModelSettings):
    """The one model to evaluate, and the budgets that every model is given."""

    path: str | None = None  # type: ignore[assignment]
    """Hub id or folder of the one model to evaluate; `models` takes several."""


@dataclass
class DenseSettings:
    """The bi-encoder behind the first stages `dense` and `hybrid`."""

    path: str | None = None
    """Hub id, folder or `package:NAME` of a sentence-transformers model."""
    query_prompt: str = ""
    """Put before every query, `query: ` for models of the E5 family; what the model itself states when
    not set."""
    passage_prompt: str = ""
    """Put before every passage, `passage: ` for models of the E5 family; what the model itself states
    when not set."""
    batch_size: int = 32
    """Texts encoded at a time: memory and speed, never the result but for rounding."""
