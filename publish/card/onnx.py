"""The graphs as the card shows them."""

from __future__ import annotations

from typing import Any

from ...eval.words import format_difference
from ..onnx import BATCH, OPSET, GraphProof, Graphs

NOTES = {
    "fp32": "fp32: any runtime for ONNX can run it, on any device; the default of every loader.",
    "int8": (
        "int8: for CPUs with instructions for products of bytes (AVX-512 VNNI, AVX-VNNI, Arm dot product); "
        "others run it, more slowly. Matrices are int8 by column, the word table by row, and every token's "
        "states are scaled by their own largest value, so that a score does not depend on the batch. Head, "
        "attention and norms stay fp32."
    ),
    "fp16": (
        "fp16: for GPUs. It was proven by a run on a CPU, which computes much of it in fp32: the figures say "
        "that the rounded weights rank as they should, and nothing about a GPU's speed or its fp16 sums."
    ),
    "openvino": (
        "openvino: OpenVINO IR, for Intel's processors, computed in fp32. On CPUs with bf16 products "
        "OpenVINO rounds to bf16 unless `INFERENCE_PRECISION_HINT` says `f32`, as below; the figures hold "
        "with it."
    ),
}


def onnx_part(graphs: Graphs, *, model: str, pushed: bool) -> dict[str, Any]:
    """What the template of the section needs.

    Args:
        graphs: of the published folder.
        model: name of the folder, or of the repository.
        pushed: whether it is the repository.
    """
    compared = next((proof.comparison for proof in graphs.proofs if proof.comparison), None)
    return {
        "graphs": graphs,
        "rows": [_row(proof) for proof in graphs.proofs],
        "notes": [NOTES[proof.kind] for proof in graphs.proofs],
        "measure": compared.measure if compared else "the measure",
        "first": graphs.proofs[0] if graphs.proofs else None,
        "openvino": next((proof for proof in graphs.proofs if proof.kind == "openvino"), None),
        "opset": OPSET,
        "batch": BATCH,
        "folder": model.rpartition("/")[2] if pushed else model,
    }


def _row(proof: GraphProof) -> tuple[str, ...]:
    allowed = f" (allowed {proof.allowed:.1e})" if proof.allowed is not None else ""
    return (
        f"`{proof.file}`",
        proof.kind,
        f"{proof.size / 1e6:.0f}",
        str(proof.pairs),
        f"{proof.largest_difference:.1e}{allowed}",
        "–" if proof.tau is None else f"{proof.tau:.4f}",
        "–" if proof.comparison is None else format_difference(proof.comparison),
        str(proof.queries),
        f"{proof.speed:.2f}x",
    )
