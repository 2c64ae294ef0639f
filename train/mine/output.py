"""The rows of a mining run: kept as they are made, so that a killed run continues, and merged at the end."""

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
from ...data.store import AppendLog, whole_lines, write_file
from .negatives import REASONS, Chosen, Wanted


class Parts:
    """A folder beside the output with one file a rank; its name holds the hash of settings and data.

    Args:
        output: the file that the rows will make.
        fingerprint: hash of everything that decides the rows.
        index: this rank.
        count: number of ranks.
    """

    def __init__(self, output: Path, fingerprint: str, *, index: int, count: int) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.{fingerprint[:12]}.parts")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.folder / f"{index}-of-{count}.jsonl"

    def done(self) -> set[int]:
        """Return the numbers of the queries that any rank finished earlier."""
        return {entry["number"] for entry in self._entries()}

    @contextmanager
    def open(self) -> Iterator[AppendLog]:
        """Open the log that `write` takes, locked against a second start of the same command.

        Raises:
            UserError: another process holds the lock, or the file cannot be written.
        """
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._file.with_suffix(".lock"), timeout=0):
                log = AppendLog(self._file)
                try:
                    yield log
                finally:
                    log.close()
        except Timeout:
            raise UserError(f"output={self.output}: another process is mining it") from None

    @staticmethod
    def write(log: AppendLog, entry: dict[str, Any]) -> None:
        """Keep one finished query: `number`, `line` of the output or null, and its counts."""
        log.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def merge(self) -> list[dict[str, Any]]:
        """Write the output in the order of the queries, delete the folder, and return the entries' counts.

        Raises:
            UserError: the output was created in the meantime, or cannot be written.
        """
        entries = sorted(self._entries(), key=lambda entry: int(entry["number"]))
        lines = [entry.pop("line") for entry in entries]
        if self.output.exists():
            raise UserError(f"output={self.output}: exists; nothing was overwritten")
        if any(lines):
            write_file(self.output, "".join(line for line in lines if line))
        shutil.rmtree(self.folder)
        return entries

    def _entries(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self.folder.glob("*.jsonl")):
            yield from map(json.loads, whole_lines(file))


def mining_summary(output: Path, settings: MineCommand, entries: list[dict[str, Any]], without: int) -> str:
    """Say what was written, which rows are short, and what each filter removed."""
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
        lines.append(f"{rows} fewer than negatives={settings.negatives}: no more were left")
    removed: Counter[str] = Counter()
    for entry in entries:
        removed.update(entry["removed"])
    reasons = [f"{removed[name]} {words}" for name, words in REASONS.items() if removed[name]]
    lines.append(f"removed: {', '.join(reasons) or 'nothing'}")
    return "\n".join(lines) + "\n"


def row_line(settings: MineCommand, query: str, wanted: Wanted, chosen: Chosen) -> str:
    """Return a query's row: FlagEmbedding's keys, the query's id, and the source of each negative."""
    row: dict[str, Any] = {
        "query": wanted.query,
        "pos": list(wanted.positives.values()),
        "neg": [negative.text for negative in chosen.negatives],
        "query_id": query,
        "neg_sources": [
            {
                "id": n.doc,
                "retriever": Path(settings.retriever).stem,
                "rank": n.rank,
                "score": _short(n.score),
            }
            | ({} if n.teacher is None else {"teacher_score": _short(n.teacher)})
            for n in chosen.negatives
        ],
    }
    if settings.teacher.scores:
        row["pos_scores"] = [_short(score) for score in chosen.positive_scores]
        row["neg_scores"] = [_short(n.teacher or 0.0) for n in chosen.negatives]
    return json.dumps(row, ensure_ascii=False) + "\n"


def _short(score: float) -> float:
    """Round to seven digits, about as many as a float32 has."""
    return float(f"{score:.7g}")
