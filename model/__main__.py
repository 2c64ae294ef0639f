"""`uprank score`: JSONL in, JSONL with scores out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ..configs.check import above_zero, model_problems
from ..configs.command import run
from ..configs.errors import UserError
from ..configs.schema_eval import ScoreCommand
from ..data.jsonl import parse_rows
from ..data.read import require

ROWS = 1000  # rows scored together: enough to sort by length, little memory on endless input
FORMS = '{"query": …, "passage": …} or {"query": …, "documents": […, …]}, with texts as strings'


def score(settings: ScoreCommand) -> None:
    """Score each row and write it to stdout as JSON, in the order read.

    A row with `passage` gets `score`; a row with `documents` gets `ranking`, best first, each
    with its index and score. Other keys of a row are kept. Scores are raw logits.

    Raises:
        UserError: wrong rows (none is scored then if the input is a file), or a wrong model.
    """
    problems = model_problems(settings.model)
    problems += above_zero({"tokens_per_batch": settings.tokens_per_batch, "threads": settings.threads})
    problems += above_zero({"top_k": settings.top_k})
    require(problems)
    if settings.input == "-":
        _score_all(settings, _read(sys.stdin.buffer, "stdin"))
        return
    path = Path(settings.input)
    if not path.is_file():
        raise UserError(f"input={path}: no such file; `-` reads stdin")
    with path.open("rb") as stream:  # everything is checked before the model is loaded
        for _ in _read(stream, str(path)):
            pass
    with path.open("rb") as stream:
        _score_all(settings, _read(stream, str(path)))


def _read(stream: Any, name: str) -> Iterator[list[dict[str, Any]]]:
    """Rows in blocks; raises with every problem of the input once it is read to the end."""
    problems: list[str] = []
    block: list[dict[str, Any]] = []
    for where, row in parse_rows(stream, name, problems):
        if not _is_right(row):
            problems.append(f"{where}: a row is {FORMS}")
        elif not problems:  # after the first problem only more problems are looked for
            block.append(row)
        if len(block) == ROWS:
            yield block
            block = []
    require(problems)
    if block:
        yield block


def _is_right(row: dict[str, Any]) -> bool:
    if not isinstance(row.get("query"), str):
        return False
    documents = row.get("documents")
    if documents is None:
        return isinstance(row.get("passage"), str)
    return isinstance(documents, list) and all(isinstance(text, str) for text in documents)


def _texts(row: dict[str, Any]) -> list[str]:
    """The texts of a right row that are scored for its query."""
    documents: list[str] | None = row.get("documents")
    return [row["passage"]] if documents is None else documents


def _score_all(settings: ScoreCommand, blocks: Iterator[list[dict[str, Any]]]) -> None:
    import torch

    from .backends import load_model

    first = next(blocks, [])  # wrong rows at the start of stdin are found before the model is loaded
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model = settings.model
    reranker = load_model(
        model.path,
        backend=model.backend,
        precision=model.precision,
        query_tokens=model.query_tokens,
        max_tokens=model.max_tokens,
        device=model.device,
        revision=model.revision,
        tokens_per_batch=settings.tokens_per_batch,
        threads=settings.threads,
    )
    if reranker.new_head:
        raise UserError(f"model.path={model.path}: an encoder without a reranking head; fine-tune it first")
    for rows in chain([first], blocks):
        pairs = [(row["query"], text) for row in rows for text in _texts(row)]
        scores = iter(reranker.score(pairs).tolist() if pairs else [])
        for row in rows:
            sys.stdout.write(json.dumps(_scored(row, scores, settings.top_k), ensure_ascii=False) + "\n")
        sys.stdout.flush()
        reranker.pairs.forget()


def _scored(row: dict[str, Any], scores: Iterator[float], top_k: int | None) -> dict[str, Any]:
    if row.get("documents") is None:
        return {**row, "score": next(scores)}
    values = [next(scores) for _ in row["documents"]]
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))[:top_k]
    return {**row, "ranking": [{"index": index, "score": values[index]} for index in order]}


def main() -> None:
    """Run the command; a reader that has seen enough (`| head`) ends it quietly."""
    try:
        run("score", ScoreCommand, score)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
