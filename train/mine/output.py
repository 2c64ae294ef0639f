"""Rows of a mining run while it is under way: kept as they are made, so that a killed run continues.

The lines that `uprank mine` writes: a row for each query, and what is said at the end.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...configs.schema_data import MineCommand
from .negatives import REASONS, Chosen, Wanted


class Parts:
    """A folder beside the output with one file a process; its name says which settings and data it is of.

    Args:
        output: the file that the rows will make.
        fingerprint: hash of everything that decides the rows.
        index: number of this process.
        count: number of processes.
    """

    def __init__(self, output: Path, fingerprint: str, *, index: int, count: int) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.{fingerprint[:12]}.parts")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.folder / f"{index}-of-{count}.jsonl"

    def done(self) -> set[int]:
        """Numbers of the queries that were finished earlier, by any process."""
        return {entry["number"] for entry in self._entries()}

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The stream that `write` takes, locked against a second start of the same command.

        Raises:
            UserError: another process is at it.
        """
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._file.with_suffix(".lock"), timeout=0):
                _cut_torn_line(self._file)
                with self._file.open("a", encoding="utf-8") as stream:
                    yield stream
        except Timeout:
            raise UserError(f"output={self.output}: another process is mining it") from None

    @staticmethod
    def write(stream: Any, entry: dict[str, Any]) -> None:
        """Keep one finished query: `number`, `line` of the output or null, and its counts."""
        stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
        stream.flush()

    def merge(self) -> list[dict[str, Any]]:
        """Write the output in the order of the queries, drop the folder, and give the entries' counts.

        Raises:
            UserError: no query has a negative, or the output came to be in the meantime.
        """
        entries = sorted(self._entries(), key=lambda entry: int(entry["number"]))
        lines = [entry.pop("line") for entry in entries]
        if self.output.exists():
            raise UserError(f"output={self.output}: exists; nothing was overwritten")
        if any(lines):
            beside = self.folder / "merged"
            beside.write_text("".join(line for line in lines if line), encoding="utf-8", newline="\n")
            beside.replace(self.output)
        shutil.rmtree(self.folder)
        return entries

    def _entries(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self.folder.glob("*.jsonl")):
            with file.open("rb") as stream:
                for line in stream:
                    if line.endswith(b"\n"):
                        yield json.loads(line)


def _cut_torn_line(file: Path) -> None:
    """Drop what a killed process left of its last line, or the next one would be written behind it."""
    if file.is_file():
        data = file.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with file.open("rb+") as stream:
                stream.truncate(whole)


def mining_summary(output: Path, settings: MineCommand, entries: list[dict[str, Any]], without: int) -> str:
    """What was written, what is short, and what each filter removed."""
    counts = [entry["negatives"] for entry in entries if entry["negatives"]]
    if not counts:
        return ""
    left = without + len(entries) - len(counts)
    note = f"; {left} queries left out (no relevant passage, or no negative)" if left else ""
    total = sum(counts)
    lines = [f"{output}: {len(counts)} queries, {total} negatives ({total / len(counts):.1f} a query){note}"]
    short = sum(count < settings.negatives for count in counts)
    if short:
        rows = "1 row has" if short == 1 else f"{short} rows have"
        lines.append(f"{rows} fewer than negatives={settings.negatives}: all that was left")
    removed: Counter[str] = Counter()
    for entry in entries:
        removed.update(entry["removed"])
    told = [f"{removed[name]} {words}" for name, words in REASONS.items() if removed[name]]
    lines.append(f"removed: {', '.join(told) or 'nothing'}")
    return "\n".join(lines) + "\n"


def row_line(settings: MineCommand, query: str, wanted: Wanted, chosen: Chosen) -> str:
    """The row of a query: FlagEmbedding's keys, its id, and where each negative came from."""
    row: dict[str, Any] = {
        "query": wanted.query,
        "pos": list(wanted.positives.values()),
        "neg": [negative.text for negative in chosen.negatives],
        "query_id": query,
        "neg_sources": [
            {"id": n.doc, "retriever": settings.retriever, "rank": n.rank, "score": _short(n.score)}
            | ({} if n.teacher is None else {"teacher_score": _short(n.teacher)})
            for n in chosen.negatives
        ],
    }
    if settings.teacher.scores:
        row["pos_scores"] = [_short(score) for score in chosen.positive_scores]
        row["neg_scores"] = [_short(n.teacher or 0.0) for n in chosen.negatives]
    return json.dumps(row, ensure_ascii=False) + "\n"


def _short(score: float) -> float:
    """Seven digits, about as many as a float32 has."""
    return float(f"{score:.7g}")
