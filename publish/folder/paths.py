"""Absolute paths of this machine: none may stand in a published file.

Data and models keep the end of their path, which names them; everything else loses its folders.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# An absolute path inside a sentence or a command: whole if quoted, else up to a space or a bracket. No
# address (https://…), and no fraction or alternative (a/b).
_PATH = re.compile(
    r"""(?<=')/[^'\n]+(?=')|(?<=")/[^"\n]+(?=")"""
    r"""|(?<![\w/:.<~$-])/[^\s/'"<>(){}\[\],;:=]+(?:/[^\s'"<>(){}\[\],;:=]*)+"""
)


class Paths:
    """The absolute paths that stand in some values, and texts without them."""

    def __init__(self, *values: Any) -> None:
        found = {str(Path(path)) for value in values for text in _texts(value) for path in _paths(text)}
        found = {path for path in found if len(Path(path).parts) > 2}  # `/no_think` is no path
        places = {str(Path(path).parent) for path in found} | {str(Path.cwd()), str(Path.home())}
        self._names = {path: shortened(path) for path in found}
        # A file that a message names beside one of these.
        self._names |= {f"{place}/": "" for place in places - {"/"}}

    def without(self, value: Any) -> Any:
        """Return JSON values, or one text, without the paths; keys of objects stay."""
        if isinstance(value, dict):
            return {key: self.without(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.without(each) for each in value]
        if not isinstance(value, str) or "/" not in value:
            return value
        for path in sorted(self._names, key=len, reverse=True):
            name = self._names[path].replace("\\", r"\\")  # re.sub reads escapes in it
            for form in dict.fromkeys((path, html.escape(path))):
                end = "" if form.endswith("/") else r"(?![\w-])"
                value = re.sub(rf"(?<![\w.]){re.escape(form)}{end}", name, value)
        return value


def shortened(path: str) -> str:
    """Return the end of an absolute path: enough to name the data, as cards do, and to tell two apart.

    >>> shortened("/data/me/law/scifact/qrels/dev.tsv"), shortened("/data/me/law/scifact")
    ('law/scifact/qrels/dev.tsv', 'law/scifact')
    """
    place = Path(path)
    folder = not place.suffix or place.is_dir()
    count = 2 if folder else 4 if "qrels" in place.parts else 3
    end = "/".join(place.parts[1:][-count:])
    return f"{end}/" if folder and place.suffix else end  # a folder with a dot in its name


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        nested: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for each in nested:
            yield from _texts(each)


def _paths(text: str) -> list[str]:
    """Return the absolute paths in a text; one that is nothing else may hold spaces."""
    if text.startswith("/") and "\n" not in text and ": " not in text:
        return [text]
    return _PATH.findall(text)
