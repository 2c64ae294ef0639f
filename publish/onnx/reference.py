"""What the published model scores: the pairs and the times that every ONNX graph is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...eval.measures import evaluate_measures, parse_measures, rank
from ..evidence import DevScores
from ..parity import Pair

if TYPE_CHECKING:
    from ...model.reranker import Reranker

DEPTH = 30  # first passages of a dev query: more queries say more of a measure than deeper ones
TIMED = 32  # dev pairs whose time is taken
BATCH = 8  # of them in one padded batch
ROUNDS = 3


@dataclass(frozen=True)
class Truth:
    """What the published model scores, which every graph is compared with.

    Attributes:
        pairs: (N,) pairs of the proof; first the probes, and of these first the recorded ones.
        scores: (N,) raw logits.
        probes: so many of the pairs are probes, the rest are dev pairs, query after query.
        queries: ids of the dev queries.
        docs: for each of them, the ids of its passages, in the order of the pairs.
        qrels: their judgments.
        measure: the measure that decides.
        seed: of intervals and tests.
    """

    pairs: list[Pair]
    scores: np.ndarray
    probes: int
    queries: list[str]
    docs: list[list[str]]
    qrels: dict[str, dict[str, int]]
    measure: str
    seed: int

    @property
    def timed(self) -> list[Pair]:
        """Pairs whose time is taken."""
        return (self.pairs[self.probes :] or self.pairs)[:TIMED]

    def first(self, pairs: int) -> int:
        """Queries, from the first, whose pairs are at most so many; one at least, where there is one."""
        ends = np.cumsum([len(docs) for docs in self.docs])
        return min(len(self.docs), max(1, int(np.searchsorted(ends, pairs, side="right"))))

    def values(self, scores: np.ndarray, queries: int) -> np.ndarray:
        """(Q,) values of the measure by (N,) scores of the first queries' pairs."""
        run, start = {}, 0
        for query, docs in zip(self.queries[:queries], self.docs, strict=False):
            run[query] = dict(zip(docs, scores[start : start + len(docs)].tolist(), strict=True))
            start += len(docs)
        (measure,) = parse_measures([self.measure])
        return np.asarray(evaluate_measures(measure, rank({query: self.qrels[query] for query in run}, run)))


def find_truth(
    reranker: Reranker, probes: Sequence[Pair], dev: DevScores | None, measure: str, *, pairs: int, seed: int
) -> Truth:
    """Score the probes, and dev queries spread over all of them, with the published model.

    Args:
        reranker: the published model, fp32 on the CPU.
        probes: real and difficult pairs.
        dev: judgments and candidates of the first report; None where they are out of reach.
        measure: the report's first measure.
        pairs: dev pairs at most.
        seed: of intervals and tests.
    """
    queries, docs = _choose(dev, pairs) if dev else ([], [])
    chosen = list(probes)
    qrels: dict[str, dict[str, int]] = {}
    if dev:
        texts, passages = dev.collection.queries, dev.collection.passages
        chosen += [(texts[q], passages[doc]) for q, row in zip(queries, docs, strict=True) for doc in row]
        qrels = {query: dict(dev.collection.qrels[query]) for query in queries}
    scores = reranker.score(chosen)
    return Truth(chosen, scores, len(probes), queries, docs, qrels, measure, seed)


def fastest(
    scorers: Sequence[tuple[Callable[[Sequence[Pair]], object], int]],
    reranker: Reranker,
    pairs: Sequence[Pair],
) -> list[float]:
    """Seconds of each scorer for all pairs, sorted by length; the best of several rounds.

    They take turns, so that a machine which slows down in between slows all of them.

    Args:
        scorers: each scores one batch, and the pairs in one.
        reranker: counts tokens.
        pairs: to score.
    """
    order = np.argsort(-reranker.pairs.lengths(pairs), kind="stable").tolist()
    ordered, best = [pairs[place] for place in order], [float("inf")] * len(scorers)
    for _ in range(ROUNDS):
        for number, (score, size) in enumerate(scorers):
            start = time.perf_counter()
            for place in range(0, len(ordered), size):
                score(ordered[place : place + size])
            best[number] = min(best[number], time.perf_counter() - start)
    return best


def forward(reranker: Reranker, batch: Sequence[Pair]) -> None:
    """The plain forward of transformers on a padded batch, which a graph is in place of."""
    import torch

    from ...model.forward import pack, padded_logits

    with torch.inference_mode():
        padded_logits(reranker.model, pack(reranker.pairs.encode_flat(batch), device=reranker.device))


def _choose(dev: DevScores, pairs: int) -> tuple[list[str], list[list[str]]]:
    """Queries spread over the dev data, with their best first-stage passages, `pairs` pairs at most."""
    rows = {q: sorted(row, key=lambda doc: -row[doc])[:DEPTH] for q, row in dev.candidates.run.items() if row}
    names, total = list(rows), sum(map(len, rows.values()))
    count = max(1, len(names) * pairs // total) if total > pairs else len(names)
    chosen = [names[place * len(names) // count] for place in range(count)] if names else []
    return chosen, [rows[query] for query in chosen]
