"""Tables of trainers.py: means over seeds, and differences paired by query."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from common import table
from uprank.eval.measures.ranking import Floats
from uprank.eval.statistics.compare import compare_systems, estimate

Values = dict[str, dict[str, dict[str, float]]]  # query, measure, system
MEASURES = ("nDCG@10", "MRR@10")


def read_values(file: Path) -> Values:
    """Read per_query.jsonl of `uprank eval`."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row.pop("query_id"): row for row in rows}


def mean_of(values: Values, measure: str, system: str) -> float:
    return mean(row[measure][system] for row in values.values())


def over_seeds(values: Values, measure: str, tool: str, seeds: list[int]) -> Floats:
    """Return (Q,) each query's measure, averaged over the seeds of a tool."""
    return np.array(
        [mean(row[measure][f"{tool}_{seed}"] for seed in seeds) for row in values.values()], dtype=np.float64
    )


def sections(results: dict[str, Any], tools: list[str], seeds: list[int]) -> tuple[dict[str, str], Any]:
    """Return Markdown tables by title, and the results with the figures of the tables."""
    texts: dict[str, str] = {}
    results["tables"] = {}
    for name, splits in results["values"].items():
        rows, figures = [], {}
        for split, values in splits.items():
            for tool in tools:
                rows.append(_row(values, split, tool, seeds, results["seconds"][name]))
            for system in ("start", "bm25"):
                means = [f"{mean_of(values, m, system):.4f}" for m in MEASURES]
                rows.append([split, system, means[0], "", means[1], ""])
            figures[split] = [
                difference(values, measure, tools[0], tool, seeds)
                for tool in tools[1:]
                for measure in MEASURES
            ]
        header = ["queries", "trained by", "nDCG@10", "each seed", "MRR@10", "training seconds"]
        texts[f"{name}, mean over {len(seeds)} seeds"] = table(header, rows)
        counts = {split: len(values) for split, values in splits.items()}
        texts[f"{name}, {tools[0]} minus the other"] = _differences(figures, counts)
        results["tables"][name] = figures
    return texts, results


def _row(values: Values, split: str, tool: str, seeds: list[int], seconds: dict[str, float]) -> list[object]:
    first = estimate(over_seeds(values, MEASURES[0], tool, seeds), 0)
    second = estimate(over_seeds(values, MEASURES[1], tool, seeds), 0)
    each = ", ".join(f"{mean_of(values, MEASURES[0], f'{tool}_{seed}'):.4f}" for seed in seeds)
    took = ", ".join(f"{seconds[f'{tool}_{seed}']:.0f}" for seed in seeds)
    shown = [f"{one.mean:.4f} [{one.low:.3f}, {one.high:.3f}]" for one in (first, second)]
    return [split, tool, shown[0], each, shown[1], took]


def difference(values: Values, measure: str, ours: str, other: str, seeds: list[int]) -> dict[str, Any]:
    """Compare two tools: average each query over the seeds, then interval and p over queries."""
    one, two = (over_seeds(values, measure, tool, seeds) for tool in (ours, other))
    return vars(compare_systems(one, two, system=ours, baseline=other, measure=measure, seed=0))


def _differences(figures: dict[str, list[dict[str, Any]]], queries: dict[str, int]) -> str:
    rows = [
        [
            f"{split} ({queries[split]})",
            one["baseline"],
            one["measure"],
            f"{one['difference']:+.4f} [{one['low']:+.3f}, {one['high']:+.3f}]",
            f"{one['p']:.4f}",
            f"{one['wins']} / {one['ties']} / {one['losses']}",
        ]
        for split, found in figures.items()
        for one in found
    ]
    return table(["queries", "other", "measure", "difference", "p", "better / equal / worse"], rows)
