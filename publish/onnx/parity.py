"""Proof of an ONNX graph against the published model: scores, order, measure, speed and size."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...configs.schema_publish import OnnxSettings
from ...eval.measures import evaluate_measures, parse_measures, rank
from ...eval.results import Comparison
from ...eval.statistics import compare_systems
from ..evidence import DevScores
from ..parity import RECORDED, Pair

if TYPE_CHECKING:
    from ...model.backends import Peer
    from ...model.reranker import Reranker

EXACT = ("fp32", "openvino")  # kinds with equal scores; the others must keep order and measure
TOLERANCE = 1e-4  # relative to the largest fp32 logit
EXACT_PAIRS = 500  # dev pairs on which an fp32 graph is compared
DEPTH = 30  # first passages of a dev query: more queries say more of a measure than deeper ones
TIMED = 32  # dev pairs whose time is taken
BATCH = 8  # of them in one padded batch
ROUNDS = 3


@dataclass(frozen=True)
class Truth:
    """Scores of the published model, with which every graph is compared.

    Attributes:
        pairs: (N,) pairs of the proof: the recorded probes, the other probes, the dev pairs query by query.
        scores: (N,) raw logits.
        probes: number of probes.
        queries: ids of the dev queries.
        docs: ids of each query's passages, in the order of the pairs.
        qrels: judgments of the dev queries.
        measure: the measure that decides.
        seed: seed of intervals and tests.
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
        """Return how many first queries have at most so many pairs; at least one, if there is one."""
        ends = np.cumsum([len(docs) for docs in self.docs])
        return min(len(self.docs), max(1, int(np.searchsorted(ends, pairs, side="right"))))

    def values(self, scores: np.ndarray, queries: int) -> np.ndarray:
        """Return the measure (Q,) of the first queries by the scores (N,) of their pairs."""
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
        dev: judgments and candidates of the first report; None if they are out of reach.
        measure: the report's first measure.
        pairs: dev pairs at most.
        seed: seed of intervals and tests.
    """
    queries, docs = _choose(dev, pairs) if dev else ([], [])
    chosen = list(probes)
    qrels: dict[str, dict[str, int]] = {}
    if dev:
        texts, passages = dev.collection.queries, dev.collection.passages
        chosen += [(texts[q], passages[doc]) for q, row in zip(queries, docs, strict=True) for doc in row]
        qrels = {query: dict(dev.collection.qrels[query]) for query in queries}
    return Truth(chosen, reranker.score(chosen), len(probes), queries, docs, qrels, measure, seed)


def _choose(dev: DevScores, pairs: int) -> tuple[list[str], list[list[str]]]:
    """Return queries spread over the dev data and their best first-stage passages, at most `pairs` pairs."""
    rows = {q: sorted(row, key=lambda doc: -row[doc])[:DEPTH] for q, row in dev.candidates.run.items() if row}
    names, total = list(rows), sum(map(len, rows.values()))
    count = max(1, len(names) * pairs // total) if total > pairs else len(names)
    chosen = [names[place * len(names) // count] for place in range(count)] if names else []
    return chosen, [rows[query] for query in chosen]


@dataclass(frozen=True)
class GraphProof:
    """The comparison of one graph with the model.

    Attributes:
        kind: `fp32`, `int8`, `fp16` or `openvino`.
        file: path in the published folder.
        size: bytes, with those of a file of weights beside it.
        runtime: name and version of the runtime.
        pairs: pairs compared.
        largest_difference: largest difference of two logits.
        mean_difference: mean over the pairs.
        allowed: largest difference that passes; None if tau and the measure decide.
        queries: dev queries of tau and measure; 0 if the dev data is out of reach.
        tau: Kendall's tau-b of a query's passages, mean over the queries; None if no query has an order.
        comparison: the measure by the graph against that by the model, paired by query.
        speed: pairs a second as a multiple of transformers in fp32, on this machine's CPU.
        pairs_per_second: pairs that the graph scores in a second.
        probe_scores: scores of the recorded pairs, in their order.
    """

    kind: str
    file: str
    size: int
    runtime: str
    pairs: int
    largest_difference: float
    mean_difference: float
    allowed: float | None
    queries: int
    tau: float | None
    comparison: Comparison | None
    speed: float
    pairs_per_second: float
    probe_scores: tuple[float, ...]


def prove_graph(kind: str, folder: Path, file: str, reranker: Reranker, truth: Truth) -> GraphProof:
    """Score the model's pairs with a graph and compare.

    Args:
        kind: kind of the graph.
        folder: the published folder.
        file: path of the graph in this folder.
        reranker: the published model.
        truth: the model's scores.

    Raises:
        UserError: the runtime cannot run the graph.
    """
    place = folder / file
    peer = open_graph(place, reranker.budgets)
    queries = truth.first(EXACT_PAIRS if kind in EXACT else len(truth.pairs)) if truth.queries else 0
    count = truth.probes + sum(len(docs) for docs in truth.docs[:queries])
    scores, expected = peer.score(truth.pairs[:count]).astype(float), truth.scores[:count].astype(float)
    differences = np.abs(scores - expected)
    tau, comparison = None, None
    if queries:
        before, after = expected[truth.probes :], scores[truth.probes :]
        tau = mean_tau(before, after, [len(docs) for docs in truth.docs[:queries]])
        if np.isfinite(after).all():
            comparison = compare_systems(
                truth.values(after.astype(np.float32), queries),
                truth.values(before, queries),
                system=kind,
                baseline="published",
                measure=truth.measure,
                seed=truth.seed,
            )
    model_seconds, graph_seconds = fastest(
        [
            (lambda batch: forward(reranker, batch), BATCH),
            (lambda batch: peer.predict(list(batch)), 1 if peer.alone else BATCH),
        ],
        reranker,
        truth.timed,
    )
    openvino = place.suffix == ".xml"
    name, module = ("OpenVINO", "openvino") if openvino else ("ONNX Runtime", "onnxruntime")
    return GraphProof(
        kind=kind,
        file=file,
        size=sum(path.stat().st_size for path in (place, *([place.with_suffix(".bin")] if openvino else []))),
        runtime=f"{name} {importlib.metadata.version(module)}",
        pairs=count,
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        allowed=TOLERANCE * max(1.0, float(np.abs(expected).max())) if kind in EXACT else None,
        queries=queries,
        tau=tau,
        comparison=comparison,
        speed=model_seconds / graph_seconds,
        pairs_per_second=len(truth.timed) / graph_seconds,
        probe_scores=tuple(scores[: len(RECORDED)].tolist()),
    )


def shortfalls(proof: GraphProof, settings: OnnxSettings) -> list[str]:
    """Return why a graph is not kept: every figure that falls short, with the setting that allows it."""
    name, problems = f"onnx.graphs: {proof.kind} ({proof.file})", []
    if not np.isfinite(proof.largest_difference):
        return [f"{name}: a score is not a number"]
    if proof.allowed is not None:
        if not proof.largest_difference <= proof.allowed:
            problems.append(
                f"{name}: scores differ by {proof.largest_difference:.2g} over {proof.pairs} pairs, "
                f"allowed is {proof.allowed:.2g}"
            )
        return problems
    c = proof.comparison
    if c is None:
        return [
            f"{name}: cannot be proven: the dev queries of the report are out of reach. "
            "Publish where its data and its runs/ lie, or leave it out"
        ]
    if proof.tau is None:
        problems.append(
            f"{name}: cannot be proven: the model gives all passages of a query one score, in each of "
            f"{proof.queries} queries: there is no order to keep. Leave it out"
        )
    elif not proof.tau >= settings.min_tau:
        below = f", or set onnx.min_tau={np.floor(proof.tau * 100) / 100:.2f}" if proof.tau >= 0 else ""
        problems.append(
            f"{name}: Kendall's tau with the fp32 order is {proof.tau:.4f} over {proof.queries} queries, at "
            f"least {settings.min_tau} is asked; leave it out{below}"
        )
    if not -c.difference <= settings.max_loss:
        problems.append(
            f"{name}: {c.measure} {c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}] over {proof.queries} "
            f"queries, a loss of {settings.max_loss} is allowed; leave it out, or set "
            f"onnx.max_loss={np.ceil(-c.difference * 1000) / 1000:.3f}"
        )
    return problems


def open_graph(file: Path, budgets: tuple[int, int]) -> Peer:
    """Open the graph in ONNX Runtime or OpenVINO on the CPU, with as many threads as torch has."""
    import torch

    from ...configs.schema import ScoredModelSettings
    from ...model.backends import load_onnx

    settings = ScoredModelSettings(str(file), query_tokens=budgets[0], max_tokens=budgets[1], device="cpu")
    settings.backend = "openvino" if file.suffix == ".xml" else "onnx"
    return load_onnx(settings, threads=torch.get_num_threads())


def mean_tau(before: np.ndarray, after: np.ndarray, sizes: Sequence[int]) -> float | None:
    """Return the mean over queries of Kendall's tau-b between two scores of their passages.

    Queries with one passage, or with equal scores before, have no order to keep and are skipped; None if no
    query is left. A query whose scores became equal lost its order and counts as 0.

    Args:
        before: (N,) scores, query after query.
        after: (N,) scores of the same pairs.
        sizes: passages of each query.
    """
    ends = np.cumsum(sizes)[:-1]
    queries = zip(np.split(before, ends), np.split(after, ends), strict=True)
    taus = [0.0 if (b == b[0]).all() else tau_b(a, b) for a, b in queries if (a != a[0]).any()]
    return float(np.mean(taus)) if taus else None


def tau_b(a: np.ndarray, b: np.ndarray) -> float:
    """Return Kendall's tau-b of two scores of the same items; NaN if all scores of one are equal.

    Kendall 1945, The treatment of ties in ranking problems, Biometrika 33.

    >>> tau_b(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]))
    0.3333333333333333
    """
    first, second = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale else float("nan")


def fastest(
    scorers: Sequence[tuple[Callable[[Sequence[Pair]], object], int]],
    reranker: Reranker,
    pairs: Sequence[Pair],
) -> list[float]:
    """Return each scorer's seconds for all pairs, sorted by length; the best of several rounds.

    The scorers take turns, so that a machine that slows down slows all of them.

    Args:
        scorers: functions that score a batch, each with its batch size.
        reranker: counts tokens.
        pairs: pairs to score.
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
    """Run the forward of transformers on a padded batch: the work that a graph replaces."""
    import torch

    from ...model.forward import pack, padded_logits

    with torch.inference_mode():
        padded_logits(reranker.model, pack(reranker.pairs.encode_flat(batch), device=reranker.device))
