"""Words of the command line, spelled for Hydra so that a text keeps the letters that were typed.

Hydra's grammar reads `output=2026_11_30` as a number, and refuses `data.train=训练.jsonl` or a path with `(`.
Here every value of a setting that is a text is put in Hydra's quotes, unless it is there already.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml

# Settings that take a path, or a list or mapping with paths.
SOURCES = ("data", "data.train", "data.dev", "data.test", "models", "runs")
# Keys in such a mapping whose values are numbers.
NUMBERS = ("depth", "query_tokens", "max_tokens", "attention_dropout", "hidden_dropout")
_FUNCTION = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|extend_list)\(.*\)")
_PIECE = re.compile(r"""[{}\[\],]|(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^{}\[\],])+?(?=[{}\[\],]|$)""")


def spelled(arguments: Sequence[str], schema: type[Any]) -> list[str]:
    """Return the words for Hydra.

    Args:
        arguments: words after the command, as typed.
        schema: settings of the command.

    >>> from uprank.configs.schema_eval import EvalCommand
    >>> spelled(["output=1.10", "depth=5", "models={a: 1.10, b: {path: x y, max_tokens: 64}}"], EvalCommand)
    ["output='1.10'", 'depth=5', "models={a: '1.10', b: {path: 'x y', max_tokens: 64}}"]
    """
    texts, sweeps = dict(_texts(schema)), bool({"-m", "--multirun"} & set(arguments))
    words = []
    for word in arguments:
        key, equals, value = word.partition("=")
        plain = key.lstrip("+")
        inner = plain.partition(".")[0] in ("models", "runs") and plain.rpartition(".")[2] not in NUMBERS
        if equals and (plain in texts or (inner and "." in plain)):
            parts = _choices(value) if sweeps else [value]
            optional = texts.get(plain, True)
            values = [_spelled(plain, part, optional=optional, sweeps=sweeps) for part in parts]
            word = f"{key}={','.join(values)}"
        words.append(word)
    return words


def respelled(choices: Mapping[str, Any], folders: Iterable[Path], schema: type[Any]) -> list[str]:
    """Return a problem for each text in YAML files that YAML reads as a number or truth value, and respells.

    Args:
        choices: name of the file chosen from each folder of settings, such as `experiment`.
        folders: where these folders are looked for.
        schema: settings of the command.
    """
    texts, problems = dict(_texts(schema)), []
    for group, name in choices.items():
        files = [folder / group / f"{name}.yaml" for folder in folders] if isinstance(name, str) else []
        for file in [file for file in files if file.is_file()][:1]:
            written = file.read_text(encoding="utf-8")
            prefix = "" if "@package _global_" in written else f"{group.replace('/', '.')}."
            for key, line, letters in _scalars(yaml.compose(written), prefix):
                value = yaml.safe_load(letters)
                if key in texts and value is not None and str(value) != letters:
                    problems.append(
                        f'{file}:{line}: YAML reads {letters} as {value}; write {key}: "{letters}"'
                    )
    return problems


def _scalars(node: Any, prefix: str) -> Iterator[tuple[str, int, str]]:
    """Yield name, line and letters of each value that stands without quotes."""
    for key, value in getattr(node, "value", None) or [] if isinstance(node, yaml.MappingNode) else []:
        name = f"{prefix}{key.value}"
        yield from _scalars(value, f"{name}.")
        if isinstance(value, yaml.ScalarNode) and value.style is None:
            yield name, value.start_mark.line + 1, value.value


def _texts(schema: type[Any], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the settings that are texts or lists of texts, and whether they may be null."""
    for field in dataclasses.fields(schema):
        kind: Any = get_type_hints(schema)[field.name]
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(kind):
            yield from _texts(kind, f"{key}.")  # type: ignore[arg-type]
        elif kind in (str, str | None, list[str], list[str] | None) or key in SOURCES:
            yield key, kind not in (str, list[str])


def _spelled(key: str, value: str, *, optional: bool, sweeps: bool) -> str:
    if (
        not value
        or (sweeps and _FUNCTION.fullmatch(value))
        or value.startswith("extend_list(")
        or (optional and value == "null")
    ):
        return value
    if value[0] + value[-1] in ("{}", "[]") and (key in SOURCES or value[0] == "["):
        return "".join(_inside(value))
    return _quoted(value, path="prompt" not in key)


def _inside(value: str) -> Iterator[str]:
    """Yield the pieces of a list or mapping, with its texts in quotes."""
    open_brackets: list[str] = []
    for piece in _PIECE.findall(value):
        if piece in "{[":
            open_brackets.append(piece)
        elif piece in "}]" and open_brackets:
            open_brackets.pop()
        if piece in ("{", "[", "}", "]"):
            yield piece
        elif piece == ",":
            yield ", "
        elif open_brackets[-1:] == ["{"]:
            key, colon, text = piece.partition(":")
            plain = key.strip() in NUMBERS or text.strip() in ("", "null")
            key = key.strip()
            yield f"{key}{colon} {text.strip() if plain else _quoted(text.strip())}" if colon else piece
        else:
            yield piece if piece.strip() == "null" else _quoted(piece.strip())


def _quoted(text: str, *, path: bool = True) -> str:
    """Return a text in Hydra's quotes; `~/` is the home folder, which shells leave alone after `=`."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = re.sub(rf"\\({text[0]})", r"\1", text[1:-1])
    if path and text.startswith(("~/", "~\\")):
        text = str(Path(text).expanduser())
    return QuotedString(text, Quote.single).with_quotes()


def _choices(value: str) -> list[str]:
    """Return the values of a sweep: parts between commas that stand in no brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in value:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "{[(":
            depth += 1
        elif letter in "}])":
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
