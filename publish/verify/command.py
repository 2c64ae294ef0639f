"""`uprank verify`: prove a published folder again."""

from __future__ import annotations

import sys

from ...configs.command import run
from ...configs.errors import UserError
from ...configs.schema_publish import VerifyCommand
from ...configs.validate import above_zero


def main() -> None:
    """Run the command line; `uprank verify FOLDER` is short for `folder=FOLDER`."""
    words = sys.argv[1:]
    if len(words) == 1 and not words[0].startswith("-") and "=" not in words[0]:
        sys.argv[1:] = [f"folder={words[0]}"]
    run("verify", VerifyCommand, _verify)


def _verify(settings: VerifyCommand) -> None:
    """Print a line for each proof; exit code 1 if one failed."""
    # late: --help and mistyped keys need no torch
    from pathlib import Path

    from .folder import verify_folder

    problems = above_zero({"threads": settings.threads})
    if settings.measured and not Path(settings.measured).expanduser().is_dir():
        problems.append(f"measured={settings.measured}: no such folder; give RUN/best")
    if problems:
        raise UserError(problems)
    if settings.threads:
        import torch

        torch.set_num_threads(settings.threads)
    lines = []
    measured = Path(settings.measured).expanduser() if settings.measured else None
    for line in verify_folder(Path(settings.folder).expanduser(), measured):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        lines.append(line)
    counts = [sum(line.held is held for line in lines) for held in (True, False, None)]
    sys.stdout.write("{} held, {} failed, {} not checked\n".format(*counts))
    if counts[1]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
