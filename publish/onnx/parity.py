"""Proof of an ONNX graph against the published model: scores, order, measure, speed and size."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.schema_publish import OnnxSettings
from ...eval.results import Comparison
from ...eval.statistics import compare_systems
from ..parity import RECORDED
from .reference import BATCH, Truth, fastest, forward

if TYPE_CHECKING:
    from ...model.backends import Peer
    from ...model.reranker import Reranker

EXACT = ("fp32", "openvino")  # kinds whose scores are compared; of the others order and measure
TOLERANCE = 1e-4  # of an fp32 logit, for each 1 of the largest one
EXACT_PAIRS = 500  # dev pairs that an fp32 graph is compared on


@dataclass(frozen=True)
class GraphProof:
    """What was found of one graph.

    Attributes:
        kind: `fp32`, `int8`, `fp16` or `openvino`.
        file: in the published folder.
        size: bytes, of the file with the weights, too.
        runtime: what ran it, with its version.
        pairs: pairs compared.
        largest_difference: of two logits.
        mean_difference: over the pairs.
        allowed: largest difference that passes; None where tau and the measure decide.
        queries: dev queries of tau and measure; 0 where the dev data was out of reach.
        tau: Kendall's tau-b of a query's passages, mean over the queries; None where no query says anything.
        comparison: the measure by the graph against that by the model, paired by query.
        speed: pairs a second as a multiple of those of transformers in fp32, on this machine's CPU.
        pairs_per_second: of the graph.
        probe_scores: of the recorded pairs, in their order.
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
    """Score with a graph what the model scored.

    Args:
        kind: `fp32`, `int8` or `fp16`.
        folder: the published folder.
        file: of the graph, in this folder.
        reranker: the published model.
        truth: its scores.

    Raises:
        UserError: ONNX Runtime cannot run it.
    """
    peer = open_graph(folder / file, reranker.budgets)
    queries = truth.first(EXACT_PAIRS if kind in EXACT else len(truth.pairs)) if truth.queries else 0
    count = truth.probes + sum(len(docs) for docs in truth.docs[:queries])
    found, expected = peer.score(truth.pairs[:count]).astype(float), truth.scores[:count].astype(float)
    differences = np.abs(found - expected)
    tau, comparison = None, None
    if queries:
        before, after = expected[truth.probes :], found[truth.probes :]
        tau = mean_tau(before, after, [len(docs) for docs in truth.docs[:queries]])
        comparison = _compared(kind, truth, before, after, queries)
    own, seconds = fastest(
        [
            (lambda batch: forward(reranker, batch), BATCH),
            (lambda batch: peer.predict(list(batch)), 1 if peer.alone else BATCH),
        ],
        reranker,
        truth.timed,
    )
    return GraphProof(
        kind,
        file,
        sum(path.stat().st_size for path in graph_files(folder / file)),
        _runtime(kind),
        count,
        float(differences.max()),
        float(differences.mean()),
        TOLERANCE * max(1.0, float(np.abs(expected).max())) if kind in EXACT else None,
        queries,
        tau,
        comparison,
        own / seconds,
        len(truth.timed) / seconds,
        tuple(found[: len(RECORDED)].tolist()),
    )


def shortfalls(proof: GraphProof, settings: OnnxSettings) -> list[str]:
    """Why a graph is not kept: every figure that falls short, with what allows it."""
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
    if proof.comparison is None:
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
        allowed = f", or set onnx.min_tau={_below(proof.tau)}" if proof.tau >= 0 else ""
        problems.append(
            f"{name}: Kendall's tau with the fp32 order is {proof.tau:.4f} over {proof.queries} queries, at "
            f"least {settings.min_tau} is asked; leave it out{allowed}"
        )
    loss = -proof.comparison.difference
    if not loss <= settings.max_loss:
        c = proof.comparison
        problems.append(
            f"{name}: {c.measure} {c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}] over {proof.queries} "
            f"queries, a loss of {settings.max_loss} is allowed; leave it out, or set "
            f"onnx.max_loss={_above(loss)}"
        )
    return problems


def open_graph(file: Path, budgets: tuple[int, int]) -> Peer:
    """The graph in ONNX Runtime or OpenVINO on the CPU, on as many threads as torch has."""
    import torch

    from ...model.backends import load_onnx

    backend = "openvino" if file.suffix == ".xml" else "onnx"
    return load_onnx(str(file), *budgets, "cpu", 2048, torch.get_num_threads(), backend=backend)


def graph_files(file: Path) -> list[Path]:
    """The graph and, of OpenVINO, its weights."""
    return [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]


def _runtime(kind: str) -> str:
    name, module = ("OpenVINO", "openvino") if kind == "openvino" else ("ONNX Runtime", "onnxruntime")
    return f"{name} {importlib.metadata.version(module)}"


def mean_tau(before: np.ndarray, after: np.ndarray, sizes: Sequence[int]) -> float | None:
    """Mean over queries of Kendall's tau-b between two scores of its passages; None if no query is left.

    Queries with one passage, or with equal scores before, have no order that could be kept and are passed
    over. An order of which equal scores are made is lost: it counts as 0.

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
    """Kendall's tau-b of two scores of the same things; NaN where one of them has equal scores only.

    Kendall 1945, The treatment of ties in ranking problems, Biometrika 33.

    >>> tau_b(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]))
    0.3333333333333333
    """
    first, second = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale else float("nan")


def _compared(
    kind: str, truth: Truth, before: np.ndarray, after: np.ndarray, queries: int
) -> Comparison | None:
    if not np.isfinite(after).all():
        return None
    values, base = truth.values(after.astype(np.float32), queries), truth.values(before, queries)
    names: dict[str, Any] = {"system": kind, "baseline": "published", "measure": truth.measure}
    return compare_systems(values, base, **names, seed=truth.seed)


def _below(value: float) -> str:
    return f"{np.floor(value * 100) / 100:.2f}"


def _above(value: float) -> str:
    return f"{np.ceil(value * 1000) / 1000:.3f}"
