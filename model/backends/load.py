"""Load a model with any of several libraries, to compare them on the same candidates."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import UserError
from ...configs.schema import ScoredModelSettings
from ...data.encoding import PairEncoder, choose_budgets
from ...data.prompts import choose_prompts
from ..load import check_encoder, load, load_tokenizer, quiet_transformers, stated_limits
from ..locate import has_modules, locate, require_on_hub
from ..weights import hash_config, hash_tokenizer, hash_weights
from .peer import GRAPHS, PACKAGES, Pair, Peer, depends_on_batch

if TYPE_CHECKING:
    from ..reranker import Reranker

Predict = Callable[[list[Pair]], np.ndarray]


def load_model(
    settings: ScoredModelSettings,
    *,
    device: str | None = None,
    tokens_per_batch: int | None = None,
    threads: int | None = None,
    seed: int = 0,
) -> Reranker | Peer:
    """Load a model with the library `settings.backend`.

    Args:
        settings: model, library, token budgets and prompts.
        device: used in place of `settings.device` if not None.
        tokens_per_batch: tokens in one forward pass; what suits the device if None.
        threads: CPU threads of a graph; the library's choice if None.
        seed: seed of a new head.

    Raises:
        UserError: the library is not installed, or cannot use the model or a setting.
    """
    problems = backend_problems(settings)
    if problems:
        raise UserError(problems)
    if settings.backend in GRAPHS:
        from .onnx import load_onnx

        return load_onnx(settings, device=device, tokens_per_batch=tokens_per_batch, threads=threads)
    if settings.backend == "uprank":
        from ..reranker import Reranker

        return Reranker.from_settings(settings, device=device, tokens_per_batch=tokens_per_batch, seed=seed)
    return _load_library(settings, device or settings.device, tokens_per_batch)


def backend_problems(settings: ScoredModelSettings, name: str = "model") -> list[str]:
    """Return the reasons why a library cannot score a model, found without loading either.

    Args:
        settings: model, library, precision and revision.
        name: name of the settings in messages: `model` or `models.NAME`.
    """
    backend, problems = settings.backend, []
    try:
        if backend in GRAPHS:
            from .onnx import find_graph

            find_graph(settings.path, backend)
        else:
            location = locate(settings.path, modules=backend == "sentence_transformers")
            require_on_hub(settings.path, location, settings.revision)
    except UserError as error:
        problems += error.problems[:-1] + [". ".join(filter(None, (error.problems[-1], error.advice)))]
    if backend not in PACKAGES:
        return problems
    module, package, extra = PACKAGES[backend]
    if importlib.util.find_spec(module) is None:
        problems.append(
            f'{name}.backend={backend}: {package} is not installed: pip install "uprank[{extra}]"'
        )
    if settings.precision not in ("fp32", "auto"):
        problems.append(f"{name}.precision={settings.precision}: backend {backend} scores in fp32")
    if settings.revision is not None and backend != "sentence_transformers":
        problems.append(
            f"{name}.revision={settings.revision}: backend {backend} takes folders and main branches only"
        )
    return problems


def identity(model: Reranker | Peer) -> dict[str, object]:
    """Return everything that decides the score of two texts, for the cache; the batch never does."""
    backend = getattr(model, "backend", "uprank")
    version = importlib.metadata.version(PACKAGES[backend][1]) if backend in PACKAGES else ""
    return {
        "weights": model.weights_hash(),
        "tokenizer": hash_tokenizer(model.tokenizer),
        "budgets": [*model.budgets, model.pairs.query_tokens],
        "precision": model.precision,
        "backend": f"{backend} {version}".strip(),
        "device": str(model.device).partition(":")[0],
        "settings": dict(model.settings)
        if isinstance(model, Peer)
        else {"config": hash_config(model.model.config)},
    }


def _load_library(settings: ScoredModelSettings, device: str | None, tokens_per_batch: int | None) -> Peer:
    """Load a model with sentence-transformers or FlagEmbedding."""
    from ..forward import suitable_tokens
    from ..reranker import choose_device

    path, backend, revision = settings.path, settings.backend, settings.revision
    target = str(choose_device(device))
    location = locate(path, modules=backend == "sentence_transformers")
    modules = has_modules(location, revision)
    expected = _expected_weights(settings, modules)
    tokenizer = load_tokenizer(path, revision=revision, modules=modules)
    positions, stated = stated_limits(path, revision=revision, modules=modules)
    kept, longest = choose_budgets(
        tokenizer, settings.query_tokens, settings.max_tokens, positions=positions, stated=stated
    )
    make = _sentence_transformers if backend == "sentence_transformers" else _flag_embedding
    quiet_transformers()
    try:
        model, predict, deciding = make(location, longest, target, revision)
    except MemoryError:
        raise
    except Exception as error:  # a foreign folder may break any rule of a foreign library
        raise UserError(f"model.path={path}: {backend} cannot load it: {error}".splitlines()[0]) from error
    weights = hash_weights(model.state_dict())
    if expected not in ("", weights):
        raise UserError(f"model.path={path}: {backend} reads other weights than those of the file")
    return Peer(
        backend,
        predict,
        tokenizer,
        PairEncoder(tokenizer, query_tokens=kept, max_tokens=longest),
        (longest * 3 // 4 if backend == "flag_embedding" else 0, longest),
        weights,
        path,
        target,
        tokens_per_batch or suitable_tokens(target),
        alone=depends_on_batch(predict),
        settings=deciding | {"config": hash_config(model.config)},
        prompts=choose_prompts(settings.query_prompt, settings.passage_prompt, stated),
    )


def _expected_weights(settings: ScoredModelSettings, modules: bool) -> str:
    """Return the hash of the weights in the file, which a library must read; empty if it can only be trusted.

    Raises:
        UserError: a weight is missing, which a library would draw at random in silence.
    """
    path, revision = settings.path, settings.revision
    if modules:
        check_encoder(path, locate(path, modules=True), revision=revision)
        return ""
    loaded = load(path, revision=revision)
    if loaded.new_head:
        raise UserError(
            f"model.path={path}: an encoder without a head; {settings.backend} would draw one at random",
            advice="Fine-tune it first.",
        )
    return hash_weights(loaded.model.state_dict())


def _sentence_transformers(
    location: str, max_tokens: int, device: str, revision: str | None
) -> tuple[Any, Predict, dict[str, object]]:
    import torch
    from sentence_transformers import CrossEncoder

    raw = torch.nn.Identity()  # logits; the library's default is a sigmoid
    model = CrossEncoder(
        location,
        device=device,
        revision=revision,
        max_length=max_tokens,
        activation_fn=raw,
        local_files_only=Path(location).is_dir(),  # else it looks a folder's model card up on the hub
        trust_remote_code=False,
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
    )

    def predict(pairs: list[Pair]) -> np.ndarray:
        scores: np.ndarray = model.predict(
            pairs, batch_size=len(pairs), show_progress_bar=False, activation_fn=raw
        )
        return scores

    # The head may lie beside the encoder. A saved default prompt is put before every text.
    whole = model if len(model) > 1 else model.model
    return whole, predict, {"prompts": model.prompts, "prompt": model.default_prompt_name}


def _flag_embedding(
    location: str, max_tokens: int, device: str, revision: str | None
) -> tuple[Any, Predict, dict[str, object]]:
    from FlagEmbedding import FlagReranker

    model = FlagReranker(
        location,
        use_fp16=False,
        devices=device,
        max_length=max_tokens,
        normalize=False,
        trust_remote_code=False,
    )

    def predict(pairs: list[Pair]) -> np.ndarray:
        # It draws progress bars unless the batch is larger than its input.
        return np.asarray(model.compute_score(list(pairs), batch_size=len(pairs) + 1), dtype=np.float32)

    return model.model, predict, {}
