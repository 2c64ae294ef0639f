"""Licence and language in the card (README.md) of a foreign model or data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LONGEST = 1 << 20  # characters read of a card; metadata stand at its beginning
LONGEST_ENTRY = 1 << 14
_METADATA = re.compile(r"\A\ufeff?---[ \t]*\n(.*?)^---", re.DOTALL | re.MULTILINE)


def read_card(file: Path) -> dict[str, Any]:
    """Return `{"license": str | None, "language": […], "derived_from": […]}`; what is not plain is unknown.

    Of its YAML only these entries are parsed, and nothing in them is expanded: YAML bombs cost nothing.
    """
    text = ""
    if file.is_file():  # no named pipe
        with file.open(encoding="utf-8", errors="replace") as stream:
            text = stream.read(LONGEST)
    found = _METADATA.search(text if file.suffix == ".md" else f"---\n{text}\n---")
    metadata = found[1] if found else ""
    licence = _entry(metadata, "license")
    return {
        "license": licence if isinstance(licence, str) else None,
        "language": _texts(metadata, "language"),
        "derived_from": _texts(metadata, "derived_from"),
    }


def _texts(metadata: str, key: str) -> list[str]:
    value = _entry(metadata, key)
    texts = [value] if isinstance(value, str) else value
    return [text for text in texts or [] if isinstance(text, str)]


def _entry(metadata: str, key: str) -> Any:
    """Return a text or list of texts of the first level; None if there is none, or it is anything else."""
    import yaml

    found = re.search(rf"^{key}:.*(?:\n[ \t-].*)*", metadata, re.MULTILINE)
    if found is None or len(found[0]) > LONGEST_ENTRY:
        return None
    try:
        value = yaml.load(found[0], yaml.BaseLoader)[key]  # texts only: `no` is Norwegian, not false
    except (yaml.YAMLError, RecursionError):
        return None
    return value if value and isinstance(value, (str, list)) else None
