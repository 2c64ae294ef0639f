"""Checkpoints that a kill at any instant cannot spoil: written beside, hashed, then renamed."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ...data.store import hash_file, write_file, write_folder, writing
from ..optim import LossScale, full, optimizer_state, restore_optimizer, restore_weights

log = logging.getLogger(__name__)
FILES = ("model.safetensors", "optimizer.safetensors", "progress.json")


@dataclass
class Progress:
    """The state of a run beside weights and optimizer.

    Sampling and dropout are functions of (seed, position), so no generator is stored.

    Attributes:
        step: optimizer steps done.
        best_step: step of the best dev measure so far; 0 before the first evaluation.
        best_value: that measure.
        waited: evaluations since then.
        evaluated: step of the last evaluation: a run may stop between a step and its evaluation.
        seconds: training time so far.
        scale: loss scale, in fp16.
    """

    step: int = 0
    best_step: int = 0
    best_value: float = float("-inf")
    waited: int = 0
    evaluated: int = 0
    seconds: float = 0.0
    scale: LossScale | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scale, dict):  # from JSON
            self.scale = LossScale(**self.scale)


BEST = "best.json"
States = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]


def gather_states(model: Any, optimizer: torch.optim.Optimizer, *, keep: bool = True) -> States:
    """Return weights and optimizer state for a checkpoint, on the CPU.

    Collective under FSDP; ranks without `keep` get nothing.
    """
    weights, places = {}, set[int]()
    for name, tensor in model.state_dict().items():
        tensor = full(tensor.detach())
        if keep:
            tied = tensor.data_ptr() in places  # the file holds each name for itself
            places.add(tensor.data_ptr())
            weights[name] = tensor.cpu().clone() if tied else tensor.cpu().contiguous()
    return weights, optimizer_state(model, optimizer, keep=keep)


def save_checkpoint(
    folder: Path,
    model: Any,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    *,
    keep: int,
    states: States | None = None,
) -> None:
    """Write `step-NNNNNN`, from `states` if given; delete all but the `keep` newest."""

    def write(beside: Path) -> None:
        weights, moments = states or gather_states(model, optimizer)
        save_file(weights, beside / "model.safetensors")
        save_file(moments, beside / "optimizer.safetensors")
        (beside / "progress.json").write_text(json.dumps(asdict(progress)))
        (beside / "hashes.json").write_text(json.dumps({name: _hash(beside / name) for name in FILES}))

    write_folder(folder / f"step-{progress.step:06d}", write)
    checkpoints = _checkpoints(folder)
    # Checkpoints after this step come from an earlier start, and are damaged: training went on from before.
    valid = [old for old in checkpoints if step_of(old) <= progress.step]
    with writing(folder):
        for old in [*checkpoints[len(valid) :], *valid[: -max(1, keep)]]:
            shutil.rmtree(old)


def newest_checkpoint(folder: Path) -> int:
    """Return the step of the newest undamaged checkpoint, 0 if there is none; warn about damaged ones."""
    for candidate in reversed(_checkpoints(folder)):
        problem = damage(candidate)
        if not problem:
            return step_of(candidate)
        log.warning("%s is damaged (%s): passed over", candidate, problem)
    return 0


def load_checkpoint(folder: Path, step: int, model: Any, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore the checkpoint of a step; step 0 changes nothing."""
    if not step:
        return Progress()
    checkpoint = folder / f"step-{step:06d}"
    restore_weights(model, load_file(checkpoint / "model.safetensors"))
    restore_optimizer(model, optimizer, load_file(checkpoint / "optimizer.safetensors"))
    return Progress(**json.loads((checkpoint / "progress.json").read_text()))


def _checkpoints(folder: Path) -> list[Path]:
    """Return all checkpoints, also damaged ones, oldest first."""
    numbered = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(numbered, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was made."""
    return int(checkpoint.name.removeprefix("step-"))


def note_best(run: Path, step: int) -> None:
    """Write step and hashes of the best model's files, by which a continued run knows them again."""
    hashes = {file.name: _hash(file) for file in sorted((run / "best").iterdir()) if file.is_file()}
    write_file(run / BEST, json.dumps({"step": step, "files": hashes}))


def changed_best(run: Path, best: int, reached: int) -> list[str]:
    """Return the files of the best model that are gone, have changed, or are not of step `best`.

    A model of a step after `reached` is no fault: the checkpoint of that step was damaged, and the continued
    run comes to it again. Runs of older versions noted none.
    """
    noted = run / BEST
    try:
        about = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else None
        if about is None:
            return []
        if about["step"] > reached:
            return []
        if about["step"] != best:
            return [str(run / "best")]
        files = {run / "best" / name: found for name, found in about["files"].items()}
        return [str(file) for file, found in files.items() if not file.is_file() or _hash(file) != found]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return [str(noted)]


def damage(checkpoint: Path) -> str:
    """Return the first defect of a checkpoint, or an empty string."""
    try:
        hashes = json.loads((checkpoint / "hashes.json").read_text())
        for name in FILES:
            if _hash(checkpoint / name) != hashes[name]:
                return f"{name} has changed"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error)
    return ""


def _hash(path: Path) -> str:
    return hash_file(path, hashlib.sha256())
