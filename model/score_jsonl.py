"""The rows that `uprank score` takes and gives: pairs, queries with documents, groups to distil from.

Where `uprank score` writes: stdout, or a file that is there once it is whole, continued after a kill.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..configs.errors import UserError
from ..configs.validate import output_problems
from ..data.prompts import Pair, Prompts

FORMS = (
    '{"query": …, "passage": …} or {"query": …, "documents": [… , …]} or a group '
    '{"query": …, "pos": [… , …], "neg": [… , …]}, with texts as strings'
)
PROMPTS = ("query_prompt", "passage_prompt")


def is_right(row: dict[str, Any]) -> bool:
    """Whether a row has one of the `FORMS`; `documents` decides, then `passage`."""
    if not isinstance(row.get("query"), str):
        return False
    if any(not isinstance(row.get(key), str | None) for key in PROMPTS):
        return False
    if row.get("documents") is not None:
        return _are_texts(row["documents"])
    if is_group(row):
        return _are_texts(row["pos"]) and _are_texts(row.get("neg") or [])
    return isinstance(row.get("passage"), str)


def is_group(row: dict[str, Any]) -> bool:
    """Whether a row is a group: positives, and negatives if there are any."""
    return row.get("documents") is None and row.get("passage") is None and row.get("pos") is not None


def read_pairs(row: dict[str, Any], prompts: Prompts) -> list[Pair]:
    """The pairs of a right row as the model reads them; prompts of the row are stronger than the model's."""
    own = Prompts(
        *(
            row.get(key) or default
            for key, default in zip(PROMPTS, (prompts.query, prompts.passage), strict=True)
        )
    )
    return own.pairs((row["query"], text) for text in _texts(row))


def scored(row: dict[str, Any], scores: Iterator[float], top_k: int | None) -> str:
    """The row with the scores of its texts, which are taken from `scores`, as a line of JSON."""
    if is_group(row):
        values = {key: [_short(next(scores)) for _ in row.get(key) or []] for key in ("pos", "neg")}
        row = {**row, "pos_scores": values["pos"], "neg_scores": values["neg"]}
    elif row.get("documents") is None:
        row = {**row, "score": next(scores)}
    else:
        found = [next(scores) for _ in row["documents"]]
        order = sorted(range(len(found)), key=lambda index: (-found[index], index))[:top_k]
        row = {**row, "ranking": [{"index": index, "score": found[index]} for index in order]}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _texts(row: dict[str, Any]) -> list[str]:
    if is_group(row):
        return [*row["pos"], *(row.get("neg") or [])]
    documents: list[str] | None = row.get("documents")
    return [row["passage"]] if documents is None else documents


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _short(score: float) -> float:
    """Seven digits, about as many as a float32 has."""
    return float(f"{score:.7g}")


def output_file_problems(output: str | None, source: str) -> list[str]:
    """What speaks against writing this file, found before the model is loaded."""
    if output is None:
        return []
    path = Path(output)
    if path.exists():
        return [f"output={output}: exists; nothing was overwritten"]
    if source == "-":
        return [f"output={output}: with input=- scores go to stdout; give a file as input"]
    return output_problems(path)


class Output:
    """Receives lines in blocks, in order.

    A file is written beside its place, under a name made of everything that decides its lines; a later start
    of the same command finds the whole blocks there and goes on behind them.

    Args:
        path: the file; stdout when None.
        identity: everything that decides the lines, JSON values.
        block: lines of a whole block.
    """

    def __init__(self, path: str | None, identity: Mapping[str, object], block: int) -> None:
        self.path = Path(path) if path else None
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        self._part = self.path.with_name(f".{self.path.name}.{name}.part") if self.path else None
        self._block = block

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[int, Callable[[list[str]], None]]]:
        """How many lines are there already, and what takes a block of further ones.

        Raises:
            UserError: another process is at it, or the file cannot be written.
        """
        if self.path is None or self._part is None:
            yield 0, _to_stdout
            return
        from filelock import FileLock, Timeout

        lock = FileLock(self._part.with_suffix(".lock"))
        try:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"output={self.path}: another process is writing it") from None
        except OSError as error:
            raise UserError(f"output={self.path}: cannot be written ({error.strerror or error})") from error
        try:
            done = _cut(self._part, self._block)
            with self._part.open("ab") as stream:

                def write(lines: list[str]) -> None:
                    stream.write("".join(lines).encode("utf-8"))
                    stream.flush()

                yield done, write
            if self.path.exists():
                raise UserError(f"output={self.path}: exists; nothing was overwritten")
            self._part.replace(self.path)
        except OSError as error:
            raise UserError(f"output={self.path}: cannot be written ({error.strerror or error})") from error
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _to_stdout(lines: list[str]) -> None:
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


def _cut(part: Path, block: int) -> int:
    """Leave the whole blocks of a file that a killed process left; how many lines they are."""
    if not part.is_file():
        return 0
    whole = kept = lines = size = 0
    with part.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            lines, size = lines + 1, size + len(line)
            if lines % block == 0:
                whole, kept = lines, size
    with part.open("rb+") as stream:
        stream.truncate(kept)
    return whole
