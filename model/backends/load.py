"""Other libraries behind the face of a `Reranker`, so that they are compared on the same candidates."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import UserError
from ...data.encoding import PairEncoder, choose_budgets
from ...data.prompts import choose_prompts
from ..load import load_tokenizer, locate, quiet_transformers, stated_limits
from ..weights import hash_config, hash_tokenizer
from .peer import GRAPHS, PACKAGES, Pair, Peer

if TYPE_CHECKING:
    from ..reranker import Reranker


def load_model(
    path: str,
    *,
    backend: str = "uprank",
    precision: str = "fp32",
    query_tokens: int | None = None,
    max_tokens: int | None = None,
    device: str | None = None,
    revision: str | None = None,
    tokens_per_batch: int | None = None,
    threads: int | None = None,
    seed: int = 0,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
) -> Reranker | Peer:
    """Load a model by the library that is to score it.

    Raises:
        UserError: the library is not there, or cannot use the model or a setting.
    """
    problems = backend_problems(backend, path, precision=precision, revision=revision)
    if problems:
        raise UserError(problems)
    if backend in GRAPHS:
        from .onnx import load_onnx

        tokens = tokens_per_batch or 2048
        peer = load_onnx(path, query_tokens, max_tokens, device, tokens, threads, backend=backend)
        return replace(peer, prompts=choose_prompts(query_prompt, passage_prompt, peer.prompts.stated()))
    from ..forward import suitable_tokens
    from ..reranker import Reranker, choose_device
    from ..weights import hash_weights

    if backend == "uprank":
        return Reranker.load(
            path,
            precision=precision,
            query_tokens=query_tokens,
            max_tokens=max_tokens,
            device=device,
            revision=revision,
            tokens_per_batch=tokens_per_batch,
            seed=seed,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
        )
    target = str(choose_device(device))
    tokenizer = load_tokenizer(path, revision=revision)
    positions, stated = stated_limits(path, revision=revision)
    kept, longest = choose_budgets(tokenizer, query_tokens, max_tokens, positions=positions, stated=stated)
    pairs = PairEncoder(tokenizer, query_tokens=kept, max_tokens=longest)
    make = _sentence_transformers if backend == "sentence_transformers" else _flag_embedding
    try:
        model, predict, settings = make(locate(path), longest, target, revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"model.path={path}: {backend} cannot load it: {error}".splitlines()[0]) from error
    _require_head(path, backend, model)
    own = longest * 3 // 4 if backend == "flag_embedding" else 0
    weights = hash_weights(model.state_dict())
    tokens = tokens_per_batch or suitable_tokens(target)
    settings["config"] = hash_config(model.config)
    return Peer(
        backend, predict, tokenizer, pairs, (own, longest), weights, path, target, tokens,
        settings=settings, prompts=choose_prompts(query_prompt, passage_prompt, stated),
    )  # fmt: skip


def backend_problems(
    backend: str, path: str, *, precision: str = "fp32", revision: str | None = None, name: str = "model"
) -> list[str]:
    """What speaks against scoring a model by a library, found without loading either.

    Args:
        backend: one of configs/check.BACKENDS.
        path: of the model.
        precision: asked for.
        revision: asked for.
        name: of the setting, for messages: `model` or `models.NAME`.
    """
    problems = []
    try:
        if backend in GRAPHS:
            from .onnx import find_graph

            find_graph(path, backend)
        else:
            locate(path)
    except UserError as error:
        problems += error.problems[:-1] + [". ".join(filter(None, (error.problems[-1], error.advice)))]
    if backend not in PACKAGES:
        return problems
    module, package, extra = PACKAGES[backend]
    if importlib.util.find_spec(module) is None:
        problems.append(
            f'{name}.backend={backend}: {package} is not installed: pip install "uprank[{extra}]"'
        )
    if precision != "fp32":
        problems.append(f"{name}.precision={precision}: backend {backend} scores in fp32")
    if revision is not None and backend != "sentence_transformers":
        problems.append(f"{name}.revision={revision}: backend {backend} takes folders and main branches only")
    return problems


def identity(model: Reranker | Peer) -> dict[str, object]:
    """Everything that decides the score of two texts, for the cache; the batch never does."""
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


def _sentence_transformers(
    location: str, max_tokens: int, device: str, revision: str | None
) -> tuple[Any, Callable[[list[Pair]], np.ndarray], dict[str, object]]:
    import torch
    from sentence_transformers import CrossEncoder

    quiet_transformers()
    identity = torch.nn.Identity()  # raw logits; its own default is a sigmoid
    model = CrossEncoder(
        location,
        device=device,
        revision=revision,
        max_length=max_tokens,
        activation_fn=identity,
        local_files_only=Path(location).is_dir(),  # it would look a folder up on the hub for its model card
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
    )

    def predict(pairs: list[Pair]) -> np.ndarray:
        scores: np.ndarray = model.predict(
            pairs, batch_size=len(pairs), show_progress_bar=False, activation_fn=identity
        )
        return scores

    # A saved default prompt stands before every text that this library scores.
    return model.model, predict, {"prompts": model.prompts, "prompt": model.default_prompt_name}


def _flag_embedding(
    location: str, max_tokens: int, device: str, revision: str | None
) -> tuple[Any, Callable[[list[Pair]], np.ndarray], dict[str, object]]:
    from FlagEmbedding import FlagReranker

    quiet_transformers()
    model = FlagReranker(location, use_fp16=False, devices=device, max_length=max_tokens, normalize=False)

    def predict(pairs: list[Pair]) -> np.ndarray:
        # It draws progress bars unless the batch is larger than what it is given.
        return np.asarray(model.compute_score(list(pairs), batch_size=len(pairs) + 1), dtype=np.float32)

    return model.model, predict, {}


def _require_head(path: str, backend: str, model: Any) -> None:
    named: Sequence[str] = model.config.architectures or []
    if not any(name.endswith("ForSequenceClassification") for name in named):
        raise UserError(
            f"model.path={path}: an encoder without a head; backend {backend} would draw a random one",
            advice="Fine-tune it first.",
        )
