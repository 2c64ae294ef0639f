"""From a path that the user gave to groups or judged queries, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..configs.errors import UserError
from . import beir, hf, jsonl, store
from .groups import Collection, Group

FORMATS = (
    "a JSONL file of groups, a BEIR folder, one .tsv file of a BEIR folder's qrels/, "
    "hf://DATASET:CONFIG:SPLIT, or mteb://TASK:SUBSET:SPLIT (to evaluate)"
)
SHOWN = 20  # problems on the terminal; `uprank check` prints all


def read_groups(
    path: str, problems: list[str], *, split: str = "train", need_negatives: bool = True
) -> Sequence[Group]:
    """Groups of a JSONL file or a BEIR folder; what is wrong is added to `problems`.

    Those of a JSONL file are in the cache (`store.GroupStore`) and not in memory.
    """
    if hf.is_named(path):
        return hf.read_groups(path, problems, split=split, need_negatives=need_negatives)
    location = Path(path)
    if not _readable(path, problems):
        return []
    if is_beir(path):
        return beir.read_groups(location, split, problems, need_negatives=need_negatives)
    return store.read_groups(location, problems, need_negatives=need_negatives)


def read_judged(path: str, problems: list[str], *, split: str) -> Collection | None:
    """Judged queries of a JSONL file or a BEIR folder; what is wrong is added to `problems`."""
    if hf.is_named(path):
        return hf.read_judged(path, problems, split=split)
    location = Path(path)
    if not _readable(path, problems):
        return None
    if is_beir(path):
        return beir.read_collection(location, split, problems)
    groups = jsonl.iterate_groups(location, problems, need_negatives=False)
    return jsonl.as_collection(location, groups)


def is_beir(path: str) -> bool:
    """Whether a path means BEIR data: a folder, or one `.tsv` file of its `qrels/`."""
    return Path(path).is_dir() or path.endswith(".tsv")


def require(problems: list[str], *, advice: str = "") -> None:
    """Raise what was found wrong, if anything; long lists are cut, with their count."""
    if not problems:
        return
    shown = problems[:SHOWN]
    if len(problems) > SHOWN:
        shown.append(f"… and {len(problems) - SHOWN} more; `uprank check` prints all")
    raise UserError(shown, advice=advice)


def _readable(path: str, problems: list[str]) -> bool:
    location = Path(path)
    if not location.exists():
        problems.append(f"{path}: no such file or folder; allowed is {FORMATS}")
        return False
    if location.is_dir() and not any(location.iterdir()):
        problems.append(f"{path}: the folder is empty; allowed is {FORMATS}")
        return False
    return True
