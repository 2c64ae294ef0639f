"""Faces of the folders whose files import torch: a name is imported when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy(package: str, **files: str) -> Callable[[str], Any]:
    """Return a module's `__getattr__` (PEP 562) that imports names from the package's files on demand.

    Args:
        package: `__name__` of the face.
        files: for each file the names that it gives, with spaces between.
    """
    homes = {name: file for file, names in files.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return __getattr__
