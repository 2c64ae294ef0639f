"""Licence and notice files of the base model, carried over as they are."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path

from ..configs.errors import UserError
from ..model.load import locate
from .licence import Base

NAMES = re.compile(r"(licen[cs]e|notice|copying|copyright)([._-].*)?", re.IGNORECASE)
LARGEST = 1 << 20  # bytes; a text of a licence is shorter


def copy_notices(base: Base, model: Path, folder: Path) -> list[str]:
    """Copy the texts that lie beside the base's weights; returns their names, none where there are none.

    Of a hub model those that are in the cache: nothing is downloaded for it. Where the base is not known,
    as of a model that another tool trained, those beside the model itself.
    """
    copied = []
    for source in notices(base if base.path else Base(str(model))):
        if not (folder / source.name).exists():
            shutil.copyfile(source, folder / source.name)
            copied.append(source.name)
    return copied


def notices(base: Base) -> list[Path]:
    """Licence and notice files of the base, as far as they can be reached without a network."""
    if not base.path:
        return []
    if base.path.startswith("package:"):
        found = _of_package(base.path.removeprefix("package:"))
    else:
        place = _folder(base)
        found = sorted(place.iterdir()) if place is not None and place.is_dir() else []
    return [path for path in found if _is_notice(path)]


def _is_notice(path: Path) -> bool:
    return NAMES.fullmatch(path.name) is not None and path.is_file() and path.stat().st_size <= LARGEST


def _of_package(module: str) -> list[Path]:
    """What the distribution of a module declares as its licence files, and what lies in the module itself."""
    files: list[Path] = []
    try:
        files += sorted(Path(locate(f"package:{module}")).iterdir())
    except (UserError, OSError):  # gone since training
        return []
    for name in importlib.metadata.packages_distributions().get(module, []):
        files += [Path(str(entry.locate())) for entry in importlib.metadata.files(name) or []]
    return files


def _folder(base: Base) -> Path | None:
    if base.hub_id is None:
        return Path(base.path).expanduser()
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(base.hub_id, "config.json", revision=base.revision)
    return Path(config).parent if isinstance(config, str) else None
