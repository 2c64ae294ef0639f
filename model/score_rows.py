"""The rows that `uprank score` takes and gives: pairs, queries with documents, groups to distil from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..data.prompts import Pair, Prompts

FORMS = (
    '{"query": …, "passage": …} or {"query": …, "documents": [… , …]} or a group '
    '{"query": …, "pos": [… , …], "neg": [… , …]}, with texts as strings'
)
PROMPTS = ("query_prompt", "passage_prompt")


def is_right(row: dict[str, Any]) -> bool:
    """Whether a row has one of the `FORMS`; `documents` decides, then `passage`."""
    if not isinstance(row.get("query"), str):
        return False
    if any(not isinstance(row.get(key), str | None) for key in PROMPTS):
        return False
    if row.get("documents") is not None:
        return _are_texts(row["documents"])
    if is_group(row):
        return _are_texts(row["pos"]) and _are_texts(row.get("neg") or [])
    return isinstance(row.get("passage"), str)


def is_group(row: dict[str, Any]) -> bool:
    """Whether a row is a group: positives, and negatives if there are any."""
    return row.get("documents") is None and row.get("passage") is None and row.get("pos") is not None


def read_pairs(row: dict[str, Any], prompts: Prompts) -> list[Pair]:
    """The pairs of a right row as the model reads them; prompts of the row are stronger than the model's."""
    own = Prompts(
        *(
            row.get(key) or default
            for key, default in zip(PROMPTS, (prompts.query, prompts.passage), strict=True)
        )
    )
    return own.pairs((row["query"], text) for text in _texts(row))


def scored(row: dict[str, Any], scores: Iterator[float], top_k: int | None) -> str:
    """The row with the scores of its texts, which are taken from `scores`, as a line of JSON."""
    if is_group(row):
        values = {key: [_short(next(scores)) for _ in row.get(key) or []] for key in ("pos", "neg")}
        row = {**row, "pos_scores": values["pos"], "neg_scores": values["neg"]}
    elif row.get("documents") is None:
        row = {**row, "score": next(scores)}
    else:
        found = [next(scores) for _ in row["documents"]]
        order = sorted(range(len(found)), key=lambda index: (-found[index], index))[:top_k]
        row = {**row, "ranking": [{"index": index, "score": found[index]} for index in order]}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _texts(row: dict[str, Any]) -> list[str]:
    if is_group(row):
        return [*row["pos"], *(row.get("neg") or [])]
    documents: list[str] | None = row.get("documents")
    return [row["passage"]] if documents is None else documents


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _short(score: float) -> float:
    """Seven digits, about as many as a float32 has."""
    return float(f"{score:.7g}")
