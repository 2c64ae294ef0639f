"""`uprank train`: fine-tune a reranker; also started by `accelerate launch -m uprank.train` and torchrun."""

import os
import sys
from functools import partial
from pathlib import Path

from ..configs.command import run
from ..configs.schema_train import TrainCommand
from ..configs.sweep import Sweep


def _train(settings: TrainCommand) -> None:
    from .monitor import Stopped
    from .run import train

    try:
        train(settings)
    except Stopped as stopped:
        _print(f"{stopped}; the same command continues it:\n  {stopped.command}")
        raise SystemExit(128 + stopped.signal) from None


def _print(message: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"uprank train: {message}\n")


def _finished(settings: TrainCommand) -> bool:
    from .sweeps import finished

    return finished(settings)


def _value(settings: TrainCommand) -> float | None:
    from .sweeps import best_value

    return best_value(settings)


def _print_results(folder: Path) -> None:
    from .sweeps import print_results

    print_results(folder)


main = partial(run, "train", TrainCommand, _train, Sweep(_finished, _value, _print_results))

if __name__ == "__main__":
    main()
