"""`uprank train`: fine-tune a reranker; also started by `accelerate launch -m uprank.train` and torchrun."""

import os
import sys
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
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(
                f"uprank train: {stopped}; the same command continues it:\n  {stopped.command}\n"
            )
        raise SystemExit(128 + stopped.signal) from None
    except RuntimeError as error:
        # What gloo says to the others when a process has ended, and has said why.
        if "closed by peer" not in str(error).lower():
            raise
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(
                "uprank train: another process of this run has ended, and so does this one; what it said is "
                "above. The same command continues after the last checkpoint\n"
            )
        raise SystemExit(1) from None


def _finished(settings: TrainCommand) -> bool:
    from .sweeps import finished

    return finished(settings)


def _value(settings: TrainCommand) -> float | None:
    from .sweeps import best_value

    return best_value(settings)


def _tell(folder: Path) -> None:
    from .sweeps import tell

    tell(folder)


def main() -> None:
    """Run the command."""
    run("train", TrainCommand, _train, Sweep(_finished, _value, _tell))


if __name__ == "__main__":
    main()
