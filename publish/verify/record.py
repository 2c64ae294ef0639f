"""Read `uprank.json` of a folder from anywhere: fields of another type than the proofs expect are named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...configs.validate_publish import FILES
from ..weights import TOLERANCES

RECORD = "uprank.json"
NUMBER = (int, float)
NAMES = {str: "a text", dict: "an object", list: "a list", int: "a whole number", NUMBER: "a number"}
# Fields that may be missing or null, and the fields of their objects, or of each object in their lists.
FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "measured_weights": (str, {}),
    "dtype": (str, {}),
    "pairs": (dict, {}),
    "files": (dict, {}),
    "merge": (dict, {}),
    "calibration": (dict, {}),
    "probes": (list, {"query": str, "passage": str, "score": NUMBER}),
    "onnx": (list, {"kind": str, "file": str, "largest_difference": NUMBER}),
    "evaluation": (list, {"folder": str, "fingerprint": str, "split": str}),
}


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a published folder.

    Raises:
        UserError: it is missing, no JSON, or of another shape; every such field is named.
    """
    path, advice = folder / RECORD, "Give a folder that `uprank publish` made."
    if not path.is_file():
        raise UserError(f"folder={folder}: no {RECORD} there; not a published folder", advice=advice)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: broken JSON ({error})", advice=advice) from error
    if not isinstance(record, dict) or not isinstance(record.get("weights"), str):
        raise UserError(f"{path}: names no weights; not the record of a published folder", advice=advice)
    if problems := [f"{path}: {problem}" for problem in _problems(record)]:
        raise UserError(
            problems, advice="The record is damaged; take the folder from where it was published."
        )
    return record


def _problems(record: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, (kind, inner) in FIELDS.items():
        value = record.get(name)
        if value is not None and not isinstance(value, kind):
            problems.append(f"{name} is {json.dumps(value)[:40]}; it must be {NAMES[kind]}")
        elif inner:
            for place, row in enumerate(value or []):
                problems += _wrong(row, inner, f"{name}[{place}]")
    if problems:
        return problems
    if record.get("dtype", "fp32") not in TOLERANCES:
        problems.append(f"dtype is {record['dtype']!r}; allowed are {', '.join(TOLERANCES)}")
    problems += [
        f"onnx[{place}].kind is {row['kind']!r}; allowed are {', '.join(FILES)}"
        for place, row in enumerate(record.get("onnx") or [])
        if row["kind"] not in FILES
    ]
    calibration = record.get("calibration") or {}
    if calibration.get("weights_after"):
        problems += _wrong(calibration, {"scale": NUMBER, "shift": NUMBER}, "calibration")
    budgets = {
        name: value
        for name in ("query_tokens", "max_tokens")
        if (value := (record.get("pairs") or {}).get(name)) is not None
    }
    return problems + _wrong(budgets, dict.fromkeys(budgets, int), "pairs")


def _wrong(row: Any, fields: Mapping[str, Any], name: str) -> list[str]:
    if not isinstance(row, dict):
        return [f"{name} is {json.dumps(row)[:40]}; it must be an object"]
    return [
        f"{name}.{key} is {json.dumps(row.get(key))[:40]}; it must be {NAMES[kind]}"
        for key, kind in fields.items()
        if not isinstance(row.get(key), kind) or isinstance(row.get(key), bool)
    ]
