"""What a run works on, and its weights as evaluation reads them: whole, and averaged."""

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
from .optim import KEY, LossScale, empty, full, local


@dataclass
class Run:
    """What the loop works on.

    Attributes:
        settings: the run's settings.
        output: the run folder.
        accelerator: processes and devices.
        reranker: the model; its scorer holds the weights.
        scorer: the scorer as accelerate prepared it for several processes.
        optimizer: AdamW.
        mix: the training groups, in the order in which they are learned from.
        dev: the dev queries.
        steps: optimiser steps of the whole run.
        replicas: the scorer again, with gradients of their own, for further streams on a CPU.
        scale: what the loss is multiplied by in fp16.
        cut_said: whether it was said that gradients of large groups are computed in parts.
        sharded: whether the processes have shared the weights out (FSDP); the reranker's are then only there
            within `sharded.whole`.
        repeated: positives of queries that stand in several rows, where in-batch negatives are asked for.
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
        """The transformers model whose parameters the optimiser has."""
        return self.scorer.model if self.sharded else self.reranker.model

    @property
    def tokens_per_batch(self) -> int:
        """Tokens of a batch: what was asked for, or what suits the device."""
        fitting = suitable_tokens(self.accelerator.device.type, training=True)
        return self.settings.train.tokens_per_batch or fitting

    @property
    def largest_group(self) -> int:
        """Tokens of a group at most whose gradient is computed at once."""
        return largest_group(self.accelerator.device.type, self.settings.train.tokens_per_batch)

    @property
    def share(self) -> Share:
        """What of every evaluation falls to this process."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes, self.total)

    def total(self, array: np.ndarray) -> np.ndarray:
        """Sum of an array over all processes."""
        if self.accelerator.num_processes == 1:
            return array
        tensor = torch.from_numpy(array).to(self.accelerator.device)
        summed: np.ndarray = self.accelerator.reduce(tensor, reduction="sum").cpu().numpy()
        return summed


PIECE = 1 << 22  # numbers that are exchanged at a time: no second copy of a word table


@contextmanager
def averaged(run: Run) -> Iterator[None]:
    """Let the model have the averaged weights meanwhile, where they are kept; under FSDP whole ones.

    They change places with the weights, bit for bit and back again, also where an error ends it.
    """
    if run.settings.train.ema is None:
        with whole(run):
            yield
        return
    _exchange(run)
    try:
        with whole(run):
            yield
    finally:
        _exchange(run)


@torch.no_grad()
def _exchange(run: Run) -> None:
    for parameter, state in run.optimizer.state.items():
        if KEY in state:
            pieces = (tensor.view(-1).split(PIECE) for tensor in map(local, (parameter.detach(), state[KEY])))
            for weights, average in zip(*pieces, strict=True):
                held = weights.clone()
                weights.copy_(average)
                average.copy_(held)
    run.reranker.scorer.weights_changed()


@contextmanager
def whole(run: Run) -> Iterator[None]:
    """Let the reranker have whole weights meanwhile, those of the trained copy; all processes are at it."""
    if not run.sharded:
        yield
        return
    own = dict(run.reranker.model.named_parameters())
    with torch.no_grad():
        for name, part in run.scorer.model.named_parameters():
            own[name].data = full(part.detach())
    run.reranker.scorer.weights_changed()
    try:
        yield
    finally:
        empty(run.reranker.model)
        run.reranker.scorer.weights_changed()
