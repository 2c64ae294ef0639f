"""An evaluation by several processes, as torchrun and `accelerate launch` start them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..configs.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Processes:
    """The processes that evaluate together, as one of them sees them.

    Attributes:
        index: number of this one.
        count: how many there are.
        device: the device it was given; None when the model's own choice holds.
    """

    index: int = 0
    count: int = 1
    device: str | None = None

    @property
    def share(self) -> Share:
        """What of every evaluation falls to this process."""
        return Share(self.index, self.count, _total) if self.count > 1 else Share()

    def agree(self, problems: list[str]) -> None:
        """Raise on every process what any of them found.

        Raises:
            UserError: there is a problem on some process.
        """
        if self.count > 1:
            from accelerate.utils import gather_object

            problems = list(dict.fromkeys(gather_object(problems)))
        if problems:
            raise UserError(problems)


def is_main() -> bool:
    """Whether this process writes and prints; the only one, or the first of several."""
    # A batch system may leave RANK set for a command that it starts alone.
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def join(device: str | None) -> Processes:
    """Find the other processes, if a launcher started several.

    Args:
        device: what was asked for; `cpu` keeps all of them off the accelerators.

    Raises:
        UserError: a sweep (`-m`) by several processes.
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
        logging.getLogger("uprank").setLevel(logging.ERROR)  # the first process says what all would say
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
    """Let every process exit with the code of the first one, which alone writes and judges.

    A process that crashes otherwise takes the others with it: their wait for it fails.
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
    except RuntimeError:  # the first process is gone, and has said why
        return code or 1
    return shared[0]


@dataclass(frozen=True)
class Share:
    """Which pairs this process scores, and how the parts come together.

    Attributes:
        index: number of this process.
        count: number of processes.
        total: adds an array over all processes, element by element.
    """

    index: int = 0
    count: int = 1
    total: Callable[[np.ndarray], np.ndarray] = lambda array: array
