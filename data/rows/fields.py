"""Check the values of a row, with the same messages in every reader."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

from ..problems import Problems

LARGEST_GRADE = 2**31 - 1  # as in qrels
MISSING, SCORES = "missing or wrong type", "scores and grades"  # kinds of problems
NO_NEGATIVES = "no negatives; give `neg`, or find hard ones with `uprank mine`"
CONTRADICTION = "a positive is also a negative"
LONE_SURROGATE = "an escape \\ud800 to \\udfff without its other half is no character"
_WHOLE = re.compile(r"[+-]?[0-9]{1,12}(\.0*)?")


def text_of(value: object, name: str, problems: Problems, *, present: bool = True) -> str:
    """Return the value if it is a string, and add a problem if it is none or blank.

    Args:
        value: value of a column.
        name: the column, or the place in its list.
        problems: receives the problem.
        present: False if the row lacks the column.
    """
    if not isinstance(value, str):
        what = f"is {kind_of_value(value)}, not a string" if present else "is missing"
        problems.add(MISSING, f"`{name}` {what}")
        return ""
    if not value or value.isspace():
        problems.add("empty text", f"`{name}` is an empty text")
    return value


def texts_of(values: Sequence[object], name: str, problems: Problems) -> list[str]:
    """Return the strings of a list; every other value is a problem."""
    for place, value in enumerate(values):
        if not isinstance(value, str) or not value or value.isspace():
            text_of(value, f"{name}[{place}]", problems)
    return [value for value in values if isinstance(value, str)]


def is_number(value: object) -> bool:
    """Return True for a finite number that is no truth value.

    >>> is_number(10**400), is_number(0.5), is_number(True)
    (False, True, False)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def whole_number(value: object) -> int | None:
    """Return a label as a whole number; None if it is none, or larger than qrels can hold.

    >>> [whole_number(value) for value in (2, 1.0, "0", "-1.0", 0.5, "x", True, 10**400)]
    [2, 1, 0, -1, None, None, None, None]
    """
    if isinstance(value, str):
        number = int(value.partition(".")[0]) if _WHOLE.fullmatch(value.strip()) else None
    elif is_number(value) and value == int(value):  # type: ignore[call-overload]
        number = int(value)  # type: ignore[call-overload]
    else:
        number = None
    return number if number is not None and abs(number) <= LARGEST_GRADE else None


def has_lone_surrogate(row: Mapping[str, Any]) -> bool:
    """Return True if a row has half of a character, which no tokenizer and no file takes."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def short(text: str, limit: int = 60) -> str:
    """Return a text in quotes, cut to `limit`."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def kind_of_value(value: object) -> str:
    """Return the kind of a value in words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    if isinstance(value, Number) and not isinstance(value, bool):
        return "a number"
    return names.get(type(value), f"of type {type(value).__name__}")
