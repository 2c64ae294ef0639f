"""`uprank COMMAND key=value …`: picks the room that does it."""

import difflib
import importlib
import io
import sys

from . import __version__

COMMANDS = {
    "check": ("uprank.train.check", "find every problem in the data before it costs a run"),
    "split": ("uprank.train.split", "part queries into train, dev and test, with their passages apart"),
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 still shows something
            stream.reconfigure(errors="backslashreplace")
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "help" and len(sys.argv) > 2:
        name, sys.argv[1:] = sys.argv[2], [sys.argv[2], "--help"]
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
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        sys.stderr.write(f"uprank: unknown command {name!r}{hint}\n\n{text}")
        raise SystemExit(2)


if __name__ == "__main__":
    main()
