"""Evaluate on several ranks, as torchrun and `accelerate launch` start them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..configs.errors import UserError


@dataclass(frozen=True)
class Share:
    """The pairs that this rank scores, and how the parts are summed.

    Attributes:
        index: rank.
        count: number of ranks.
        total: adds an array over all ranks, element by element.
    """

    index: int = 0
    count: int = 1
    total: Callable[[np.ndarray], np.ndarray] = lambda array: array


@dataclass(frozen=True)
class Processes:
    """The ranks that evaluate together, as one of them sees them.

    Attributes:
        index: rank.
        count: number of ranks.
        device: device of this rank; None if the model chooses.
    """

    index: int = 0
    count: int = 1
    device: str | None = None

    @property
    def share(self) -> Share:
        """Share of this rank in every evaluation."""
        return Share(self.index, self.count, _total) if self.count > 1 else Share()

    def agree(self, problems: list[str]) -> None:
        """Raise the problems of all ranks on every rank.

        Raises:
            UserError: some rank has a problem.
        """
        if self.count > 1:
            from accelerate.utils import gather_object

            problems = list(dict.fromkeys(gather_object(problems)))
        if problems:
            raise UserError(problems)


def is_main() -> bool:
    """Return whether this process writes and prints: rank 0, or the only process."""
    # A batch system may leave RANK set for a command that it starts alone.
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def join(device: str | None) -> Processes:
    """Join the other ranks, if a launcher started several.

    Args:
        device: device asked for; `cpu` keeps all ranks off the accelerators.

    Raises:
        UserError: a sweep (`-m`) on several ranks.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(device=device)
    from accelerate import PartialState
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ..model.reranker import works_on_cpu

    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        raise UserError("-m: a sweep runs in one process; start one evaluation for several processes each")
    state = PartialState(cpu=works_on_cpu(device))
    if not is_main():
        logging.getLogger("uprank").setLevel(logging.ERROR)  # rank 0 speaks for all
    return Processes(state.process_index, state.num_processes, device or str(state.device))


def _total(array: np.ndarray) -> np.ndarray:
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    summed: Any = reduce(torch.from_numpy(array).to(PartialState().device), reduction="sum")
    result: np.ndarray = summed.cpu().numpy()
    return result


@contextmanager
def ending_together() -> Iterator[None]:
    """Exit every rank with the code of rank 0, which alone writes and judges.

    A rank that crashes takes the others with it: their wait for it fails.
    """
    code: Any = 0
    try:
        yield
    except SystemExit as end:
        code = end.code
    except UserError:
        _code_of_first(2)
        raise
    code = _code_of_first(code)
    if code:
        raise SystemExit(code)


def _code_of_first(code: Any) -> Any:
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return code
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return code
    try:
        shared = [code]
        dist.broadcast_object_list(shared, src=0)
        dist.destroy_process_group()
    except RuntimeError:  # rank 0 is gone, and has said why
        return code or 1
    return shared[0]
