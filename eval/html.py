"""The report as one HTML file that needs nothing else: no network, no fonts, no foreign scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import plots
from .compare import outcome
from .report import Report
from .table import first_measure_comparisons, format_p, notes, sentence, unbreakable

MOST_ROWS = 300
TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class QueryExample:
    """One query as the baseline and the headline system ranked it.

    Attributes:
        documents: (rank before, rank after, score before, score after, relevant, text) of the
            documents worth showing, in the order to show; ranks count from 1, `relevant` is None
            where nobody judged.
    """

    query_id: str
    query: str
    baseline_value: float
    system_value: float
    documents: list[tuple[int, int, float, float, bool | None, str]]


def render(
    report: Report,
    *,
    title: str,
    steps: list[dict[str, Any]] | None = None,
    examples: list[QueryExample] | None = None,
) -> str:
    """The whole page.

    Args:
        report: what was measured; its `headline_system` against its baseline leads the page.
        title: heading of the page and of the browser's tab.
        steps: rows of `metrics.jsonl` of a training run, for the curves.
        examples: queries to show in full, see `moved_queries`; largest move first.
    """
    measure = report.measures[0] if report.measures else ""
    system = headline_system(report)
    pairs = _paired_values(report, measure, system)
    moves = sorted(pairs.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
    comparison = report.comparison(system, measure) if system else None
    template = _environment().get_template(TEMPLATE)
    return template.render(
        report=report,
        title=title,
        measure=measure,
        system=system,
        headline=comparison,
        sentence=sentence(report, comparison) if comparison else "",
        decided=outcome(comparison).replace("undecided", "same") if comparison else "same",
        forest=plots.forest(first_measure_comparisons(report)),
        comparisons=first_measure_comparisons(report),
        notes=notes(report),
        pairs=pairs,
        scatter=plots.scatter(pairs),
        bars=plots.gain_bars({query: after - before for query, (before, after) in pairs.items()}),
        moves=moves[:MOST_ROWS],
        examples=examples or [],
        curves=training_curves(steps or []),
        size=plots,
    )


def headline_system(report: Report) -> str:
    """Name of the system that the report is about: the last model which is not the baseline, else ``""``."""
    others = [system for system in report.systems if system.name != report.baseline]
    models = [system for system in others if system.kind == "model"]
    return (models or others)[-1].name if others else ""


def moved_queries(report: Report, count: int) -> list[str]:
    """Ids of the queries whose first measure moved most between baseline and headline system.

    Those that did not move are left out, so fewer than `count` may come back.
    """
    measure = report.measures[0] if report.measures else ""
    pairs = _paired_values(report, measure, headline_system(report))
    moved = [(abs(after - before), query) for query, (before, after) in pairs.items() if after != before]
    return [query for _, query in sorted(moved, key=lambda item: (-item[0], item[1]))[:count]]


def training_curves(steps: list[dict[str, Any]]) -> list[plots.Curve]:
    """Loss, dev measures with the base (the dev row of step 0) as a line, and how the run went."""
    seen = {measure: None for row in steps for measure in row.get("dev") or {}}
    curves = [
        plots.curve("Loss", "Mean loss of each logged step, pale; its moving mean, strong.",
                    _column(steps, "loss"), smooth=True, from_zero=True),
        *(_dev_curve(steps, measure) for measure in seen),
        plots.curve("Learning rate", "The schedule as it was applied.",
                    _column(steps, "learning_rate"), from_zero=True),
        plots.curve("Gradient norm", "Before clipping; a sudden rise is where training shook.",
                    _column(steps, "grad_norm"), smooth=True, from_zero=True),
        plots.curve("Queries per second", "Speed of training; a fall is a slower machine or longer texts.",
                    _column(steps, "queries_per_second"), smooth=True, from_zero=True),
    ]  # fmt: skip
    return [curve for curve in curves if curve]


def _dev_curve(steps: list[dict[str, Any]], measure: str) -> plots.Curve | None:
    rows = [(row["step"], row["dev"][measure]) for row in steps if measure in (row.get("dev") or {})]
    base = next((value for step, value in rows if step == 0), None)
    best_step, best = max(rows, key=lambda row: row[1])
    caption = f"On the dev queries; best {best:.3f} at step {best_step:,}"
    caption += f"; the dashed line is the untuned base, {base:.3f}." if base is not None else "."
    return plots.curve(f"Dev {measure}", caption, rows, dots=True, reference=base)


def _column(steps: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in steps if row.get(name) is not None]


def _paired_values(report: Report, measure: str, system: str) -> dict[str, tuple[float, float]]:
    """Query id to (baseline, system) value, for the queries that both have."""
    values = report.per_query.get(measure, {})
    before, after = values.get(report.baseline, {}), values.get(system, {})
    return {query: (before[query], after[query]) for query in before if query in after}


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(signed=_signed, p_value=format_p, side=plots.side, unbreakable=unbreakable)
    return environment
