"""The gate for continuous integration: which systems fall short of their baseline."""

from __future__ import annotations

from ..configs.schema import GateSettings
from .compare import regression
from .measure import Measure
from .report import Report


def gate_findings(report: Report, name: str, measure: Measure, settings: GateSettings) -> list[str]:
    """One line with its figures for every system that falls short; none where the gate is passed.

    Args:
        report: of one collection; a first stage that the models rerank is not judged.
        name: of the collection.
        measure: the one that decides.
        settings: least difference and level.
    """
    rows = report.per_query[str(measure)]
    base = list(rows[report.baseline].values())
    found = []
    for system in report.systems:
        if system.name == report.baseline or system.kind == "first_stage":
            continue
        values = list(rows[system.name].values())
        result = regression(
            values, base, min_delta=settings.min_delta, alpha=settings.alpha, seed=report.seed
        )
        if result.failed:
            means = " against ".join(f"{sum(row) / len(row):.4f}" for row in (values, base))
            found.append(
                f"  {name}: {system.name} {means} of {report.baseline}, difference {result.difference:+.4f}, "
                f"at least {settings.min_delta:+.4f} is asked for (p = {result.p:.4f}, {len(base)} queries)"
            )
    return found
