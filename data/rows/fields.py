"""Check the values of a row, with the same messages in every reader."""

from __future__ import annotations

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

from ..problems import Problems

LARGEST_GRADE = 2**31 - 1  # as in qrels
LARGEST_FLOAT = 3.4028235e38  # of float32, in which scores are compared
MISSING, SCORES = "missing or wrong type", "scores and grades"  # kinds of problems
NO_NEGATIVES = "no negatives; give `neg`, or find hard ones with `uprank mine`"
CONTRADICTION = "a positive is also a negative"
LONE_SURROGATE = "an escape \\ud800 to \\udfff without its other half is no character"
# How pandas, spreadsheets and databases write a missing value as text.
NOTHING = frozenset(("NaN", "nan", "None", "NULL", "null", "N/A", "n/a", "#N/A", "<NA>"))
LABELS = ("label", "labels", "score", "scores", "relevance", "rel", "grade", "grades")
_RELEVANT = ("true", "yes", "relevant", "positive", "match")
_OTHERS = ("false", "no", "irrelevant", "not relevant", "non relevant", "negative", "no match")
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
    elif value in NOTHING:
        problems.add("empty text", f"`{name}` is {value!r}: a missing value, not a text")
    elif value[0] == "[" and looks_like_list(value):
        problems.add(MISSING, f"`{name}` is a list written as text that cannot be read: {short(value)}")
    return value


def texts_of(values: Sequence[object], name: str, problems: Problems) -> list[str]:
    """Return the strings of a list; every other value is a problem."""
    for place, value in enumerate(values):
        if not isinstance(value, str) or not value or value.isspace() or value in NOTHING or value[0] == "[":
            text_of(value, f"{name}[{place}]", problems)
    return [value for value in values if isinstance(value, str)]


def is_number(value: object) -> bool:
    """Return True for a number that a float32 can hold and that is no truth value.

    >>> is_number(10**400), is_number(1e39), is_number(0.5), is_number(True)
    (False, False, True, False)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return abs(value) <= LARGEST_FLOAT  # also false of NaN
    except OverflowError:  # a whole number that no float holds
        return False


def whole_number(value: object) -> int | None:
    """Return a label as a whole number; None if it is none, or larger than qrels can hold.

    >>> [whole_number(value) for value in (2, 1.0, "0", "-1.0", 0.5, "x", True, 10**400)]
    [2, 1, 0, -1, None, None, 1, None]
    >>> whole_number("not_relevant"), whole_number("True")
    (0, 1)
    """
    if isinstance(value, bool):
        number: int | None = int(value)
    elif isinstance(value, str):
        word = re.sub(r"[\s_-]+", " ", value.strip().lower())
        if word in (*_RELEVANT, *_OTHERS):
            return int(word in _RELEVANT)
        number = int(value.partition(".")[0]) if _WHOLE.fullmatch(value.strip()) else None
    elif is_number(value) and value == int(value):  # type: ignore[call-overload]
        number = int(value)  # type: ignore[call-overload]
    else:
        number = None
    return number if number is not None and abs(number) <= LARGEST_GRADE else None


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose values are what their writer meant.

    A list written as text (`['a', 'b']`, as pandas writes it to CSV) is a list; a passage given as
    `{docid, title, text}` (Tevatron, MIRACL) is its title and text; NaN is null.
    """
    return {name: plain_value(value) for name, value in row.items()}


def named_classes(row: dict[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a row with the names of its labels in place of their numbers (`ClassLabel` of `datasets`).

    The number is a place in a list of names and says nothing of relevance: in SNLI 0 is the entailment. A
    name that says nothing either is refused as a label.
    """
    for column, known in names.items():
        place = row.get(column)
        is_label = column.strip().lower() in LABELS
        if is_label and isinstance(place, int) and 0 <= place < len(known):
            row = {**row, column: known[place]}
    return row


def plain_value(value: Any) -> Any:
    """Return one value of `plain_row`.

    >>> plain_value("['a', 'b']"), plain_value({"docid": "1", "title": "T", "text": "x"})
    (['a', 'b'], 'T x')
    >>> plain_value("[1] as in [2]")
    '[1] as in [2]'
    """
    if isinstance(value, str):
        return _written_list(value) if value[:1] == "[" and value[-1:] == "]" else value
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [plain_value(one) for one in value]
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        title = value.get("title")
        return f"{title} {value['text']}" if isinstance(title, str) and title else value["text"]
    return None if isinstance(value, float) and math.isnan(value) else value


def _written_list(text: str) -> Any:
    """Return the texts or numbers of a list written in Python or JSON, else the text itself."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        try:
            values = ast.literal_eval(text)
            # numpy leaves out the commas, and Python then joins the texts
            words = tokenize.generate_tokens(io.StringIO(text).readline)
            if sum(word.type == tokenize.STRING for word in words) not in (0, len(values)):
                return text
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
            return text
    texts = all(isinstance(value, str) for value in values)
    return values if texts or (len(values) > 1 and all(map(is_number, values))) else text


def looks_like_list(text: str) -> bool:
    """Return True for a list written as text that cannot be read: numpy's, or one that was cut."""
    return re.match(r"""\[\s*(['"]).*\1\s*(,|\1|\]|$)""", text, re.DOTALL) is not None


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
