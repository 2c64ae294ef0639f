"""Checkpoints that a kill at any instant cannot spoil: written beside, hashed, then renamed."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..configs.errors import UserError
from .optimizer import optimizer_state, restore_optimizer

log = logging.getLogger(__name__)
FILES = ("model.safetensors", "optimizer.safetensors", "progress.json")


@dataclass
class Progress:
    """Where a run stands; with weights and optimiser it is all that resuming needs.

    Sampling and dropout are functions of (seed, position), so no generator is stored.

    Attributes:
        step: optimiser steps done.
        best_step: step of the best dev measure so far; 0 before the first evaluation.
        best_value: that measure.
        waited: evaluations since then.
        evaluated: step of the last evaluation: a run may be stopped between a step and its evaluation.
        seconds: time spent training so far.
    """

    step: int = 0
    best_step: int = 0
    best_value: float = float("-inf")
    waited: int = 0
    evaluated: int = 0
    seconds: float = 0.0


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside the target, then put it in the target's place.

    Raises:
        UserError: it cannot be written (disk full, no permission); the target is as it was.
    """
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        write(beside)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise UserError(
            f"{target}: cannot be written ({error})",
            advice="Make room on the disk; the same command continues after the last complete checkpoint.",
        ) from error
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    beside.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Give folders their names again that a kill caught between the two renames of `write_folder`."""
    for old in folder.glob(".*.old"):
        target = folder / old.name[1 : -len(".old")]
        if not target.exists():
            old.replace(target)


def save_checkpoint(
    folder: Path, model: Any, optimizer: torch.optim.Optimizer, progress: Progress, *, keep: int
) -> None:
    """Write `step-NNNNNN` and remove all but the `keep` newest."""

    def write(beside: Path) -> None:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, beside / "model.safetensors")
        save_file(optimizer_state(model, optimizer), beside / "optimizer.safetensors")
        (beside / "progress.json").write_text(json.dumps(asdict(progress)))
        (beside / "hashes.json").write_text(json.dumps({name: _hash(beside / name) for name in FILES}))

    write_folder(folder / f"step-{progress.step:06d}", write)
    for old in sorted(folder.glob("step-*"))[: -max(1, keep)]:
        shutil.rmtree(old)


def load_newest(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> Progress | None:
    """Restore the newest complete checkpoint; damaged ones are named and passed over."""
    put_back(folder)
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        problem = damage(candidate)
        if problem:
            log.warning("%s is damaged (%s): passed over", candidate, problem)
            continue
        model.load_state_dict(load_file(candidate / "model.safetensors"))
        restore_optimizer(model, optimizer, load_file(candidate / "optimizer.safetensors"))
        return Progress(**json.loads((candidate / "progress.json").read_text()))
    return None


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, or an empty string."""
    try:
        hashes = json.loads((checkpoint / "hashes.json").read_text())
        for name in FILES:
            if _hash(checkpoint / name) != hashes[name]:
                return f"{name} has changed"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error)
    return ""


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**22):
            digest.update(block)
    return digest.hexdigest()
