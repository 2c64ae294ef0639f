"""`uprank score`: JSONL in, JSONL with scores out."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.command import run
from ..configs.errors import UserError
from ..configs.schema_eval import ScoreCommand
from ..configs.validate import above_zero, model_problems
from ..data.problems import Problems, require
from ..data.rows import parse_rows
from .score_jsonl import FORMS, Output, is_right, output_file_problems, read_pairs, scored

ROWS = 1000  # rows scored together: enough to sort by length, little memory on endless input


def score(settings: ScoreCommand) -> None:
    """Score each row and write it as JSON, in the order read, to stdout or to a file.

    A row with `passage` gets `score`; a row with `documents` gets `ranking`, best first, each with index and
    score; a row with `pos` (and `neg`) gets `pos_scores` and `neg_scores`, to distil from. Other keys of a
    row are kept. Scores are raw logits.

    Raises:
        UserError: the model or a row is wrong; if the input is a file, no row is scored then.
    """
    problems = model_problems(settings.model)
    problems += above_zero({"tokens_per_batch": settings.tokens_per_batch, "threads": settings.threads})
    problems += above_zero({"top_k": settings.top_k})
    problems += output_file_problems(settings.output, settings.input)
    require(problems)
    if settings.input == "-":
        _score_all(settings, _read(sys.stdin.buffer, "stdin"))
        return
    path = Path(settings.input)
    if not path.is_file():
        raise UserError(f"input={path}: no such file; `-` reads stdin")
    with path.open("rb") as stream:  # every row is checked before the model is loaded
        for _ in _read(stream, str(path)):
            pass
    with path.open("rb") as stream:
        _score_all(settings, _read(stream, str(path)))


def _read(stream: Any, name: str) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in blocks; at the end of the input, raise every problem in it."""
    problems = Problems()
    block: list[dict[str, Any]] = []
    for where, row in parse_rows(stream, name, problems):
        if not is_right(row):
            problems.add("row", f"{where}: a row is {FORMS}")
        elif not problems:  # after the first problem, only further problems matter
            block.append(row)
        if len(block) == ROWS:
            yield block
            block = []
    require(problems, rest="")  # `uprank check` reads training data
    if block:
        yield block


def _score_all(settings: ScoreCommand, blocks: Iterator[list[dict[str, Any]]]) -> None:
    first = next(blocks, [])  # finds wrong rows at the start of stdin before the model is loaded
    reranker = _load(settings)
    read, output = reranker.as_read, Output(settings.output, _identity(settings, reranker), ROWS)
    place = 0
    with output.open() as (done, write):
        for rows in chain([first], blocks):
            place += len(rows)
            if place <= done:
                continue
            pairs = [pair for row in rows for pair in read_pairs(row, reranker.prompts)]
            values = read.score(pairs) if pairs else np.zeros(0, np.float32)
            if not np.isfinite(values).all():
                raise UserError(
                    f"model.path={settings.model.path}: a score is not a finite number",
                    advice="The weights are damaged, or overflow in this precision (model.precision=fp32).",
                )
            scores = iter(values.tolist())
            write([scored(row, scores, settings.top_k) for row in rows])
            reranker.pairs.forget()
    if settings.output:
        sys.stderr.write(f"{settings.output}: {place:,} rows\n")


def _load(settings: ScoreCommand) -> Any:
    import torch

    from .backends import load_model

    if settings.threads:
        torch.set_num_threads(settings.threads)
    reranker = load_model(
        settings.model, tokens_per_batch=settings.tokens_per_batch, threads=settings.threads
    )
    if reranker.new_head:
        path = settings.model.path
        raise UserError(f"model.path={path}: an encoder without a reranking head; fine-tune it first")
    return reranker


def _identity(settings: ScoreCommand, reranker: Any) -> dict[str, object]:
    """Return everything that decides the lines of an output file; nothing for stdout."""
    from ..data.store import hash_file
    from .backends import identity

    if not settings.output:
        return {}
    about = {"prompts": reranker.prompts.stated(), "top_k": settings.top_k}
    return {**identity(reranker), **about, "input": hash_file(Path(settings.input), hashlib.sha256())}


def main() -> None:
    """Run the command; exit quietly when the reader closes the pipe (`| head`)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # rows are JSON, whatever the terminal can show
    try:
        run("score", ScoreCommand, score)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
