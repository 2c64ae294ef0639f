"""Rows of `uprank score`, read and written: pairs, queries with documents, groups to distil from.

Scores go to stdout, or to a file that appears once it is complete and is resumed after a kill.
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
    """Return whether a row has one of the `FORMS`; `documents` decides, then `passage`."""
    if not isinstance(row.get("query"), str):
        return False
    if any(not isinstance(row.get(key), str | None) for key in PROMPTS):
        return False
    lists = [row["pos"], row.get("neg") or []] if is_group(row) else [_texts(row)]
    return all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists)


def is_group(row: dict[str, Any]) -> bool:
    """Return whether a row is a group: positives, and negatives if there are any."""
    return row.get("documents") is None and row.get("passage") is None and row.get("pos") is not None


def read_pairs(row: dict[str, Any], prompts: Prompts) -> list[Pair]:
    """Return the pairs of a right row as the model reads them; prompts of the row override the model's."""
    query, passage = (row.get(key) for key in PROMPTS)
    prompts = Prompts(query or prompts.query, passage or prompts.passage)
    return prompts.pairs((row["query"], text) for text in _texts(row))


def scored(row: dict[str, Any], scores: Iterator[float], top_k: int | None) -> str:
    """Return the row as a line of JSON, with the scores of its texts taken from `scores`."""
    if is_group(row):
        for key in ("pos", "neg"):  # seven digits, about as many as a float32 has
            row = {**row, f"{key}_scores": [float(f"{next(scores):.7g}") for _ in row.get(key) or []]}
    elif row.get("documents") is None:
        row = {**row, "score": next(scores)}
    else:
        values = [next(scores) for _ in row["documents"]]
        order = sorted(range(len(values)), key=lambda index: (-values[index], index))[:top_k]
        row = {**row, "ranking": [{"index": index, "score": values[index]} for index in order]}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _texts(row: dict[str, Any]) -> Any:
    if is_group(row):
        return [*row["pos"], *(row.get("neg") or [])]
    return [row.get("passage")] if row.get("documents") is None else row["documents"]


def output_file_problems(output: str | None, source: str) -> list[str]:
    """Return the reasons why this file cannot be written, before the model is loaded."""
    if output is None:
        return []
    path = Path(output)
    if path.exists():
        return [f"output={output}: exists; nothing was overwritten"]
    if source == "-":
        return [f"output={output}: with input=- scores go to stdout; give a file as input"]
    return output_problems(path)


class Output:
    """Writes lines in blocks, in order.

    A file is written beside its place, under a name made of everything that decides its lines; the same
    command finds the complete blocks there and resumes after them.

    Args:
        path: the file; stdout if None.
        identity: everything that decides the lines, as JSON values.
        block: lines of a complete block.
    """

    def __init__(self, path: str | None, identity: Mapping[str, object], block: int) -> None:
        self.path = Path(path) if path else None
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        self._part = self.path.with_name(f".{self.path.name}.{name}.part") if self.path else None
        self._block = block

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[int, Callable[[list[str]], None]]]:
        """Yield the number of lines already written, and a function that writes another block.

        Raises:
            UserError: another process writes the file, or it cannot be written.
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


def _to_stdout(lines: list[str]) -> None:
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


def _cut(part: Path, block: int) -> int:
    """Truncate a killed process's file to its complete blocks; return how many lines they have."""
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
