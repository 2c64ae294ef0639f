"""The published folder: written beside its place and renamed, so that it is never half there."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ...configs.errors import UserError
from ...data.store import hash_file
from ..evidence import Evidence
from ..weights import HEAD, torch_type
from .json_files import editing, write_json
from .paths import Paths
from .tokenizer import finish_tokenizer

if TYPE_CHECKING:
    import torch

    from ...model.reranker import Reranker

# CrossEncoder.predict applies this to the logit. Its default for one logit is the sigmoid, which rounds all
# high scores to the same float32; the identity keeps the order of close passages and returns the same scores
# as transformers and FlagEmbedding.
ACTIVATION = "torch.nn.modules.linear.Identity"
ACTIVATION_SINCE = "4.0.0"  # the first sentence-transformers that reads the key in this place
EVALUATION = "evaluation"
MAKING, LOCK = ".making-", ".lock"


@contextmanager
def building(output: Path) -> Iterator[Path]:
    """Yield a new folder beside `output`; it takes that name if the block ends without an error.

    What a killed command left there is removed first.

    Raises:
        UserError: `output` exists and is not an empty folder, or cannot be made.
    """
    place = output.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(place)
        making = Path(mkdtemp(prefix=f".{place.name}{MAKING}", dir=place.parent))
        making.chmod(0o777 & ~_umask())  # mkdtemp lets only the owner in
        held = _lock(making)
        held.acquire()
    except OSError as error:
        raise UserError(f"output={output}: cannot be made ({error.strerror})") from error
    try:
        yield making
        # Replaces an empty folder and fails on any other, even one made in the meantime.
        making.rename(place)
    except OSError as error:
        if error.filename != str(making):
            raise
        raise UserError(
            f"output={output}: exists already and is never overwritten; give another folder"
        ) from error
    except Exception as error:
        # safetensors and tokenizers have errors of their own for a full disk.
        if not (isinstance(error, SafetensorError) or type(error) is Exception):
            raise
        raise UserError(f"output={output}: cannot be written ({error})", advice="Make room there.") from error
    finally:
        _remove(making, held)


def _remove_left(place: Path) -> None:
    """Remove what killed commands left beside the place: folders whose lock no process holds."""
    for left in place.parent.glob(f".{glob.escape(place.name)}{MAKING}*"):
        if left.suffix != LOCK:
            held = _lock(left)
            with suppress(Timeout):  # another command is making it
                held.acquire()
                _remove(left, held)


def _lock(making: Path) -> FileLock:
    """Return a lock that the system releases when its process ends, however it ends."""
    return FileLock(making.with_name(making.name + LOCK), timeout=0)


def _remove(making: Path, held: FileLock) -> None:
    shutil.rmtree(making, ignore_errors=True)
    Path(held.lock_file).unlink(missing_ok=True)
    held.release()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_model(reranker: Reranker, folder: Path, kind: str = "fp32") -> None:
    """Write weights, configuration and tokenizer so that other libraries score and cut as Uprank does.

    Args:
        reranker: model in fp32, with weights that `kind` can hold; unchanged afterwards.
        folder: folder to write to.
        kind: type of the written weights: `fp32`, `fp16` or `bf16`.
    """
    _save(reranker, folder, kind)
    for path in folder.iterdir():  # safetensors lets only the owner read; everybody may
        path.chmod(path.stat().st_mode | (folder.stat().st_mode & 0o444))
    with editing(folder / "config.json") as config:
        config["sentence_transformers"] = {"activation_fn": ACTIVATION, "version": ACTIVATION_SINCE}
        config.pop("_name_or_path", None)  # a path on the training machine
    finish_tokenizer(folder, reranker.tokenizer, reranker.pairs.max_tokens)
    # Text Embeddings Inference reads its longest input here, else from the positions; not from the tokenizer.
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": reranker.pairs.max_tokens})


def _save(reranker: Reranker, folder: Path, kind: str) -> None:
    if kind == "fp32":
        reranker.save(folder)
        return
    buffers = {name: buffer.clone() for name, buffer in reranker.model.named_buffers()}
    reranker.model.to(torch_type(kind))
    reranker.save(folder)
    reranker.model.float()  # restores every weight, but not the buffers that are not saved
    for name, buffer in reranker.model.named_buffers():
        buffer.copy_(buffers[name])
    reranker.scorer.weights_changed()


def write_head(head: dict[str, torch.Tensor] | None, folder: Path) -> None:
    """Write the last layer as it was measured, if calibration changed it."""
    if head is not None:
        from safetensors.torch import save_file

        save_file(head, folder / HEAD, {"format": "pt"})
        (folder / HEAD).chmod((folder / EVALUATION / "report.json").stat().st_mode)


def copy_evidence(
    evidence: Sequence[Evidence], page: Path | None, folder: Path, paths: Paths, *, pages: bool
) -> dict[str, Evidence]:
    """Copy the reports without `paths`, the first into `evaluation/`; return each one's place in the folder.

    Without `pages`, `report.html` stays behind: it shows queries and passages.
    """
    places: dict[str, Evidence] = {}
    for number, entry in enumerate(evidence):
        name = f"{EVALUATION}/{number}-{entry.name}-{entry.split}" if number else EVALUATION
        (folder / name).mkdir(parents=True)
        report = json.loads((entry.folder / "report.json").read_text(encoding="utf-8"))
        write_json(folder / name / "report.json", paths.without(report))
        if (values := entry.folder / "per_query.jsonl").is_file():
            shutil.copyfile(values, folder / name / "per_query.jsonl")
        if pages and (shown := entry.folder / "report.html").is_file():
            _copy_text(shown, folder / name / "report.html", paths)
        places[name] = entry
    if page is not None and pages:
        _copy_text(page, folder / EVALUATION / "report.html", paths)
    return places


def _copy_text(source: Path, target: Path, paths: Paths) -> None:
    target.write_text(paths.without(source.read_text(encoding="utf-8")), encoding="utf-8")


def files_of(folder: Path) -> list[str]:
    """Return every file's path in the folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def file_hashes(folder: Path) -> dict[str, str]:
    """Return `sha256:…` of every file but `uprank.json`, which holds them, by path in the folder."""
    hashes = {}
    for name in files_of(folder):
        if name != "uprank.json":
            hashes[name] = "sha256:" + hash_file(folder / name, hashlib.sha256())
    return hashes
