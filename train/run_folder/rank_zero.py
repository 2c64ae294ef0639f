"""Write on rank 0 alone, with every rank waiting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...configs.errors import UserError
from ...eval.processes import Share


def on_first(share: Share, work: Callable[[], object]) -> None:
    """Run `work` on rank 0; every rank waits and raises its error.

    Raises:
        UserError: as `work` raised it, on every rank: the others would wait for rank 0 forever.
    """
    error = None
    if share.index == 0:
        try:
            work()
        except UserError as raised:
            error = raised
    if share.total(np.array([float(error is not None)]))[0]:
        raise error or UserError("the first process stopped with an error; see its message")
