"""Make a report from the scores of several systems on the same candidates."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .. import __version__
from ..configs.errors import UserError
from ..data.groups import Collection, collection_fingerprint
from ..data.prompts import NO_PROMPTS, Prompts
from .audits import (
    Setting,
    audit_system,
    calibration_of,
    curve_depths,
    depth_curve,
    find_leaks,
    first_stage,
    hardware_name,
    histogram,
    own_documents,
    stated,
)
from .measures import Floats, Measure, Ranking, evaluate_measures, ideal, rank
from .results import Audit, Comparison, DepthPoint, Report, System
from .retrieval import Candidates
from .scoring import Scored
from .statistics import compare_all, estimates


@dataclass(frozen=True)
class Entry:
    """One system to report: its scores and their origin.

    Attributes:
        name: unique name.
        scored: scores on the candidates.
        path: hub id or folder; empty for a first stage.
        weights: hash of the weights; empty for a first stage.
        precision: `fp32`, `bf16`; empty for a first stage.
        budgets: tokens of the query and of the pair; 0 for a first stage.
        kind: `model`, `first_stage` or `run`; decided by the weights if empty.
        backend: `uprank`, `onnx`…; empty for a first stage or a run.
        prompts: prompts put before the texts.
    """

    name: str
    scored: Scored
    path: str = ""
    weights: str = ""
    precision: str = ""
    budgets: tuple[int, int] = (0, 0)
    kind: str = ""
    backend: str = ""
    prompts: Prompts = NO_PROMPTS

    @property
    def role(self) -> str:
        """Kind; if empty, `model` for an entry with weights, else `first_stage`."""
        return self.kind or ("model" if self.weights else "first_stage")


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report.

    Attributes:
        measures: measures to compute; the first one leads.
        baseline: name of the system that the others are compared with.
        seed: seed of bootstrap and randomisation test.
        command: how the evaluation was started.
        train_queries: queries the models were trained on, to look for leaks.
        device: device that scored, as in `model.device`.
    """

    measures: Sequence[Measure]
    baseline: str
    seed: int
    command: str
    train_queries: Iterable[str] | None = None
    device: str | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """An entry with its ranking and (Q,) values by measure."""

    entry: Entry
    ranking: Ranking
    values: dict[str, Floats]


def first_stage_entry(candidates: Candidates) -> Entry:
    """Return the first stage as a system of its own."""
    return Entry(candidates.first_stage, Scored(candidates.run, len(candidates.pairs), 0, 0.0))


def run_entry(name: str, path: str, run: dict[str, dict[str, float]]) -> Entry:
    """Return a TREC run file as a system; it ranks its own documents."""
    scored = Scored(run, sum(map(len, run.values())), 0, 0.0)
    return Entry(name, scored, path, kind="run")


def mean_values(collection: Collection, scored: Scored, measures: Sequence[Measure]) -> dict[str, float]:
    """Return the means over all judged queries, for the dev measures in the training loop."""
    ranking = rank(collection.qrels, scored.run)
    return {str(measure): float(evaluate_measures(measure, ranking).mean()) for measure in measures}


def mean_intervals(
    collection: Collection, scored: Scored, measures: Sequence[Measure], *, seed: int
) -> dict[str, tuple[float, float]]:
    """Return the 95 % bootstrap intervals of `mean_values`."""
    ranking = rank(collection.qrels, scored.run)
    intervals = estimates([evaluate_measures(measure, ranking) for measure in measures], seed)
    return {str(measure): (one.low, one.high) for measure, one in zip(measures, intervals, strict=True)}


