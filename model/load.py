"""Load a cross-encoder and its tokenizer; refuse what would be scored or trained wrongly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..configs.errors import UserError
from .locate import encoder_folder, locate, refuse_adapters, refuse_modules, require_on_hub, wrong_head
from .weights import is_head

log = logging.getLogger(__name__)


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


def load(path: str, *, revision: str | None = None, seed: int = 0) -> Loaded:
    """Load model and tokenizer in fp32; an encoder without a head gets one drawn from the seed.

    Whether there is a head is decided by the weights in the file.

    Raises:
        UserError: the model cannot be found, is not a one-logit cross-encoder, or is damaged.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    location = locate(path)
    quiet_transformers()
    require_on_hub(path, location, revision)
    refuse_adapters(path, location, revision)
    refuse_modules(path, location, revision)
    config = _read_config(path, location, revision)
    torch.manual_seed(seed)  # for the new head; nothing else here is random
    model, info = _foreign(
        path,
        AutoModelForSequenceClassification.from_pretrained,
        location,
        config=config,
        revision=revision,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # reported below, by name
        output_loading_info=True,
    )
    tokenizer = load_tokenizer(path, revision=revision)
    missing = sorted(info["missing_keys"])
    new_head = not _has_head(config) and any(is_head(model, name) for name in missing)
    _check_weights(path, model, [name for name in missing if not (new_head and is_head(model, name))], info)
    _check_tokenizer(path, model, tokenizer)
    if new_head:
        log.info("%s is an encoder without a head: made a new one-logit head (seed %d)", path, seed)
    return Loaded(model, tokenizer, new_head, frozenset(missing))


def load_tokenizer(path: str, *, revision: str | None = None, modules: bool = False) -> Any:
    """Load the tokenizer alone, to count tokens without a model.

    Args:
        path: path of the model.
        revision: of a hub model.
        modules: whether the head may lie in modules of its own.

    Raises:
        UserError: the tokenizer cannot be found or loaded.
    """
    from transformers import AutoTokenizer

    location = locate(path, modules=modules)
    quiet_transformers()
    what = "its tokenizer cannot be loaded"
    return _foreign(path, AutoTokenizer.from_pretrained, location, what=what, revision=revision)


def check_encoder(path: str, location: str, *, kind: Any = None, revision: str | None = None) -> None:
    """Refuse an encoder whose weights are not all in its file: libraries draw missing ones at random.

    Args:
        path: path of the model, for messages.
        location: where it is, see `locate`.
        kind: class of the encoder; what its configuration says if None.
        revision: of a hub model.

    Raises:
        UserError: weights of the encoder are missing or have another shape.
    """
    from transformers import AutoModel

    _, info = _foreign(
        path,
        (kind or AutoModel).from_pretrained,
        location,
        subfolder=encoder_folder(location, revision),
        revision=revision,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    _refuse_damaged(
        path, [name for name in info["missing_keys"] if "pooler" not in name], info["mismatched_keys"]
    )


def usable_positions(model: Any) -> int | None:
    """Return the longest sequence that the position table or the config allows; None for no limit."""
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if table is None or not hasattr(table, "num_embeddings"):  # some have no rows but a formula
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


def stated_limits(
    path: str, *, revision: str | None = None, modules: bool = False
) -> tuple[int | None, dict[str, int] | None]:
    """Return the longest sequence and the saved token budgets, from the config alone; as `load_tokenizer`."""
    config = _read_config(path, locate(path, modules=modules), revision)
    offset = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
    longest = _config_positions(config)
    return None if longest is None else longest - offset, getattr(config, "uprank", None)


def _config_positions(config: Any) -> int | None:
    longest = getattr(config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None


def _read_config(path: str, location: str, revision: str | None) -> Any:
    """Return the config with one label."""
    from transformers import AutoConfig

    config = _foreign(path, AutoConfig.from_pretrained, location, revision=revision)
    decoder = next((name for name in config.architectures or [] if name.endswith("ForCausalLM")), None)
    if decoder:
        raise UserError(
            f"model.path={path}: {decoder} is a decoder; allowed are encoders: BERT, XLM-RoBERTa…"
        )
    config.num_labels = 1
    return config


def _has_head(config: Any) -> bool:
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


def _check_weights(path: str, model: Any, missing: list[str], info: dict[str, Any]) -> None:
    shapes = {str(name): tuple(found) for name, found, _ in info["mismatched_keys"]}
    outputs = {shape[0] for name, shape in shapes.items() if is_head(model, name) and shape}
    if not missing and len(outputs) == 1 and all(is_head(model, name) for name in shapes):
        raise UserError(wrong_head(path, *outputs))
    _refuse_damaged(path, missing, info["mismatched_keys"])


def _refuse_damaged(path: str, missing: Sequence[str], mismatched: Iterable[Sequence[Any]]) -> None:
    shapes = sorted(str(entry[0]) for entry in mismatched)
    if missing or shapes:
        named = ", ".join([*missing, *shapes][:5])
        raise UserError(
            f"model.path={path}: {len(missing)} weights missing, {len(shapes)} of another shape ({named}…)",
            advice="The file is damaged or belongs to another config.json.",
        )


def _check_tokenizer(path: str, model: Any, tokenizer: Any) -> None:
    """Check that the word table has a row for each token, and take the padding token if none is stated."""
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows:
        raise UserError(
            f"model.path={path}: its tokenizer has ids up to {largest:,}, the word table has {rows:,} rows",
            advice="Tokenizer and weights do not belong together; save both from one model, or resize the "
            "table (resize_token_embeddings) before training the new tokens.",
        )
    if model.config.pad_token_id is None:
        if tokenizer.pad_token_id is None:
            raise UserError(
                f"model.path={path}: neither config.json nor the tokenizer names a padding token",
                advice="Set pad_token_id in config.json.",
            )
        model.config.pad_token_id = tokenizer.pad_token_id


def _foreign(
    path: str,
    from_pretrained: Callable[..., Any],
    location: str,
    *,
    what: str = "cannot be loaded",
    **given: Any,
) -> Any:
    """Load something of a model, never with Python code that comes with it.

    Raises:
        UserError: the first line of whatever went wrong: a foreign folder may break any rule.
    """
    import torch

    try:
        return from_pretrained(location, trust_remote_code=False, **given)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise UserError(
                f"model.path={path}: needs Python code of its own (auto_map in its configuration), which "
                "Uprank never runs"
            ) from error
        raise UserError(f"model.path={path}: {what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    if isinstance(error, KeyError):  # its text is the key alone
        return f"a file lacks {error}"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
