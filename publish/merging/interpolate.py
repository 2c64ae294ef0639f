"""Average weights, of base and tuned model and over checkpoints, one tensor at a time.

Wortsman et al. 2022, Robust fine-tuning of zero-shot models (WiSE-FT), CVPR; Xiao et al. 2024, LM-Cocktail,
Findings of ACL; Izmailov et al. 2018, Averaging weights leads to wider optima (SWA), UAI.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError
from ...model.load import load
from ...model.weights import hash_weights
from ...train.run_folder import damage
from ..evidence import Base, refuse_links

BLOCK = 2**22  # numbers mixed at a time

if TYPE_CHECKING:
    import torch

    from ...model.reranker import Reranker


@dataclass(frozen=True)
class BaseWeights:
    """The base as it was before training.

    Attributes:
        tensors: the weights by their names in the model.
        new: names of a head that the base lacked: it was drawn at random and is never mixed in.
    """

    tensors: dict[str, torch.Tensor] = field(repr=False)
    new: frozenset[str] = frozenset()


def read_base(base: Base, *, seed: int) -> BaseWeights:
    """Load the base again, with the head that the run drew for it, if any.

    Raises:
        UserError: it cannot be loaded, or its weights are not the recorded ones.
    """
    if not base.path:
        raise UserError("merge.weights: the run names no base model to merge with")
    loaded = load(base.path, revision=base.revision, seed=seed)
    tensors = loaded.model.state_dict()
    found = hash_weights(tensors)
    if base.weights and found != base.weights:
        raise UserError(
            f"{base.path}: not the base that the run started from: "
            f"{found} here, {base.weights} in manifest.json"
        )
    # `drawn`, not the names in its files: transformers renames some, such as LayerNorm.gamma of old BERTs.
    return BaseWeights(tensors, loaded.drawn)


def last_checkpoints(run: Path, count: int) -> list[Path]:
    """Return the newest checkpoints that a run kept, oldest first.

    Raises:
        UserError: the run kept fewer, or one is damaged or a link out of the run.
    """
    refuse_links(run, "checkpoints")
    kept = sorted((run / "checkpoints").glob("step-*"))
    if len(kept) < count:
        raise UserError(
            f"merge.average={count}: {run} kept {len(kept)} checkpoints; "
            f"train with train.keep_checkpoints={count} or more, or average fewer"
        )
    problems = [f"{path}: damaged ({why})" for path in kept[-count:] if (why := damage(path))]
    if problems:
        raise UserError(problems, advice="An average needs every one of its checkpoints.")
    return kept[-count:]


@contextmanager
def opened(folders: Sequence[Path]) -> Iterator[list[dict[str, Any]]]:
    """Open weight folders: for each, the name of every tensor -> the file that holds it."""
    from safetensors import safe_open

    with ExitStack() as stack:
        found = []
        for folder in folders:
            names: dict[str, Any] = {}
            for path in sorted(folder.glob("model*.safetensors")):
                file = stack.enter_context(safe_open(str(path), framework="pt"))
                names |= dict.fromkeys(file.keys(), file)
            found.append(names)
        yield found


def mix_weights(reranker: Reranker, folders: Sequence[Path], base: BaseWeights | None, share: float) -> None:
    """Set the model's weights to share * mean of the folders + (1 - share) * base.

    Computed in float64 and rounded once, so the bits are the same everywhere; with share 1 a single folder
    stays exactly as it is. A head that the base lacked stays the tuned one. Memory holds the model, the base
    and a part of a tensor.

    Args:
        reranker: its weights are replaced.
        folders: each with `model.safetensors` of the same model.
        base: weights to mix in; None for none.
        share: share of the tuned weights, 0 to 1.

    Raises:
        UserError: a tensor is missing or has another shape.
    """
    import torch

    with opened(folders) as files, torch.no_grad():
        for name, place in reranker.model.state_dict().items():
            if not place.is_floating_point():
                continue
            slices = [_slice(names, name, place, where) for names, where in zip(files, folders, strict=True)]
            other = base.tensors[name] if base is not None and name not in base.new else None
            for rows in _blocks(place):
                parts = [part[rows].double() for part in slices]
                mean = parts[0] if len(parts) == 1 else torch.stack(parts).mean(dim=0)
                if other is not None and share < 1:
                    base_rows = other[rows].double()
                    mean = share * mean + (1 - share) * base_rows if share > 0 else base_rows
                place[rows].copy_(mean)  # rounds to float32; adding 0 would turn -0 into 0: another hash
    reranker.scorer.weights_changed()


def _slice(names: dict[str, Any], name: str, place: torch.Tensor, folder: Path) -> Any:
    """Return one tensor of a file as a slice that is read in parts."""
    found = names[name].get_slice(name) if name in names else None
    if found is None or found.get_shape() != list(place.shape):
        raise UserError(f"{folder}: no tensor {name} of shape {tuple(place.shape)}")
    return found


def _blocks(tensor: torch.Tensor) -> Iterator[Any]:
    """Yield blocks of rows, few enough for float64 copies: an embedding table has 200 million numbers."""
    if not tensor.dim():
        yield ...
        return
    step = max(1, BLOCK * len(tensor) // max(tensor.numel(), 1))
    for start in range(0, len(tensor), step):
        yield slice(start, start + step)
