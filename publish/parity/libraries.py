"""Proof that other libraries give the scores that Uprank measured."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import UserError
from .probes import Pair, Probes

if TYPE_CHECKING:
    from ...model.reranker import Reranker

log = logging.getLogger(__name__)

# Largest difference of two fp32 logits. The libraries add the same products in another order, which changes
# the last digits of a logit: about a millionth of the largest one on 12-layer XLM-R and 6-layer BERT, trained
# or not. Precision is relative to size, so above 1 the bound grows with the largest logit.
TOLERANCE = 1e-5
BATCH = 8


@dataclass(frozen=True)
class Proof:
    """The comparison with one library.

    Attributes:
        library: name for pip.
        version: version that was checked; empty if none was.
        loader: class that loads the folder.
        pairs: pairs compared.
        largest_difference: largest difference to Uprank's score; None if not checked.
        allowed: largest difference that passes.
        left_out: number of pairs that the library cuts or reads differently by design, by reason.
        not_checked: why the library was not checked; empty if it was.
    """

    library: str
    version: str
    loader: str
    pairs: int = 0
    largest_difference: float | None = None
    allowed: float = TOLERANCE
    left_out: dict[str, int] | None = None
    not_checked: str = ""


@dataclass(frozen=True)
class Library:
    """A library that loads published folders.

    Attributes:
        scores: function of folder, pairs and longest pair in tokens; one raw logit a pair.
    """

    library: str
    module: str
    loader: str
    scores: Callable[[Path, Sequence[Pair], int], Sequence[float]]


def prove(
    folder: Path, reranker: Reranker, pairs: Sequence[Pair], *, tolerance: float = TOLERANCE
) -> list[Proof]:
    """Load the folder in each installed library, on the CPU in fp32, and compare scores.

    Args:
        folder: the folder on disk.
        reranker: the measured model; its scores are the truth.
        pairs: real and difficult pairs.
        tolerance: largest difference of two logits, relative to the largest one if that is above 1.

    Raises:
        UserError: a library fails on the folder or gives other scores; other weights were read back.
    """
    _check_weights(folder, reranker)
    proofs, problems = compare_libraries(folder, reranker, pairs, tolerance)
    if problems:
        raise UserError(
            problems, advice="Nothing was published: these libraries would give other scores than measured."
        )
    return proofs


def compare_libraries(
    folder: Path, reranker: Reranker, pairs: Sequence[Pair], tolerance: float
) -> tuple[list[Proof], list[str]]:
    """Return each library's proof, and the problems; arguments as `prove`.

    The other libraries know no prompts: they get the texts as the model reads them.
    """
    pairs, reranker = reranker.prompts.pairs(pairs), reranker.as_read
    probes = Probes.read(folder, reranker, pairs)
    proofs, problems = [], list(probes.problems)
    for peer in PEERS:
        proof = _prove_one(peer, folder, reranker, probes, problems, tolerance)
        log.info("%s", describe_proof(proof))
        proofs.append(proof)
    return proofs, problems


def describe_proof(proof: Proof) -> str:
    """Return one line for the terminal."""
    if proof.largest_difference is None:
        return f"{proof.library}: not checked, {proof.not_checked}"
    name = f"{proof.library} {proof.version}".strip()
    return f"{name}: {proof.pairs} pairs, largest difference {proof.largest_difference:.1e}"


def _check_weights(folder: Path, reranker: Reranker) -> None:
    from ...model.reranker import Reranker as Loader

    query_tokens, max_tokens = reranker.pairs.query_tokens, reranker.pairs.max_tokens
    again = Loader.load(folder, device="cpu", query_tokens=query_tokens, max_tokens=max_tokens)
    if again.weights_hash() != reranker.weights_hash():
        raise UserError(
            "the written weights are not the measured ones", advice="Check the disk and publish again."
        )


def _prove_one(
    peer: Library, folder: Path, reranker: Reranker, probes: Probes, problems: list[str], tolerance: float
) -> Proof:
    missing = _why_not_importable(peer)
    if missing:
        return Proof(peer.library, "", peer.loader, not_checked=missing)
    version = importlib.metadata.version(peer.library)
    chosen, left_out = probes.choose(flag=peer.library == "FlagEmbedding")
    if 2 * len(chosen) < len(probes.pairs):
        return Proof(
            peer.library,
            version,
            peer.loader,
            not_checked=f"only {len(chosen)} of {len(probes.pairs)} pairs can be compared",
            left_out=left_out,
        )
    expected = reranker.score(chosen)
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    try:
        scores = np.asarray(peer.scores(folder, chosen, reranker.pairs.max_tokens), dtype=np.float64)
    except Exception as error:  # would fail in the same way for whoever downloads the folder
        problems.append(f"{peer.library} {version} cannot use the folder: {type(error).__name__}: {error}")
        return Proof(peer.library, version, peer.loader, not_checked="failed", left_out=left_out)
    differences = np.abs(scores - expected)
    largest = float(differences.max())
    if not largest <= allowed:  # NaN is not below anything
        worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
        problems.append(
            f"{peer.library} {version}: scores differ by {largest:.2g}, allowed is {allowed:.2g}; "
            f"{scores[worst]:.6f} instead of {expected[worst]:.6f} for {chosen[worst]!r:.120}"
        )
    return Proof(peer.library, version, peer.loader, len(chosen), largest, allowed, left_out)


def _why_not_importable(peer: Library) -> str:
    if importlib.util.find_spec(peer.module) is None:
        return f"not installed here (`pip install {peer.library}`)"
    try:
        importlib.import_module(peer.module)
    except Exception as error:  # any version clash between foreign libraries
        return f"installed, but its import fails ({type(error).__name__})"
    return ""


def _transformers_scores(folder: Path, pairs: Sequence[Pair], max_tokens: int) -> Sequence[float]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False).eval()
    scores: list[float] = []
    for start in range(0, len(pairs), BATCH):
        queries, passages = map(list, zip(*pairs[start : start + BATCH], strict=True))
        inputs = tokenizer(queries, passages, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            scores += model(**inputs).logits[:, 0].float().tolist()
    return scores


def _sentence_transformers_scores(folder: Path, pairs: Sequence[Pair], max_tokens: int) -> Sequence[float]:
    from sentence_transformers import CrossEncoder

    # local_files_only: otherwise it looks the folder up on the hub to fill a model card
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
    scores: Any = model.predict(list(pairs), batch_size=BATCH, show_progress_bar=False)
    return scores.tolist()


def _flag_embedding_scores(folder: Path, pairs: Sequence[Pair], max_tokens: int) -> Sequence[float]:
    from FlagEmbedding import FlagReranker

    device = {"use_fp16": False, "devices": "cpu"}
    model = FlagReranker(str(folder), **device, max_length=max_tokens, trust_remote_code=False)
    scores: list[float] = []
    for start in range(0, len(pairs), BATCH):  # in parts: more than one batch draws progress bars
        scores += model.compute_score(list(pairs[start : start + BATCH]), batch_size=BATCH + 1)
    return scores


PEERS = (
    Library("transformers", "transformers", "AutoModelForSequenceClassification", _transformers_scores),
    Library("sentence-transformers", "sentence_transformers", "CrossEncoder", _sentence_transformers_scores),
    Library("FlagEmbedding", "FlagEmbedding", "FlagReranker", _flag_embedding_scores),
)
