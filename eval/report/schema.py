"""JSON schema of `report.json` and `summary.json`, derived from the dataclasses that are written.

JSON Schema 2020-12, https://json-schema.org/draft/2020-12/schema.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from typing import Any

PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ATTRIBUTE = re.compile(r"^    (\w+): ((?:.+\n?)(?:^        .+\n?)*)", re.MULTILINE)

Schema = dict[str, Any]


def schema_of(kind: type[Any], *, without: frozenset[str] = frozenset()) -> Schema:
    """Return the schema of a dataclass as `dataclasses.asdict` writes it; other keys are not allowed.

    Args:
        kind: dataclass.
        without: fields that are not written.
    """
    definitions: dict[str, Schema] = {}
    root = _object(kind, definitions, without)
    return {"$schema": DIALECT, "title": kind.__name__, **root, "$defs": dict(sorted(definitions.items()))}


def _object(kind: type[Any], definitions: dict[str, Schema], without: frozenset[str] = frozenset()) -> Schema:
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind) if field.name not in without]
    meanings = descriptions(kind)
    properties = {}
    for name in fields:
        properties[name] = _value(hints[name], definitions)
        if name in meanings:
            properties[name] = {"description": meanings[name], **properties[name]}
    return {
        "description": (inspect.getdoc(kind) or "").partition("\n")[0],
        "type": "object",
        "properties": properties,
        "required": fields,
        "additionalProperties": False,
    }


def _value(hint: Any, definitions: dict[str, Schema]) -> Schema:
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, tuple):  # a tuple has a fixed number of values of one kind
        fixed = {"minItems": len(inner), "maxItems": len(inner)} if origin is tuple else {}
        return {"type": "array", "items": _value(inner[0], definitions), **fixed}
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(inner[1], definitions)}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_value(part, definitions) for part in inner]}
    assert isinstance(hint, type), f"no schema for {hint}"
    if hint.__name__ not in definitions:
        definitions[hint.__name__] = {}  # before its fields, which may hold it again
        definitions[hint.__name__] = _object(hint, definitions)
    return {"$ref": f"#/$defs/{hint.__name__}"}


def descriptions(kind: type[Any]) -> dict[str, str]:
    """Return the description of each attribute in the docstring."""
    written = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    return {name: " ".join(text.split()).rstrip(".") for name, text in _ATTRIBUTE.findall(written)}
