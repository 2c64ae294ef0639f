"""`uprank publish`: from a run folder to a verified, documented model folder."""

from ..configs.command import run
from ..configs.schema_publish import PublishCommand


def main() -> None:
    """Run the command line."""
    run("publish", PublishCommand, _publish)


def _publish(settings: PublishCommand) -> None:
    # late: --help and mistyped keys need no torch
    from rich.console import Console

    from .command import publish, publish_summary

    console = Console(highlight=False)
    for line in publish_summary(publish(settings)):
        console.print(line, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
