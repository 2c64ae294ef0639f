"""Where data come from: names, licence and languages, which travel with mined and split rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .cards import read_card

SUFFIX = ".origin.yaml"  # of the file beside rows that Uprank made


def data_name(path: str) -> str:
    """Return the name of a data set from its path: the folder, also for a file in it.

    >>> data_name("data/scifact"), data_name("data/scifact/qrels/dev.tsv"), data_name("dev.jsonl")
    ('scifact', 'scifact', 'dev')
    """
    place = Path(path)
    if not place.suffix or place.is_dir() or path.endswith("/"):  # a folder may have a dot in its name
        return place.name
    parents = [part for part in place.parts[:-1] if part not in ("qrels", "/", "..")]
    return parents[-1] if parents else place.stem


def find_origin(given: Any) -> dict[str, Any]:
    """Return `{"names": [str, …], "license": str | None, "language": [str, …]}` of data.

    What is stated beside rows that Uprank made counts before the card (README.md) of their folder. Of several
    data sets the licence is known only if all state one.

    Args:
        given: a path, files by role, which their corpus represents, or a list of these.
    """
    entries = given if isinstance(given, (list, tuple)) else [given]
    paths = [entry.get("corpus", "") if isinstance(entry, Mapping) else entry for entry in entries]
    stated = [_stated(str(path)) for path in paths]
    licences = [about["license"] for about in stated]
    return {
        "names": list(dict.fromkeys(name for about in stated for name in about["names"])),
        "license": " and ".join(dict.fromkeys(licences)) if licences and all(licences) else None,
        "language": list(dict.fromkeys(code for about in stated for code in about["language"])),
    }


def write_origin(output: Path, given: Any, made_by: str) -> None:
    """Write what `find_origin` returns beside rows, or as the card of a folder.

    Args:
        output: file of rows, or folder.
        given: data that it was made from.
        made_by: command that made it.
    """
    import yaml

    found = find_origin(given)
    about = {"license": found["license"], "language": found["language"], "derived_from": found["names"]}
    known = {key: value for key, value in about.items() if value}
    text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    if output.is_dir():
        names = ", ".join(found["names"])
        page = f"---\n{text}---\n\nMade by `{made_by}` from {names}.\n"
        (output / "README.md").write_text(page, encoding="utf-8")
    else:
        place = output.with_name(output.name + SUFFIX)
        place.write_text(f"# Made by {made_by}: where {output.name} comes from.\n{text}", encoding="utf-8")


def _stated(path: str) -> dict[str, Any]:
    place = Path(path)
    beside = place.with_name(place.name + SUFFIX) if place.name else place
    card = beside if beside.is_file() else (place if place.is_dir() else place.parent) / "README.md"
    found = read_card(card) if place.exists() else {"license": None, "language": [], "derived_from": []}
    return {**found, "names": found["derived_from"] or [data_name(path)]}
