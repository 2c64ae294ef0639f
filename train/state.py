"""The state of a training run, and its weights as evaluation reads them: gathered and averaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configs.schema_train import TrainCommand
from ..data.sampling import Mix
from ..eval.processes import Share
from ..model.forward import suitable_tokens
from ..model.reranker import Reranker
from .batches import largest_group
from .dev import Dev
from .optim import LossScale, empty, full, swap_average


@dataclass
class Run:
    """Everything that the training loop works on.

    Attributes:
        settings: the run's settings.
        output: the run folder.
        accelerator: processes and devices.
        reranker: the model; its scorer holds the weights.
        scorer: the scorer as accelerate prepared it for several processes.
        optimizer: AdamW or another.
        mix: the training groups in training order.
        dev: the dev queries.
        steps: optimizer steps of the whole run.
        replicas: copies of the scorer with the same weights and their own gradients, for streams on a CPU.
        scale: the loss scale of fp16.
        cut_said: True once the log has said that large groups are computed in parts.
        sharded: True if the weights are sharded (FSDP); the reranker then has weights only within `whole`.
        repeated: positives of queries that appear in several rows, for in-batch negatives.
    """

    settings: TrainCommand
    output: Path
    accelerator: Any
    reranker: Reranker
    scorer: Any
    optimizer: torch.optim.Optimizer
    mix: Mix
    dev: Dev
    steps: int
    replicas: list[Any] = field(default_factory=list)
    scale: LossScale | None = None
    cut_said: bool = False
    sharded: bool = False
    repeated: dict[str, set[str]] = field(default_factory=dict)

    @property
    def trained(self) -> Any:
        """The transformers model whose parameters the optimizer updates."""
        return self.scorer.model if self.sharded else self.reranker.model

    @property
    def tokens_per_batch(self) -> int:
        """Token budget of a batch: the setting, or what suits the device."""
        suitable = suitable_tokens(self.accelerator.device.type, training=True)
        return self.settings.train.tokens_per_batch or suitable

    @property
    def largest_group(self) -> int:
        """Most tokens of a group whose gradient is computed in one pass."""
        return largest_group(self.accelerator.device.type, self.settings.train.tokens_per_batch)

    @property
    def share(self) -> Share:
        """Share of this rank in an evaluation."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes, self.total)

    def total(self, array: np.ndarray) -> np.ndarray:
        """Sum an array over all ranks (collective)."""
        if self.accelerator.num_processes == 1:
            return array
        tensor = torch.from_numpy(array).to(self.accelerator.device)
        summed: np.ndarray = self.accelerator.reduce(tensor, reduction="sum").cpu().numpy()
        return summed

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Temporarily gather sharded weights into the reranker (collective)."""
        if not self.sharded:
            yield
            return
        weights = dict(self.reranker.model.named_parameters())
        with torch.no_grad():
            for name, shard in self.scorer.model.named_parameters():
                weights[name].data = full(shard.detach())
        self.reranker.scorer.weights_changed()
        try:
            yield
        finally:
            empty(self.reranker.model)
            self.reranker.scorer.weights_changed()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Temporarily give the reranker whole weights, averaged ones under `train.ema` (collective).

        Weights and averages are swapped and swapped back bit for bit, also after an error.
        """
        if self.settings.train.ema is None:
            with self.whole():
                yield
            return
        self._swap_average()
        try:
            with self.whole():
                yield
        finally:
            self._swap_average()

    def _swap_average(self) -> None:
        swap_average(self.optimizer)
        self.reranker.scorer.weights_changed()
