"""`uprank COMMAND key=value …`: picks the room that does it."""

import importlib
import sys

from . import __version__

COMMANDS = {
    "check": ("uprank.train.check", "find every problem in the data before it costs a run"),
    "mine": ("uprank.train.mine", "find hard negatives for queries with relevant passages"),
    "train": ("uprank.train.__main__", "fine-tune a reranker"),
    "runs": (
        "uprank.train.sweeps.runs",
        "list the runs in a folder, what differs between them, and which is best",
    ),
    "eval": ("uprank.eval.__main__", "measure rerankers on held-out queries, side by side"),
    "publish": ("uprank.publish.__main__", "make a verified model folder with card, and push it if asked"),
    "verify": ("uprank.publish.verify", "prove a published folder anew: files, scores, card"),
    "score": ("uprank.model.__main__", "score pairs, or rerank documents, from JSONL"),
}


def main() -> None:
    """Dispatch to a command."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--version", "-V"):
        sys.stdout.write(f"uprank {__version__}\n")
    elif name in COMMANDS:
        sys.argv = [f"uprank {name}", *sys.argv[2:]]
        importlib.import_module(COMMANDS[name][0]).main()
    else:
        known = "\n".join(f"  {command:8} {purpose}" for command, (_, purpose) in COMMANDS.items())
        text = f"uprank COMMAND key=value …\n\n{known}\n\nSettings of a command: uprank COMMAND --help\n"
        if name in ("-h", "--help", "help"):
            sys.stdout.write(text)
            return
        sys.stderr.write(f"uprank: unknown command {name!r}\n\n{text}")
        raise SystemExit(2)


if __name__ == "__main__":
    main()
