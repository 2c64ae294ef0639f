"""Read the settings and their help texts from the schema classes, for `--help` and error messages."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from .schema import MISSING

EXAMPLES = {
    "check": "uprank check data.train=train.jsonl data.dev=my-data model.path=BAAI/bge-reranker-base",
    "split": "uprank split data=rows.jsonl output=parts dev=0.1 test=0.1 by=passage",
    "mine": "uprank mine data.train=my-data output=train.jsonl",
    "train": "uprank train model=bge-reranker-base data.train=train.jsonl data.dev=my-data output=runs/first",
    "runs": "uprank runs folder=runs",
    "eval": 'uprank eval "models={base: BAAI/bge-reranker-base, tuned: RUN/best}" data.test=my-data output=t',
    "publish": "uprank publish run=runs/first reports=[t] output=my-reranker",
    "verify": "uprank verify my-reranker",
    "score": "uprank score model.path=my-reranker input=pairs.jsonl output=scored.jsonl",
}


def known_keys(schema: type[Any], prefix: str = "") -> dict[str, str]:
    """Return every dotted setting of a command with its help text.

    >>> from uprank.configs.schema_data import MineCommand
    >>> known_keys(MineCommand)["depth"]
    'Draw negatives from the best `depth` passages of the first stage.'
    """
    keys: dict[str, str] = {}
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            keys |= known_keys(kind, f"{prefix}{field.name}.")  # type: ignore[arg-type]
        else:
            keys[prefix + field.name] = _sentence(schema, field.name)
    return keys


def nearest(key: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the most similar known key, or an empty string."""
    names = list(known)
    prefix, _, last = key.rpartition(".")
    short = [
        name
        for name in names
        if last == "".join(word[0] for word in name.rpartition(".")[2].split("_") if word)
        and len(last) > 1
        and name.startswith(f"{prefix}." * bool(prefix))
    ]  # lr for learning_rate
    found = short or difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    if not found:  # the right name in the wrong place: epochs for train.epochs
        found = [name for name in names if name.rpartition(".")[2] == last] or [
            name
            for name in names
            if difflib.get_close_matches(last, [name.rpartition(".")[2]], n=1, cutoff=0.75)
        ]
    return f"; did you mean {found[0]!r}?" if found else ""


def setting_groups(command: str) -> dict[str, list[str]]:
    """Return the config groups of a command (`loss=listwise`) with their choices."""
    if command != "train":
        return {}
    folders = sorted(folder for folder in Path(__file__).parent.iterdir() if folder.is_dir())
    choices = {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}
    return {name: names for name, names in choices.items() if names and name != "accelerate"}


def print_help(command: str, schema: type[Any]) -> None:
    """Print every setting with its default and help text."""
    groups = [f"  {name}={'|'.join(choices)}" for name, choices in setting_groups(command).items()]
    lines = [f"uprank {command} KEY=VALUE …   (sweeps: -m KEY=A,B; Hydra's own help: --hydra-help)"]
    lines += [f"Example: {EXAMPLES[command]}", ""] if command in EXAMPLES else [""]
    defaults = _defaults(schema())
    before = ""
    for key, sentence in known_keys(schema).items():
        default, group = defaults[key], key.rpartition(".")[0]
        lines += [""] if group != before else []
        before = group
        shown = "required" if default == MISSING else f"default {'not set' if default is None else default}"
        lines += [f"{key}  ({shown})", *(f"    {line.strip()}" for line in sentence.splitlines())]
    if groups:
        lines += ["", "Groups of settings by name:", *groups]
    sys.stdout.write("\n".join(lines) + "\n")


def _defaults(settings: Any, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            values |= _defaults(value, f"{prefix}{field.name}.")
        else:
            values[prefix + field.name] = value
    return values


def _sentence(schema: type[Any], name: str) -> str:
    """Return the help text of a field, its own or inherited."""
    classes = [kind for kind in schema.__mro__ if dataclasses.is_dataclass(kind)]
    found = (_sentences(kind.__module__).get((kind.__name__, name), "") for kind in classes)
    return next(filter(None, found), "")


@cache
def _sentences(module: str) -> dict[tuple[str, str], str]:
    """Map (class, field) to the string below the field in the module's source."""
    texts = {}
    file = sys.modules[module].__file__
    assert file is not None, "schema classes come from files"
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            for field, below in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and _is_string(below)
                ):
                    texts[node.name, field.target.id] = below.value.value  # type: ignore[attr-defined]
    return texts


def _is_string(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
