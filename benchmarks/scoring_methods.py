"""Scoring methods of speed_scoring.py by name, and the choice of their batch sizes."""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from common import Pairs, alternate, say

Score = Callable[[Pairs], Any]
BATCHES = (4, 8, 16, 32)
ST, FLAG = "sentence-transformers", "FlagReranker"
BASELINE = f"{ST} fp32, batch 32"


@functools.cache
def uprank(folder: str, precision: str, device: str) -> Score:
    from uprank import Reranker

    reranker = Reranker.load(folder, precision=precision, device=device)

    def score(pairs: Pairs) -> Any:
        reranker.pairs.forget()  # tokenise in every round, as the others do
        return reranker.score(pairs)

    return score


@functools.cache
def _cross_encoder(folder: str, precision: str, device: str) -> Any:
    import torch
    from sentence_transformers import CrossEncoder

    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return CrossEncoder(folder, device=device, model_kwargs={"dtype": kinds[precision]})


def sentence_transformers(folder: str, precision: str, device: str, batch: int) -> Score:
    import torch

    model, raw = _cross_encoder(folder, precision, device), torch.nn.Identity()
    return lambda pairs: model.predict(pairs, batch_size=batch, activation_fn=raw, show_progress_bar=False)


@functools.cache
def _flag(folder: str, device: str, half: bool) -> Any:
    from FlagEmbedding import FlagReranker

    return FlagReranker(folder, use_fp16=half, devices=device)


def flag_reranker(folder: str, device: str, batch: int, *, half: bool = False) -> Score:
    model = _flag(folder, device, half)
    return lambda pairs: model.compute_score(pairs, batch_size=batch)


@functools.cache
def _transformers(folder: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval().to(device)
    return model, AutoTokenizer.from_pretrained(folder)


def plain_loop(folder: str, device: str, batch: int = 32) -> Score:
    """Score as a model card shows: padded batches in the given order."""
    import torch

    model, tokenizer = _transformers(folder, device)

    def score(pairs: Pairs) -> list[float]:
        scores: list[float] = []
        with torch.no_grad():
            for start in range(0, len(pairs), batch):
                part = [list(pair) for pair in pairs[start : start + batch]]
                inputs = tokenizer(part, padding=True, truncation=True, max_length=512, return_tensors="pt")
                scores += model(**inputs.to(device)).logits.view(-1).float().tolist()
        return scores

    return score


def methods(folder: str, device: str = "cpu") -> dict[str, Callable[[], Score]]:
    """Return every installed method at every batch size to try."""
    found: dict[str, Callable[[], Score]] = {
        "uprank fp32": lambda: uprank(folder, "fp32", device),
        "uprank bf16": lambda: uprank(folder, "bf16", device),
        "plain loop fp32, unsorted": lambda: plain_loop(folder, device),
    }
    partial = functools.partial
    if installed(ST, "sentence_transformers"):
        for precision in ("fp32", "bf16"):
            for batch in BATCHES:
                make = partial(sentence_transformers, folder, precision, device, batch)
                found[f"{ST} {precision}, batch {batch}"] = make
    if installed(FLAG, "FlagEmbedding"):
        for batch in (*BATCHES, 128):
            found[f"{FLAG} fp32, batch {batch}"] = partial(flag_reranker, folder, device, batch)
    return found


def installed(name: str, module: str) -> bool:
    """Return True if a library is installed; print a line if not."""
    if find_spec(module):
        return True
    say(f"{name} is not installed: left out")
    return False


def choose(
    made: dict[str, Callable[[], Score]], calls: list[Pairs]
) -> tuple[dict[str, str], list[list[Any]]]:
    """Choose batch sizes: the defaults, 32 for all, and the best on a part of the pool.

    Returns:
        Methods to measure with a note each, and the rows of the search.
    """
    part = [calls[0][: max(2 * max(BATCHES), len(calls[0]) // 10)]] if len(calls) == 1 else calls[:2]
    chosen = {name: "" for name in made if "batch" not in name}
    for family, default in ((f"{ST} fp32", 32), (f"{ST} bf16", 32), (f"{FLAG} fp32", 128)):
        for batch in (32, default):
            if f"{family}, batch {batch}" in made:
                chosen[f"{family}, batch {batch}"] = "default batch" if batch == default else ""
    tried = []
    for family in (f"{ST} fp32", f"{ST} bf16", f"{FLAG} fp32"):
        names = [f"{family}, batch {batch}" for batch in BATCHES if f"{family}, batch {batch}" in made]
        if names:
            runs = {name: functools.partial(score_all, made[name](), part) for name in names}
            seconds = alternate(runs, 1)
            best = min(names, key=lambda name: seconds[name][1])
            tried += [[name, seconds[name][1]] for name in names]
            chosen[best] = ", ".join(filter(None, (chosen.get(best), "its best batch")))
    return chosen, tried


def score_all(score: Score, calls: list[Pairs]) -> list[float]:
    return [float(value) for pairs in calls for value in score(pairs)]
