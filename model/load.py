"""Find, check and load a cross-encoder: from the hub, a folder or an installed package."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs.errors import UserError

log = logging.getLogger(__name__)
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_HEAD = ("classifier.", "pooler.", "score.", "bert.pooler.")


@dataclass
class Loaded:
    """A model as loaded.

    Attributes:
        model: transformers `…ForSequenceClassification` with one label, fp32.
        tokenizer: tokenizer of the model.
        new_head: whether the checkpoint was an encoder and the head is new.
        drawn: names of the parameters missing in the checkpoint: those of a new head.
    """

    model: Any
    tokenizer: Any
    new_head: bool
    drawn: frozenset[str] = frozenset()


def locate(path: str) -> str:
    """Return the folder or hub id of a model path, checked as far as possible offline.

    Raises:
        UserError: there is no such folder, it has no model, or the path is neither folder nor hub id.
    """
    if path.startswith("package:"):
        return str(_package_folder(path.removeprefix("package:")))
    folder = Path(path).expanduser()
    if folder.is_dir():
        _check_folder(folder)
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


def location_kind(path: str) -> str:
    """Return `package`, `folder` or `hub`."""
    if path.startswith("package:"):
        return "package"
    return "folder" if Path(path).expanduser().is_dir() else "hub"


def load(path: str, *, revision: str | None = None, seed: int = 0) -> Loaded:
    """Load model and tokenizer in fp32; an encoder without a head gets one drawn from the seed.

    Raises:
        UserError: the model cannot be found, is not a one-logit cross-encoder, or is damaged.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    location = locate(path)
    quiet_transformers()
    config, new_head = _read_config(path, location, revision)
    torch.manual_seed(seed)  # for the new head; nothing else here is random
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            location,
            config=config,
            revision=revision,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision)
    except (OSError, ValueError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"model.path={path}: cannot be loaded: {_first_line(error)}") from error
    _check_missing(path, info, new_head)
    if new_head:
        log.info("%s is an encoder without a head: made a new one-logit head (seed %d)", path, seed)
    return Loaded(model, tokenizer, new_head, frozenset(info["missing_keys"]))


def load_tokenizer(path: str, *, revision: str | None = None) -> Any:
    """Load the tokenizer alone, to count tokens without a model.

    Raises:
        UserError: the tokenizer cannot be found or loaded.
    """
    from transformers import AutoTokenizer

    location = locate(path)
    quiet_transformers()
    try:
        return AutoTokenizer.from_pretrained(location, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"model.path={path}: its tokenizer cannot be loaded: {_first_line(error)}") from error


def usable_positions(model: Any) -> int | None:
    """Return the longest sequence that the position table or the config allows; None for no limit."""
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if table is None:
        return _config_positions(model.config)
    padding = table.padding_idx
    return int(table.num_embeddings) - (0 if padding is None else padding + 1)


def quiet_transformers() -> None:
    """Silence transformers' progress bars and loading tables."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # transformers imports it if it is installed, and it warns about kernels that nothing here uses.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def base_card(path: str, revision: str | None = None) -> dict[str, Any]:
    """Return licence and language from a model card: `{"license": str | None, "language": [...]}`.

    Reads the README.md of a folder, or of a hub model from the cache, without network.
    """
    from huggingface_hub import ModelCard, try_to_load_from_cache

    location = locate(path)
    if Path(location).is_dir():
        file: Any = Path(location) / "README.md"
    else:
        file = try_to_load_from_cache(location, "README.md", revision=revision)
    if not isinstance(file, (str, Path)) or not Path(file).is_file():
        return {"license": None, "language": []}
    try:
        data = ModelCard.load(file).data.to_dict()
    except Exception:  # a foreign card may break any YAML rule; the facts are then unknown
        return {"license": None, "language": []}
    language = data.get("language") or []
    return {
        "license": data.get("license"),
        "language": [language] if isinstance(language, str) else list(language),
    }


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
        has_head = any(
            name.endswith("ForSequenceClassification") for name in config.get("architectures") or []
        )
        labels = len(config["id2label"]) if "id2label" in config else config.get("num_labels", 2)
    except (ValueError, AttributeError, TypeError) as error:
        return [f"model.path={folder}: config.json is not one of a model ({error})"]
    return [_wrong_head(str(folder), labels)] if has_head and labels != 1 else []


def _wrong_head(path: str, labels: int) -> str:
    return (
        f"model.path={path}: its head has {labels} outputs, a reranker has one; "
        "use a one-logit cross-encoder, or an encoder without a head (it gets a new one)"
    )


def stated_limits(path: str, *, revision: str | None = None) -> tuple[int | None, dict[str, int] | None]:
    """Return the longest sequence and the saved token budgets, from the config alone."""
    config, _ = _read_config(path, locate(path), revision)
    offset = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
    longest = _config_positions(config)
    return None if longest is None else longest - offset, getattr(config, "uprank", None)


def _config_positions(config: Any) -> int | None:
    longest = getattr(config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None


def _read_config(path: str, location: str, revision: str | None) -> tuple[Any, bool]:
    """Return the config with one label, and whether the head must be new."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(location, revision=revision)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise UserError(f"model.path={path}: cannot be loaded: {_first_line(error)}") from error
    architectures = config.architectures or []
    has_head = any(name.endswith("ForSequenceClassification") for name in architectures)
    if any(name.endswith("ForCausalLM") for name in architectures):
        raise UserError(
            f"model.path={path}: {architectures[0]} is a decoder; allowed are encoders: BERT, XLM-RoBERTa…"
        )
    if has_head and config.num_labels != 1:
        raise UserError(_wrong_head(path, config.num_labels))
    config.num_labels = 1
    return config, not has_head


def _check_missing(path: str, info: dict[str, Any], new_head: bool) -> None:
    missing = [key for key in info["missing_keys"] if not (new_head and key.startswith(_HEAD))]
    shapes = [str(entry[0]) for entry in info["mismatched_keys"]]
    if missing or shapes:
        named = ", ".join((missing + shapes)[:5])
        raise UserError(
            f"model.path={path}: {len(missing)} weights missing, {len(shapes)} of another shape ({named}…)",
            advice="The file is damaged or belongs to another config.json.",
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
