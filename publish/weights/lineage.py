"""The steps from the measured weights to the published ones, each of which can be checked.

Calibration scales and shifts the head's last layer; types other than fp32 round the weights. The folder keeps
the measured layer: with it, the weights have the hash that the reports name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import UserError

if TYPE_CHECKING:
    import torch

    from ...model.reranker import Reranker


HEAD = "evaluation/uncalibrated-head.safetensors"
# Largest difference of two logits, relative to the largest logit. fp32: the order of sums differs. fp16 has
# 11 and bf16 8 significant bits, and a library computes in the type of the folder, so every layer rounds;
# the card states the measured difference.
TOLERANCES = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 4e-2}


@dataclass(frozen=True)
class Change:
    """The effect of a change of the weights on the scores of the probe pairs.

    Attributes:
        pairs: pairs scored before and after.
        largest_difference: largest difference from the expected score.
        allowed: largest difference that passes.
        swapped: couples of pairs whose order changed, ties included.
        couples: number of couples.
    """

    pairs: int
    largest_difference: float
    allowed: float
    swapped: int
    couples: int


def compare_scores(
    before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray, kind: str, *, what: str
) -> Change:
    """Compare the scores after a change with the expected ones.

    Args:
        before: (N,) expected scores.
        after: (N,) scores after the change.
        kind: type of the weights; decides the allowed difference.
        what: the change, for the message.

    Raises:
        UserError: a score differs by more than allowed.
    """
    expected, found = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    allowed = TOLERANCES[kind] * max(1.0, float(np.abs(expected).max()))
    largest = float(np.abs(found - expected).max())
    if not largest <= allowed:  # NaN is not below anything
        raise UserError(
            f"{what} changes scores by {largest:.2g}, allowed is {allowed:.2g}",
            advice="" if kind == "fp32" else "Publish with weights=fp32.",
        )
    rows, columns = np.triu_indices(len(found), 1)
    orders = [np.sign(scores[rows] - scores[columns]) for scores in (expected, found)]
    return Change(len(found), largest, allowed, int((orders[0] != orders[1]).sum()), len(rows))


def last_layer(model: Any) -> tuple[str, Any]:
    """Return name and module of the linear layer that computes the logit.

    Raises:
        UserError: the head has none or several, or one without a bias.
    """
    import torch

    base = {id(module) for module in model.base_model.modules()}
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == 1 and id(module) not in base
    ]
    if len(found) != 1 or found[0][1].bias is None:
        raise UserError(f"{type(model).__name__} does not end in one linear layer with a bias")
    return found[0]


def affine(head: Mapping[str, torch.Tensor], scale: float, shift: float) -> dict[str, torch.Tensor]:
    """Return weight and bias of the layer whose output is scale * old + shift, rounded once to float32.

    Computed in float64 in separate steps, so the bits are the same on every machine.
    """
    import torch

    return {
        name: (tensor.double() * scale + (shift if name.endswith("bias") else 0.0)).to(torch.float32)
        for name, tensor in head.items()
    }


def head_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Return a copy of the last layer by its names in the state dict."""
    name, module = last_layer(model)
    return {f"{name}.{part}": getattr(module, part).detach().cpu().clone() for part in ("weight", "bias")}


def fold(reranker: Reranker, scale: float, shift: float) -> dict[str, torch.Tensor]:
    """Scale and shift the scores in the last layer; return the old layer.

    Raises:
        UserError: as `last_layer`.
    """
    old = head_tensors(reranker.model)
    write(reranker, affine(old, scale, shift))
    return old


def round_weights(reranker: Reranker, kind: str) -> None:
    """Round every weight to the type; the model itself stays fp32.

    Raises:
        UserError: a weight is too large for the type.
    """
    state = reranker.model.state_dict()
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    rounded = {name: tensor.to(torch_type(kind)).float() for name, tensor in floats.items()}
    broken = [name for name, tensor in rounded.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise UserError(
            f"weights={kind}: {broken[0]} has values that {kind} cannot hold",
            advice="Publish with weights=fp32 or weights=bf16.",
        )
    write(reranker, rounded)


def write(reranker: Reranker, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the model by their names."""
    import torch

    state = reranker.model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
    reranker.scorer.weights_changed()


def torch_type(kind: str) -> Any:
    """Return the torch dtype of `fp32`, `fp16` or `bf16`."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[kind]


def chain_problems(folder: Path, record: Mapping[str, Any], reranker: Reranker) -> list[str]:
    """Return contradictions between the published weights and their history in `uprank.json`.

    Of rounded weights only the head can be checked; `remade_problems` checks the rest.

    Args:
        folder: the published folder.
        record: its `uprank.json`.
        reranker: the model loaded from it, in fp32.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ...model.weights import hash_weights

    state = reranker.model.state_dict()
    found = hash_weights(state)
    if found != record.get("weights"):
        return [f"the weights are {found}, uprank.json names {record.get('weights')}"]
    kind, calibration = record.get("dtype", "fp32"), record.get("calibration") or {}
    measured = record.get("measured_weights", found)
    if not calibration.get("weights_after"):
        same = kind != "fp32" or found == measured
        return [] if same else [f"nothing was changed, but the reports are about {measured}"]
    try:
        old = load_file(folder / HEAD)
        state_old = state | {name: old[name] for name in head_tensors(reranker.model)}
    except (OSError, SafetensorError, KeyError, UserError) as error:
        return [f"{HEAD}: cannot be read ({error})"]
    new = affine(old, calibration["scale"], calibration["shift"])
    problems = [
        f"{name} is not the one of {HEAD}, scaled and shifted"
        for name, tensor in new.items()
        if not state[name].equal(tensor.to(torch_type(kind)).float())
    ]
    if kind == "fp32" and (before := hash_weights(state_old)) != measured:
        problems.append(f"with the head of {HEAD} the weights are {before}, the reports are about {measured}")
    return problems


def remade_problems(record: Mapping[str, Any], reranker: Reranker) -> list[str]:
    """Calibrate and round the measured weights again; return how they differ from the published ones.

    Args:
        record: `uprank.json`.
        reranker: the measured model, in fp32; its weights are changed.
    """
    measured = record.get("measured_weights", record["weights"])
    if (found := reranker.weights_hash()) != measured:
        return [f"the weights there are {found}, the reports are about {measured}"]
    kind, calibration = record.get("dtype", "fp32"), record.get("calibration") or {}
    if calibration.get("weights_after"):
        fold(reranker, calibration["scale"], calibration["shift"])
    if kind != "fp32":
        round_weights(reranker, kind)
    if (made := reranker.weights_hash()) != record["weights"]:
        return [f"calibrated and rounded they are {made}, published are {record['weights']}"]
    return []
