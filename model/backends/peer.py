"""The interface that scoring needs from a model in another library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...data.encoding import PairEncoder
from ...data.prompts import NO_PROMPTS, Pair, Prompts

# `model.backend` -> module, name and extra of the package; Uprank itself needs none.
PACKAGES = {
    "sentence_transformers": ("sentence_transformers", "sentence-transformers", "st"),
    "flag_embedding": ("FlagEmbedding", "FlagEmbedding", "flag"),
    "onnx": ("onnxruntime", "onnxruntime", "onnx"),
    "openvino": ("openvino", "openvino", "openvino"),
}
GRAPHS = ("onnx", "openvino")  # backends whose model is a graph in a file
TOLERANCE = 1e-4  # logits; rounding in fp32 is far below


@dataclass
class Peer:
    """A model in another library.

    Attributes:
        backend: `sentence_transformers`, `flag_embedding`, `onnx` or `openvino`.
        predict: maps a few pairs to raw logits in one padded batch.
        tokenizer: tokenizer of the model.
        pairs: counts tokens. Only graph backends encode with it; the libraries truncate by their own rules.
        budgets: tokens of the query (0 if the library has no such budget) and of the pair.
        weights: `sha256:…`.
        path: where the model was loaded from.
        device: `cpu`, `cuda:0`…
        tokens_per_batch: tokens in one padded batch.
        precision: always `fp32`, whatever the graph computes in.
        new_head: always False: the other libraries score only with a trained head.
        settings: what decides a score besides weights, tokenizer and budgets, for the cache.
        alone: whether each pair is a batch of its own, because a score depends on the rest of the batch.
        prompts: prompts put before the texts that are scored.
    """

    backend: str
    predict: Callable[[list[Pair]], np.ndarray]
    tokenizer: Any
    pairs: PairEncoder
    budgets: tuple[int, int]
    weights: str
    path: str
    device: str
    tokens_per_batch: int
    precision: str = "fp32"
    new_head: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)
    alone: bool = False
    prompts: Prompts = NO_PROMPTS

    @property
    def as_read(self) -> Peer:
        """Same model without prompts, for texts that already contain theirs."""
        return replace(self, prompts=NO_PROMPTS)

    def score(self, pairs: Iterable[Pair], *, progress: Callable[[int], object] | None = None) -> np.ndarray:
        """Return raw logits in the order given, float32, shape (N,); each distinct pair is scored once.

        Args:
            pairs: any number of pairs of strings.
            progress: called with the number of distinct pairs done since the last call.
        """
        slots: dict[Pair, int] = {}
        where = [slots.setdefault(pair, len(slots)) for pair in self.prompts.pairs(pairs)]
        distinct = list(slots)
        scores = np.empty(len(distinct), dtype=np.float32)
        lengths = np.minimum(self.pairs.full_lengths(distinct), self.pairs.max_tokens)
        for batch in _batches(lengths, 1 if self.alone else self.tokens_per_batch):
            scores[batch] = self.predict([distinct[place] for place in batch])
            if progress:
                progress(len(batch))
        return scores[np.asarray(where, dtype=np.int64)]

    def weights_hash(self) -> str:
        """Return `sha256:…` of the weights, or of the files of a graph."""
        return self.weights


def depends_on_batch(predict: Callable[[list[Pair]], np.ndarray]) -> bool:
    """Return whether a short pair gets another score beside a long one than alone, as convolutions give it.

    Args:
        predict: see `Peer`.
    """
    short, long = ("one", "two"), ("one", "two " * 100)
    beside, alone = predict([short, long])[:1], predict([short])
    return bool(np.isfinite(beside).all()) and not np.allclose(beside, alone, atol=TOLERANCE, rtol=TOLERANCE)


def _batches(lengths: np.ndarray, tokens: int) -> Iterator[list[int]]:
    """Yield places of pairs of similar length, so many that a padded batch has at most `tokens` tokens."""
    batch: list[int] = []
    for place in np.argsort(-lengths, kind="stable").tolist():
        if batch and int(lengths[batch[0]]) * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
