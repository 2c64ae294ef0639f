"""The lines that `uprank mine` writes: a row for each query, and what is said at the end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..configs.schema_data import MineCommand
from .negatives import REASONS, Chosen, Wanted


def summary(output: Path, settings: MineCommand, entries: list[dict[str, Any]], without: int) -> str:
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
