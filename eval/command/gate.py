"""Gate for continuous integration: find systems that fall short of their baseline."""

from __future__ import annotations

import numpy as np

from ...configs.schema_eval import GateSettings
from ..measures import Measure
from ..results import Report
from ..statistics import PERMUTATIONS, SAME, paired_differences, regression


def gate_findings(report: Report, name: str, measure: Measure, settings: GateSettings) -> list[str]:
    """Return a line with figures for every system that falls short; no line if the gate is passed.

    A system that falls short on so few differing queries that no test could reach the level fails too:
    silence would pass every regression.

    Args:
        report: report of one collection; a first stage that the models rerank is not judged.
        name: name of the collection.
        measure: measure that decides.
        settings: least difference and level.
    """
    rows = report.per_query[str(measure)]
    base = list(rows[report.baseline].values())
    lines = []
    for system in report.systems:
        if system.name == report.baseline or system.kind == "first_stage":
            continue
        values = list(rows[system.name].values())
        result = regression(
            values, base, min_delta=settings.min_delta, alpha=settings.alpha, seed=report.seed
        )
        shifted = paired_differences(values, base) - settings.min_delta
        differ = int((np.abs(shifted) >= SAME).sum())
        # The least p that the two-sided randomisation test can reach when so many queries differ.
        least = max(2.0 ** (1 - differ), 1 / (1 + PERMUTATIONS))
        undecided = result.difference < settings.min_delta - SAME and least >= settings.alpha
        if result.failed or undecided:
            means = " against ".join(f"{sum(row) / len(row):.4f}" for row in (values, base))
            lines.append(
                f"  {name}: {system.name} {means} of {report.baseline}, difference {result.difference:+.4f}, "
                f"at least {settings.min_delta:+.4f} is asked for (p = {result.p:.4f}, {len(base)} queries)"
                + (f"; {_cannot_decide(differ, settings.alpha)}" if undecided and not result.failed else "")
            )
    return lines


def _cannot_decide(differ: int, alpha: float) -> str:
    return (
        f"the gate cannot decide at gate.alpha={alpha:g} with {differ} differing "
        f"{'query' if differ == 1 else 'queries'}, for no p can be below it: counted as failed; "
        "give more queries, or gate.alpha=1 to count every shortfall"
    )
