"""Names of data sets by which a reader can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .sources import data_name


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Names of data sets from their paths; where they repeat with the file, the folder above or a number.

    >>> distinct_names(["en/data/test.jsonl", "zh/data/test.jsonl", "scifact"])
    ['en/data', 'zh/data', 'scifact']
    >>> distinct_names(["law/dev.jsonl", "law/test.jsonl"])
    ['law/dev', 'law/test']
    >>> distinct_names(["law", "law"])
    ['law', 'law 2']
    """
    names = [data_name(path) for path in paths]
    for name in [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        places = [place for place, found in enumerate(names) if found == name]
        forms = [
            [f"{name}/{Path(paths[place]).stem}" for place in places],
            [_with_folder(paths[place], name) for place in places],
        ]
        numbered = [f"{name} {number}" if number > 1 else name for number in range(1, len(places) + 1)]
        chosen = next((form for form in forms if len(set(form)) == len(form)), numbered)
        for place, new in zip(places, chosen, strict=True):
            names[place] = new
    return names


def _with_folder(path: str, name: str) -> str:
    parts = Path(path).parts
    place = len(parts) - 1 - parts[::-1].index(name) if name in parts else 0
    above = parts[place - 1] if place else ""
    return f"{above}/{name}" if above.strip("/.") else name
