"""Read JSON records into dataclasses; refuse damaged and foreign files, with the place of each wrong value.

A record is a dataclass of texts, numbers, lists, dictionaries and other records. Fields that an older version
did not write keep their defaults; unknown fields, other types and numbers that are not finite are problems.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from ..configs.errors import UserError

SHOWN, CHARACTERS = 5, 40  # problems of a file in its error, characters of a wrong value
WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a finite number"}
_Record = TypeVar("_Record")


def read_json(path: Path, what: str) -> Any:
    """Return the value in a JSON file; `what` names in errors what the file should be, `an Uprank report`.

    Raises:
        UserError: the file cannot be read, or is not JSON in UTF-8.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise UserError(f"{path}: not {what} ({error})") from error


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON; NaN and infinity are not.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON: {error}") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_record(kind: type[_Record], path: Path, what: str) -> _Record:
    """Return the record in a JSON file.

    Raises:
        UserError: as `read_json`, or values are missing, unknown or of the wrong type; several are named.
    """
    problems: list[str] = []
    value = typed(kind, read_json(path, what), "", problems)
    require_valid(problems, path, what)
    return typing.cast(_Record, value)


def require_valid(problems: list[str], path: Path, what: str) -> None:
    """Raise a UserError that names the file and the first problems, if there are any."""
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(f"{path}: not {what} ({'; '.join(problems[:SHOWN] + more)})")


def typed(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    """Return the value as its type asks for; add everything wrong to `problems`, with its place.

    >>> wrong = []
    >>> typed(dict[str, list[float]], {"a": [1.0, "2"]}, "row", wrong), wrong
    ({'a': [1.0, None]}, ["row.a[1] must be a finite number, not '2'"])
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):  # `X | None`
        return None if value is None else typed(inner[0], value, where, problems)
    if origin is list and isinstance(value, list):
        return [typed(inner[0], each, f"{where}[{i}]", problems) for i, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {name: typed(inner[1], each, _inside(where, name), problems) for name, each in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _record(hint, value, where, problems)
    if hint in WORDS and _fits(hint, value):
        return value
    words = WORDS.get(hint) or ("a list" if origin is list else "an object")
    shown = json.dumps(value, ensure_ascii=False) if value is None or isinstance(value, bool) else repr(value)
    shown = shown if len(shown) <= CHARACTERS else f"{shown[:CHARACTERS]}…"
    problems.append(f"{where or 'the whole'} must be {words}, not {shown}")
    return None


def shaped(shape: dict[str, Any], value: Any, where: str, problems: list[str]) -> None:
    """Check the fields of an object that are there and not null; fields without a shape may be anything.

    >>> wrong = []
    >>> shaped({"base": {"new_head": bool}, "sources": [{"groups": int}]},
    ...        {"base": {"new_head": 1}, "sources": [{"groups": None}, 2], "more": 3}, "", wrong)
    >>> wrong
    ['base.new_head must be true or false, not 1', 'sources[1] must be an object, not 2']
    """
    fields = typed(dict[str, Any], value, where, problems) or {}
    for name, hint in shape.items():
        each, place = fields.get(name), _inside(where, name)
        if isinstance(hint, dict) and each is not None:
            shaped(hint, each, place, problems)
        elif isinstance(hint, list):
            for number, one in enumerate(typed(list[Any] | None, each, place, problems) or []):
                shaped(hint[0], one, f"{place}[{number}]", problems)
        elif each is not None:
            typed(hint, each, place, problems)


def _record(hint: Any, value: dict[str, Any], where: str, problems: list[str]) -> Any:
    before, hints = len(problems), typing.get_type_hints(hint)
    known = {field.name: field for field in dataclasses.fields(hint)}
    needed = [
        name
        for name, field in known.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    problems += [f"{_inside(where, name)} is missing" for name in needed if name not in value]
    problems += [f"{_inside(where, name)} is unknown" for name in value if name not in known]
    values = {
        name: typed(hints[name], each, _inside(where, name), problems)
        for name, each in value.items()
        if name in known
    }
    return hint(**values) if len(problems) == before else None


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _fits(hint: Any, value: Any) -> bool:
    if hint is not float:
        return type(value) is hint  # true is no number
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