def make_report(
    collection: Collection,
    candidates: Candidates | None,
    entries: Sequence[Entry],
    options: ReportOptions,
) -> Report:
    """Measure every system, compare each with the baseline, and audit what the figures rest on.

    Args:
        collection: the judged queries.
        candidates: what was ranked; None if only runs are measured, each on its own documents.
        entries: the systems; all but the runs scored the same candidates.
        options: measures, baseline, seed and the facts that the report states.

    Raises:
        UserError: a score is NaN or infinite; system, query and document are named.
    """
    measures, baseline, seed = options.measures, options.baseline, options.seed
    systems = [_measured(entry, collection, measures) for entry in entries]
    named = {system.entry.name: system for system in systems}
    pool = next((s for s in systems if s.entry.role != "run"), named[baseline]).ranking  # the candidates
    leading, missing = measures[0], _missing(systems)
    leaks = None
    if options.train_queries is not None:
        leaks = find_leaks(collection.queries, pool.queries, options.train_queries)
    setting = Setting(
        collection=collection,
        candidates=candidates,
        leading=leading,
        ceiling=float(evaluate_measures(leading, ideal(pool)).mean()),
        floor=_floor(systems, leading),
        missing=frozenset(missing),
        leaks=leaks,
        machine=hardware_name(options.device),
        seed=seed,
    )
    curves = _depth_curves(systems, candidates, measures, seed)
    report = Report(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        command=options.command,
        data=collection.path,
        fingerprint=collection_fingerprint(collection),
        queries=len(pool.queries),
        sampled_from=collection.sampled_from,
        missing_queries=missing,
        unanswerable_queries=list(pool.unanswerable),
        candidates=candidates.source if candidates else "",
        depth=candidates.depth if candidates else 0,
        recall=float(evaluate_measures(Measure("R"), pool).mean()),
        measures=[str(measure) for measure in measures],
        baseline=baseline,
        systems=[_system(system, setting, curves.get(system.entry.name, [])) for system in systems],
        comparisons=_comparisons(named, baseline, [str(measure) for measure in measures], seed),
        seed=seed,
        added_positives=candidates.added if candidates else 0,
        hardware=setting.machine,
        per_query={
            str(measure): {
                name: dict(zip(pool.queries, system.values[str(measure)].tolist(), strict=True))
                for name, system in named.items()
            }
            for measure in measures
        },
    )
    ceiling = (str(leading), setting.ceiling) if candidates else None
    audits = stated(report, ceiling=ceiling, leaks=leaks)
    audits += own_documents(candidates.own if candidates else 0)
    audits += [Audit("data", True, note) for note in collection.notes]
    return replace(report, audits=audits)


def _missing(systems: Sequence[Measured]) -> list[str]:
    """Return the judged queries for which no system has a document; a single run's gaps are in its audits."""
    lacking = [set(system.ranking.missing) for system in systems]
    return [query for query in systems[0].ranking.missing if all(query in ids for ids in lacking)]


def _measured(entry: Entry, collection: Collection, measures: Sequence[Measure]) -> Measured:
    try:
        ranking = rank(collection.qrels, entry.scored.run)
    except UserError as error:
        raise UserError([f"{entry.name}: {problem}" for problem in error.problems]) from None
    return Measured(
        entry, ranking, {str(measure): evaluate_measures(measure, ranking) for measure in measures}
    )


def _floor(systems: Sequence[Measured], leading: Measure) -> tuple[str, float] | None:
    """Return name and mean of the first stage; None if the candidates have no order."""
    for system in systems:
        if system.entry.role == "first_stage":
            return system.entry.name, float(system.values[str(leading)].mean())
    return None


def _depth_curves(
    systems: Sequence[Measured], candidates: Candidates | None, measures: Sequence[Measure], seed: int
) -> dict[str, list[DepthPoint]]:
    """Return the depth curve of every model by name; none without a first stage."""
    start = next((system for system in systems if system.entry.role == "first_stage"), None)
    models = [system.entry for system in systems if system.entry.role == "model"]
    if start is None or candidates is None or not models:
        return {}
    stage = first_stage(start.ranking, candidates.run)
    depths = curve_depths(candidates.depth, max(map(len, candidates.run.values()), default=0))
    return {entry.name: depth_curve(stage, entry.scored, depths, measures, seed) for entry in models}


def _system(system: Measured, setting: Setting, depths: list[DepthPoint]) -> System:
    entry, ranking = system.entry, system.ranking
    is_model = entry.role == "model"
    found = estimates(list(system.values.values()), setting.seed)
    calibrated = calibration_of(ranking) if is_model else None
    return System(
        name=entry.name,
        kind=entry.role,
        path=entry.path,
        weights=entry.weights,
        results=dict(zip(system.values, found, strict=True)),
        pairs=entry.scored.pairs,
        truncated_pairs=entry.scored.truncated,
        tied_queries=int(ranking.tied().sum()),
        seconds=round(entry.scored.seconds, 3),
        precision=entry.precision,
        query_tokens=entry.budgets[0],
        max_tokens=entry.budgets[1],
        query_prompt=entry.prompts.query,
        passage_prompt=entry.prompts.passage,
        backend=entry.backend,
        cached_pairs=entry.scored.cached,
        audits=audit_system(entry.role, entry.scored, ranking, system.values, calibrated, setting),
        depths=depths,
        histogram=histogram(ranking) if is_model else None,
        calibration=calibrated,
    )


def _comparisons(
    named: Mapping[str, Measured], baseline: str, measures: Sequence[str], seed: int
) -> list[Comparison]:
    return [
        comparison
        for measure in measures
        for comparison in compare_all(
            {name: system.values[measure] for name, system in named.items()},
            baseline=baseline,
            measure=measure,
            seed=seed,
        )
    ]
