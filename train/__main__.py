"""`uprank train`: fine-tune a reranker; also started by `accelerate launch -m uprank.train` and torchrun."""

from ..configs.command import run
from ..configs.schema import TrainCommand


def _train(settings: TrainCommand) -> None:
    from .run import train

    train(settings)


def main() -> None:
    """Run the command."""
    run("train", TrainCommand, _train)


if __name__ == "__main__":
    main()
