"""`uprank train`: fine-tune a reranker; also started by `accelerate launch -m uprank.train` and torchrun."""

import os
import sys

from ..configs.command import run
from ..configs.schema_train import TrainCommand


def _train(settings: TrainCommand) -> None:
    from .run import train
    from .stop import Stopped

    try:
        train(settings)
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(
                f"uprank train: {stopped}; the same command continues it:\n  {stopped.command}\n"
            )
        raise SystemExit(128 + stopped.signal) from None


def main() -> None:
    """Run the command."""
    run("train", TrainCommand, _train)


if __name__ == "__main__":
    main()
