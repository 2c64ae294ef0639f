"""Proofs of a published folder, run again from the folder alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import UserError
from ...configs.validate_publish import missing_packages, name_of
from ...eval.words import count_of, some
from ..evidence import damaged_files, links_out
from ..folder import file_hashes
from ..onnx import EXACT, TOLERANCE, open_graph
from ..parity import Pair, compare_libraries, describe_proof
from ..weights import TOLERANCES, chain_problems, remade_problems
from .card import card_problems
from .record import RECORD, read_record

if TYPE_CHECKING:
    from ...model.reranker import Reranker

CARD = "README.md"
# Files that the hub, git and the hub's client put into a folder.
FOREIGN = (".gitattributes", ".git/", ".cache/")
# Processors sum int8 and fp16 in different ways: this multiple of the stated difference passes.
ELSEWHERE = 2.0


@dataclass(frozen=True)
class Line:
    """The result of one check.

    Attributes:
        what: `files`, `weights`, the name of a library or a graph, `card`…
        held: True if it is as stated, None if it cannot be checked here.
        detail: the result, or why it was not checked.
    """

    what: str
    held: bool | None
    detail: str

    def __str__(self) -> str:
        word = {True: "held", False: "FAILED", None: "not checked"}[self.held]
        return f"{word:11}  {self.what}: {self.detail}"


def verify_folder(folder: Path, measured: Path | None = None) -> Iterator[Line]:
    """Run every proof and yield its result.

    Args:
        folder: folder made by `uprank publish`, or a copy of it.
        measured: the measured model, to make the published weights again; None without it.

    Raises:
        UserError: the folder is no published folder.
    """
    if links := links_out(folder):
        yield Line("files", False, "; ".join(links))
        return
    record = read_record(folder)
    yield from _file_lines(folder, record)
    damaged = damaged_files(folder)
    if damaged:
        yield Line("weights", False, "; ".join(damaged))
        return
    from ...model.reranker import Reranker

    budgets = record.get("pairs") or {}
    try:
        reranker = Reranker.load(
            folder,
            device="cpu",
            query_tokens=budgets.get("query_tokens"),
            max_tokens=budgets.get("max_tokens"),
        )
    except UserError as error:
        yield Line("weights", False, f"cannot be loaded: {error.problems[0]}")
        return
    problems = chain_problems(folder, record, reranker)
    yield Line("weights", not problems, "; ".join(problems) or f"{record['weights']}, as recorded")
    if measured is not None:
        yield _remade_line(measured, record)
    probes = _probes(record)
    if not probes:
        yield Line("scores", None, f"{RECORD} has no probes; it was made by an older Uprank")
    else:
        pairs, scores = [pair for pair, _ in probes], np.array([score for _, score in probes])
        yield _score_line("uprank", reranker.score(pairs), scores, _allowed(scores, TOLERANCE))
        yield from _library_lines(folder, record, reranker, pairs)
        for stated in record.get("onnx") or []:
            yield _graph_line(folder, stated, reranker.budgets, pairs, scores)
    problems = card_problems(folder, record)
    yield Line(
        "card",
        not problems,
        "; ".join(problems) or "metadata and measured means are those of the report files",
    )


def _remade_line(measured: Path, record: Mapping[str, Any]) -> Line:
    from ...model.reranker import Reranker

    what = "measured weights"
    try:
        reranker = Reranker.load(measured, device="cpu")
        mixed = record.get("merge") or {}
        if reranker.weights_hash() == mixed.get("tuned_weights") != record.get("measured_weights"):
            return Line(what, None, "the published ones were merged from these and others")
        problems = remade_problems(record, reranker)
    except UserError as error:
        return Line(what, False, error.problems[0])
    return Line(what, not problems, "; ".join(problems) or "give the published ones, calibrated and rounded")


def _file_lines(folder: Path, record: Mapping[str, Any]) -> Iterator[Line]:
    """Yield the files that are missing, changed or new."""
    stated = record.get("files")
    if not stated:
        yield Line("files", None, f"{RECORD} has no hashes of files; it was made by an older Uprank")
        return
    hashes = file_hashes(folder)
    wrong = [f"{name} is missing" for name in stated if name not in hashes]
    changed = [name for name in stated if name in hashes and hashes[name] != stated[name]]
    wrong += [f"{name} was changed" for name in changed if name != CARD]
    yield Line("files", not wrong, "; ".join(wrong) or f"{count_of(len(stated), 'file')} as recorded")
    if CARD in changed:
        yield Line(CARD, None, "edited since it was published; its numbers are compared below")
    new = [name for name in hashes if name not in stated and not name.startswith(FOREIGN)]
    if new:
        yield Line("further files", None, f"not from `uprank publish`: {some(new)}")


def _probes(record: Mapping[str, Any]) -> list[tuple[Pair, float]]:
    return [((row["query"], row["passage"]), float(row["score"])) for row in record.get("probes") or []]


def _allowed(scores: np.ndarray, tolerance: float) -> float:
    return tolerance * max(1.0, float(np.abs(scores).max()))


def _score_line(what: str, scores: np.ndarray, recorded: np.ndarray, allowed: float) -> Line:
    largest = float(np.abs(scores - recorded).max())
    words = f"{count_of(len(scores), 'pair')}, largest difference to the recorded scores {largest:.1e}"
    return Line(what, bool(largest <= allowed), f"{words}, allowed {allowed:.1e}")


def _library_lines(
    folder: Path, record: Mapping[str, Any], reranker: Reranker, pairs: list[Pair]
) -> Iterator[Line]:
    tolerance = TOLERANCES[record.get("dtype", "fp32")]
    proofs, problems = compare_libraries(folder, reranker, pairs, tolerance)
    for proof in proofs:
        failed = [line for line in problems if line.startswith(f"{proof.library} ")]
        if failed:
            yield Line(proof.library, False, "; ".join(failed))
        elif proof.largest_difference is None:
            yield Line(proof.library, None, proof.not_checked)
        else:
            yield Line(proof.library, True, describe_proof(proof).partition(": ")[2])
    names = tuple(f"{proof.library} " for proof in proofs)
    other = [line for line in problems if not line.startswith(names)]
    if other:
        yield Line("tokenizer", False, "; ".join(other))


def _graph_line(
    folder: Path, stated: Mapping[str, Any], budgets: tuple[int, int], pairs: list[Pair], scores: np.ndarray
) -> Line:
    kind, file = stated["kind"], folder / stated["file"]
    what = name_of(kind)
    package = "openvino" if kind == "openvino" else "onnxruntime"
    if not file.is_file():
        return Line(what, False, f"{stated['file']} is missing")
    if missing_packages([package]):
        return Line(what, None, f"{package} is not installed here (`pip install {package}`)")
    try:
        found = open_graph(file, budgets).score(pairs)
    except UserError as error:
        return Line(what, False, error.problems[0])
    if kind in EXACT:
        return _score_line(what, found, scores, _allowed(scores, TOLERANCE))
    return _score_line(what, found, scores, ELSEWHERE * float(stated["largest_difference"]))
