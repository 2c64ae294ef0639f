"""`uprank mine`: hard negatives from the first stage, for queries that have relevant passages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from ..configs.check import above_zero, one_of, output_problems, seed_problems
from ..configs.command import run
from ..configs.errors import UserError
from ..configs.schema import MineCommand
from ..data.groups import Collection, same_text
from ..data.read import read_judged, require
from ..eval.bm25 import search


def mine(settings: MineCommand) -> None:
    """Write JSONL groups: each query with its positives and negatives drawn from its best passages.

    A negative is never judged relevant for its query and never equal in text to a positive,
    to the query or to another negative. The same seed writes the same bytes.

    Raises:
        UserError: wrong data or settings, or the output exists.
    """
    problems = one_of("retriever", settings.retriever, ("bm25",))
    problems += above_zero({"depth": settings.depth, "negatives": settings.negatives})
    problems += seed_problems(settings.seed)
    if not 0 <= settings.skip < settings.depth:
        problems.append(f"skip={settings.skip}: has to be 0 or more and below depth={settings.depth}")
    output = Path(settings.output)
    problems += output_problems(output)
    if output.exists():
        problems.append(f"output={output}: exists; nothing was overwritten")
    collection = read_judged(settings.data.train, problems, split="train")
    if collection is not None and collection.pools:
        problems.append(f"{settings.data.train}: rows have no corpus to search; give a BEIR folder")
    require(problems)
    assert collection is not None  # a collection that could not be read left a problem
    rows = _rows(collection, settings)
    if not rows:
        raise UserError(f"{settings.data.train}: no query has both a relevant passage and a negative")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("".join(line for line, _ in rows), encoding="utf-8")
    count = sum(negatives for _, negatives in rows)
    left = len(collection.queries) - len(rows)
    note = f"; {left} queries left out (no relevant passage, or no negative)" if left else ""
    sys.stderr.write(
        f"{output}: {len(rows)} queries, {count} negatives ({count / len(rows):.1f} a query){note}\n"
    )


def _rows(collection: Collection, settings: MineCommand) -> list[tuple[str, int]]:
    """A line of JSON and its number of negatives for each query that has both sides."""
    # Deeper than asked for, because the positives among the best are left out.
    most = max(len(row) for row in collection.qrels.values())
    found = search(collection.passages, collection.queries, depth=settings.depth + most)
    rows = []
    for number, (query, text) in enumerate(collection.queries.items()):
        judged = collection.qrels[query]
        positives = [collection.passages[doc] for doc, grade in judged.items() if grade > 0]
        taken = {same_text(passage) for passage in (*positives, text)}
        pool: dict[str, str] = {}
        for doc in found[query]:
            passage = collection.passages[doc]
            if same_text(passage) not in taken:
                pool.setdefault(same_text(passage), passage)
        window = list(pool.values())[settings.skip : settings.depth]
        random = np.random.default_rng((settings.seed, number))
        chosen = sorted(random.permutation(len(window))[: settings.negatives])
        if positives and chosen:
            row = {"query": text, "pos": positives, "neg": [window[i] for i in chosen], "query_id": query}
            rows.append((json.dumps(row, ensure_ascii=False) + "\n", len(chosen)))
    return rows


def main() -> None:
    """Run the command."""
    run("mine", MineCommand, mine)
