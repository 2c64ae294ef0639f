"""ONNX graphs of a published folder: written, proven, kept only if they hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError
from ...configs.schema_publish import OnnxSettings
from ...configs.validate_publish import FILES, missing_packages, name_of
from ...eval.results import Report
from ...eval.words import count_of
from ...model.backends import import_openvino
from ..evidence import DevScores
from ..parity import RECORDED, Pair
from . import export as onnx_export
from . import quantise
from .parity import EXACT_PAIRS, GraphProof, find_truth, prove_graph, shortfalls

if TYPE_CHECKING:
    from ...model.reranker import Reranker

log = logging.getLogger(__name__)

LEFT_OUT = (
    "ONNX: left out, the packages for it are not installed "
    '(pip install "uprank[onnx]"; onnx.graphs=[] leaves it out without a word)'
)


@dataclass(frozen=True)
class Graphs:
    """The graphs of a published folder.

    Attributes:
        proofs: the proof of each graph.
        left_out: why a wanted graph is missing; empty if none is.
        types: True if the graphs take `token_type_ids`.
        padding: id and token that pad a batch.
    """

    proofs: tuple[GraphProof, ...] = ()
    left_out: str = ""
    types: bool = False
    padding: tuple[int, str] = (0, "")

    @property
    def missing(self) -> bool:
        """True if the packages that make graphs are not installed."""
        return self.left_out == LEFT_OUT

    @property
    def record(self) -> list[dict[str, Any]]:
        """The graphs in `uprank.json`."""
        return [{**asdict(proof), "opset": onnx_export.OPSET} for proof in self.proofs]

    @property
    def lines(self) -> list[str]:
        """Lines for the terminal."""
        return [describe_graph(proof) for proof in self.proofs] + ([self.left_out] if self.left_out else [])


def to_openvino(source: Path, target: Path) -> None:
    """Convert the fp32 graph; weights stay fp32, in a `.bin` beside the target.

    Args:
        source: the fp32 ONNX graph.
        target: `….xml` to write.
    """
    openvino = import_openvino()
    target.parent.mkdir(exist_ok=True)
    # Not `convert_model`, which reports to an analytics server what it converts.
    openvino.save_model(openvino.Core().read_model(str(source)), str(target), compress_to_fp16=False)
    for path in (target, target.with_suffix(".bin")):
        path.chmod(source.stat().st_mode)


NO_GRAPHS = Graphs()
MAKERS = {"int8": quantise.to_int8, "fp16": quantise.to_fp16, "openvino": to_openvino}


def add_graphs(
    settings: OnnxSettings,
    reranker: Reranker,
    folder: Path,
    pairs: Sequence[Pair],
    dev: DevScores | None,
    report: Report,
) -> Graphs:
    """Write the wanted graphs and prove each.

    Args:
        settings: the graphs, and what each may lose.
        reranker: the published model, fp32 on the CPU.
        folder: the published folder, with tokenizer and config.
        pairs: real and difficult pairs.
        dev: judgments and candidates of the report; None if they are out of reach.
        report: the first report.

    Raises:
        UserError: a graph falls short; with its figures and what to set. One that cannot be made or run is
            left out, which log and card say.
    """
    if settings.graphs is None and missing_packages():
        log.info("%s", LEFT_OUT)
        return Graphs(left_out=LEFT_OUT)
    wanted = [kind for kind in FILES if kind in (["fp32"] if settings.graphs is None else settings.graphs)]
    if not wanted:
        return Graphs()
    probes = [*RECORDED, *(pair for pair in pairs if pair not in RECORDED)]
    count = EXACT_PAIRS if wanted == ["fp32"] else max(EXACT_PAIRS, settings.pairs)
    truth = find_truth(reranker, probes, dev, report.measures[0], pairs=count, seed=report.seed)
    reranker.scorer.weights_changed()  # the copy that scoring made is not needed while a graph is written
    (folder / "onnx").mkdir()
    proofs: list[GraphProof] = []
    refused: list[str] = []
    try:
        onnx_export.export(reranker, folder / FILES["fp32"])
    except UserError as error:
        (folder / FILES["fp32"]).unlink(missing_ok=True)
        wanted, refused = [], _left_out(wanted, error, folder)
    for kind in wanted:
        try:
            if kind in MAKERS:
                MAKERS[kind](folder / FILES["fp32"], folder / FILES[kind])
            proof = prove_graph(kind, folder, FILES[kind], reranker, truth)
        except UserError as error:  # it cannot be run: nobody could use it, and the rest does not need it
            refused += _left_out([kind], error, folder)
            continue
        log.info("%s", describe_graph(proof))
        if problems := shortfalls(proof, settings):
            raise UserError(problems, advice="Nothing was published.")
        proofs.append(proof)
    _remove_unproven(folder, proofs)
    for line in refused:
        log.warning("%s", line)
    names = onnx_export.input_names(reranker.model.config)
    tokenizer = reranker.tokenizer
    padding = (int(tokenizer.pad_token_id), str(tokenizer.pad_token))
    return Graphs(tuple(proofs), "; ".join(refused), "token_type_ids" in names, padding)


def _left_out(kinds: Sequence[str], error: UserError, folder: Path) -> list[str]:
    names, reason = " and ".join(map(name_of, kinds)), error.problems[0].replace(f"{folder}/", "")
    return [f"{names}: left out, {reason}"]


def _remove_unproven(folder: Path, proofs: Sequence[GraphProof]) -> None:
    """Remove what a graph that cannot be used left behind, and the folders that are empty then."""
    kept = {folder / proof.file for proof in proofs}
    for file in {folder / name for name in FILES.values()} - kept:
        for path in (file, file.with_suffix(".bin")):
            path.unlink(missing_ok=True)
    for place in {(folder / name).parent for name in FILES.values()}:
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def describe_graph(proof: GraphProof) -> str:
    """Return one line for the terminal."""
    words = [
        f"{name_of(proof.kind)}: {proof.pairs} pairs, largest difference {proof.largest_difference:.1e}",
        *([f"tau {proof.tau:.4f}"] if proof.tau is not None else []),
    ]
    if proof.comparison is not None:
        c = proof.comparison
        words.append(
            f"{c.measure} {c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}] "
            f"over {count_of(proof.queries, 'query')}"
        )
    return ", ".join([*words, f"{proof.speed:.2f}x transformers fp32", f"{proof.size / 1e6:.0f} MB"])
