"""Find a model: a folder, an installed package or a hub id, checked as far as possible offline."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from ..configs.errors import UserError
from ..data.cards import read_card

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")


def locate(path: str, *, modules: bool = False) -> str:
    """Return the folder or hub id of a model path, checked as far as possible offline.

    Args:
        path: folder, hub id or `package:NAME`.
        modules: whether the head of a cross-encoder may lie in modules of its own, which only
            sentence-transformers reads.

    Raises:
        UserError: there is no such folder, it has no model, or the path is neither folder nor hub id.
    """
    if path.startswith("package:"):
        return str(_package_folder(path.removeprefix("package:")))
    folder = Path(path).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        if not modules:
            refuse_modules(path, str(folder))
        return str(folder)
    if folder.exists():
        raise UserError(f"model.path={path}: a file; give the folder that holds config.json")
    # `runs/best` beside a folder `runs` is a typo, not a name to ask the hub for.
    if not _HUB_ID.match(path) or ("/" in path and folder.parent.is_dir()):
        raise UserError(
            f"model.path={path}: no such folder",
            advice="Give a folder with config.json and *.safetensors, or a hub id: BAAI/bge-reranker-base.",
        )
    return path


@cache
def require_on_hub(path: str, location: str, revision: str | None = None) -> None:
    """Ask the hub once for a model's config.json; nothing else of a model that is not there is asked for.

    Args:
        path: path of the model, for messages.
        location: where it is, see `locate`; a folder is not looked at.
        revision: branch, tag or commit.

    Raises:
        UserError: the hub has no such model, or cannot be reached and the model is not in the cache.
    """
    if Path(location).is_dir():
        return
    from transformers.utils import cached_file

    try:  # adapters have no config.json and are refused later
        cached_file(location, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model.path={path}: no such folder, and nothing from the hub: {reason}") from error


def location_kind(path: str) -> str:
    """Return `package`, `folder` or `hub`."""
    if path.startswith("package:"):
        return "package"
    return "folder" if Path(path).expanduser().is_dir() else "hub"


def base_card(path: str, revision: str | None = None) -> dict[str, Any]:
    """Return licence and language from a model card: `{"license": str | None, "language": [...]}`.

    Reads the README.md of a folder, or of a hub model from the cache, without network.
    """
    from huggingface_hub import try_to_load_from_cache

    location = locate(path)
    if Path(location).is_dir():
        file: Any = Path(location) / "README.md"
    else:
        file = try_to_load_from_cache(location, "README.md", revision=revision)
    found: dict[str, Any] = read_card(Path(file)) if isinstance(file, (str, Path)) else {}
    return {"license": found.get("license"), "language": found.get("language", [])}


def has_modules(location: str, revision: str | None = None) -> bool:
    """Return whether the head of a sentence-transformers cross-encoder lies in modules of its own.

    Args:
        location: folder or hub id, see `locate`.
        revision: of a hub model.
    """
    modules = _json_file(location, "modules.json", revision)
    about = _json_file(location, "config_sentence_transformers.json", revision)
    if not isinstance(modules, list) or len(modules) < 2:
        return False
    kinds = [str(module.get("type", "")) for module in modules if isinstance(module, dict)]
    stated = isinstance(about, dict) and about.get("model_type") == "CrossEncoder"
    return stated or any(".cross_encoder." in kind for kind in kinds)


def encoder_folder(location: str, revision: str | None = None) -> str:
    """Return the folder of the first module of a model of sentence-transformers; empty if it has no own."""
    modules = _json_file(location, "modules.json", revision)
    first = modules[0] if isinstance(modules, list) and modules else None
    return str(first.get("path") or "") if isinstance(first, dict) else ""


def refuse_modules(path: str, location: str, revision: str | None = None) -> None:
    """Refuse a cross-encoder whose trained head transformers would replace by a random one.

    Raises:
        UserError: `has_modules` is true of the model.
    """
    if has_modules(location, revision):
        raise UserError(
            f"model.path={path}: a cross-encoder of sentence-transformers whose head lies in modules of its "
            "own (modules.json); Uprank cannot read that head and would train or score a random one",
            advice="`uprank eval` and `uprank score` read it with backend=sentence_transformers; it cannot "
            "be fine-tuned or published.",
        )


def refuse_adapters(path: str, location: str, revision: str | None = None) -> None:
    """Refuse adapters of peft without their base, and say how to merge them.

    Raises:
        UserError: the model is adapters.
    """
    adapters = _json_file(location, "adapter_config.json", revision)
    if isinstance(adapters, dict):
        base = str(adapters.get("base_model_name_or_path") or "BASE")
        raise UserError(
            f"model.path={path}: adapters of peft for {base} (adapter_config.json), not a whole model",
            advice="Merge them into it: peft's AutoPeftModelForSequenceClassification.from_pretrained("
            f"{path!r}, num_labels=1).merge_and_unload().save_pretrained('MERGED'). Then add the tokenizer: "
            f"AutoTokenizer.from_pretrained({base!r}).save_pretrained('MERGED').",
        )


def _json_file(location: str, name: str, revision: str | None) -> Any:
    """Return the content of a model's JSON file; None if there is none that can be read."""
    if Path(location).is_dir():
        file: Any = Path(location) / name
    else:
        from transformers.utils import cached_file

        file = cached_file(
            location,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    try:
        return json.loads(Path(file).read_text(encoding="utf-8")) if file else None
    except (OSError, ValueError):
        return None


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"model.path=package:{name}: no such Python package is installed",
            advice=f"pip install {name.replace('_', '-')}",
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    for config in sorted(root.rglob("config.json"), key=lambda file: len(file.parts)):
        if any(config.parent.glob("*.safetensors")):
            return config.parent
    raise UserError(
        f"model.path=package:{name}: the package holds no model (config.json beside *.safetensors)"
    )


def _check_folder(folder: Path) -> None:
    refuse_adapters(str(folder), str(folder))
    if not (folder / "config.json").is_file() and (folder / "best" / "config.json").is_file():
        raise UserError(f"model.path={folder}: the folder of a run; its best model is {folder / 'best'}")
    problems = []
    if not (folder / "config.json").is_file():
        problems.append(f"model.path={folder}: no config.json in this folder")
    else:
        problems += _config_problems(folder)
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("pytorch_model*.bin"))
        hint = (
            "; pytorch_model.bin is a pickle and is not read: convert it with safetensors" if pickled else ""
        )
        problems.append(f"model.path={folder}: no *.safetensors in this folder{hint}")
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
    ):
        problems.append(f"model.path={folder}: no tokenizer (tokenizer.json) in this folder")
    if problems:
        raise UserError(problems, advice="Give the folder that save_pretrained wrote, or a hub id.")


def _config_problems(folder: Path) -> list[str]:
    """Return the reasons in config.json why the model cannot be used, read without transformers."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = [str(name) for name in config.get("architectures") or []]
        has_head = any(name.endswith("ForSequenceClassification") for name in names)
        # Without a statement the weights decide, when they are loaded.
        labels = len(config["id2label"]) if "id2label" in config else config.get("num_labels", 1)
    except (ValueError, AttributeError, TypeError) as error:
        return [f"model.path={folder}: config.json is not one of a model ({error})"]
    return [wrong_head(str(folder), labels)] if has_head and labels != 1 else []


def wrong_head(path: str, labels: int) -> str:
    """Return the refusal of a head that does not have one output."""
    return (
        f"model.path={path}: its head has {labels} outputs, a reranker has one; "
        "use a one-logit cross-encoder, or an encoder without a head (it gets a new one)"
    )
