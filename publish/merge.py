"""Which mixture of base, tuned model and checkpoints is published: chosen on dev, other domains watched."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..configs.schema import MergeSettings, PublishCommand
from ..data.groups import Collection
from ..data.read import read_judged, require
from ..eval.candidates import Candidates, find_candidates
from ..eval.compare import compare, estimate, outcome
from ..eval.evaluate import Entry, first_stage_entry, make_report
from ..eval.measure import evaluate, parse_measures
from ..eval.output import write_report
from ..eval.ranking import Floats, rank
from ..eval.report import Comparison, Estimate, Report
from ..eval.scoring import Scored, score_candidates
from .dev_scores import DevScores, read_scores, restricted
from .interpolate import last_checkpoints, mix, read_base
from .sources import Evidence, Source, data_name

if TYPE_CHECKING:
    from ..model.reranker import Reranker

log = logging.getLogger(__name__)
AUTO = (0.2, 0.4, 0.6, 0.8)
RULE = (
    "Of the mixtures that are not worse than the best one on the dev queries (paired: worse is a 95 % "
    "interval below 0 and p < 0.05) and are better than the baseline there (if any is), the one with the "
    "highest mean over the guard collections; without guards the one with the highest on dev; if equal the "
    "one with more of the tuned model."
)


@dataclass(frozen=True)
class Point:
    """One mixture and what was measured of it.

    Attributes:
        share: of the tuned weights; the rest is the base.
        checkpoints: names of the checkpoints whose mean was taken; empty for the best one of the run.
        weights: hash.
        dev: mean of the first measure over the dev queries.
        guards: mean over the queries of each guard, in order.
        to_best: paired difference on dev to the mixture that is best there; None for that one itself.
        allowed: whether it may be chosen by what it does on dev.
        chosen: it is the one that is published.
    """

    share: float
    checkpoints: tuple[str, ...]
    weights: str
    dev: Estimate
    guards: tuple[Estimate, ...]
    to_best: Comparison | None = None
    allowed: bool = False
    chosen: bool = False

    @property
    def guard_mean(self) -> float:
        """Mean over the guards, each of them counting alike."""
        return float(np.mean([guard.mean for guard in self.guards])) if self.guards else 0.0


@dataclass(frozen=True)
class Guard:
    """Judged queries of another domain."""

    name: str
    collection: Collection
    candidates: Candidates


@dataclass(frozen=True)
class Merged:
    """What was tried and what was taken.

    Attributes:
        measure: that decides.
        rule: how.
        points: what was tried, by share.
        guards: name, number of queries and candidates of each guard.
        tuned_weights: hash of the run's best model.
        head_kept: the base had no ranking head, so that the head is the tuned one in every mixture.
        guard_changes: paired difference of the published model to the tuned one on each guard.
    """

    measure: str
    rule: str
    points: list[Point]
    guards: list[dict[str, object]]
    tuned_weights: str
    head_kept: bool
    guard_changes: list[Comparison] = field(default_factory=list)

    @property
    def chosen(self) -> Point:
        """The published one."""
        return next(point for point in self.points if point.chosen)

    @property
    def changed(self) -> bool:
        """Whether it is another model than the run's best one."""
        return self.chosen.weights != self.tuned_weights


@dataclass(frozen=True, eq=False)
class _Tried:
    """A mixture with its values by query: of dev, then of each guard."""

    point: Point
    folders: Sequence[Path]
    scored: Scored
    values: list[Floats]


def merge(
    settings: PublishCommand,
    source: Source,
    reranker: Reranker,
    place: Path,
) -> tuple[Source, Merged]:
    """Try the mixtures, leave the reranker with the weights of the chosen one, and report on those.

    Args:
        settings: of the command.
        source: the run; its first report has the dev queries.
        reranker: the run's best model.
        place: empty folder for the report on the chosen mixture.

    Returns:
        The source with evidence on the chosen weights, and what was tried.

    Raises:
        UserError: base, checkpoints, dev scores or guards are out of reach.
    """
    wanted, evidence = settings.merge, source.evidence[0]
    seed, best = evidence.report.seed, [source.model]
    dev, guards = read_scores(evidence), read_guards(wanted, evidence.report)
    assert source.run is not None, "setting_problems comes first"
    averaged = last_checkpoints(source.run, wanted.average) if wanted.average else []
    base = read_base(source.base, seed=int(source.manifest.get("seed") or 0)) if wanted.weights else None
    tried: list[_Tried] = []
    for folders, share in _mixtures(wanted, best, averaged, own_head=not source.base.new_head):
        mix(reranker, folders, base, share)
        tried.append(
            _try(reranker, folders, share, dev, guards, evidence.report, checkpoints=folders != best)
        )
        log.info("%s", describe(tried[-1].point, [guard.name for guard in guards]))
    tried = choose(tried, dev, evidence.report)
    chosen = next(one for one in tried if one.point.chosen)
    tuned = next(one for one in tried if one.folders == best and one.point.share == 1)
    mix(reranker, chosen.folders, base, chosen.point.share)
    assert reranker.weights_hash() == chosen.point.weights, "the same mixture gives the same bits"
    merged = Merged(
        measure=evidence.report.measures[0],
        rule=RULE,
        points=sorted((one.point for one in tried), key=lambda point: (point.share, point.checkpoints)),
        guards=[
            {
                "name": guard.name,
                "queries": len(guard.collection.queries),
                "candidates": guard.candidates.source,
            }
            for guard in guards
        ],
        tuned_weights=tuned.point.weights,
        head_kept=base is not None and bool(base.new),
        guard_changes=_guard_changes(chosen, tuned, guards, evidence.report),
    )
    if not merged.changed:
        return source, merged
    report = _report(reranker, source, dev, chosen, tuned, place, command=settings.output, seed=seed)
    first = Evidence(place, report, evidence.split)
    return replace(source, evidence=(first, *source.evidence[1:]), page=place / "report.html"), merged


def read_guards(wanted: MergeSettings, report: Report) -> list[Guard]:
    """The guard collections with their candidates.

    Raises:
        UserError: with every problem of their data.
    """
    guards, problems = [], list[str]()
    for path in wanted.guard:
        collection = read_judged(path, problems, split="test")
        if collection is None or problems:
            continue
        count = wanted.guard_queries
        if count is not None and count < len(collection.queries):
            names = list(collection.queries)
            drawn = np.random.default_rng(report.seed).choice(len(names), size=count, replace=False)
            collection = restricted(collection, {names[place] for place in drawn})
        candidates = find_candidates(collection, "auto", wanted.guard_depth or report.depth)
        guards.append(Guard(data_name(path), collection, candidates))
    require(problems)
    return guards


def choose(tried: Sequence[_Tried], dev: DevScores, report: Report) -> list[_Tried]:
    """Mark what may be chosen and what is; see `RULE`."""
    measure, seed = report.measures[0], report.seed
    best = max(tried, key=lambda one: (one.point.dev.mean, one.point.share))
    floor = _values(dev, report.baseline, measure)
    marked, better = [], []
    for one in tried:
        to_best = None
        if one is not best:
            to_best = compare(
                one.values[0],
                best.values[0],
                system=_name(one),
                baseline=_name(best),
                measure=measure,
                seed=seed,
            )
        allowed = one.point.share > 0 and (to_best is None or outcome(to_best) != "worse")
        point = replace(one.point, to_best=to_best, allowed=allowed)
        gain = compare(
            one.values[0], floor, system=_name(one), baseline=report.baseline, measure=measure, seed=seed
        )
        marked.append(replace(one, point=point))
        better.append(allowed and outcome(gain) == "better")
    if any(better):
        marked = [
            replace(one, point=replace(one.point, allowed=passed))
            for one, passed in zip(marked, better, strict=True)
        ]

    def worth(one: _Tried) -> tuple[float, float]:
        return (one.point.guard_mean if one.point.guards else one.point.dev.mean), one.point.share

    chosen = max((one for one in marked if one.point.allowed), key=worth)
    return [replace(one, point=replace(one.point, chosen=one is chosen)) for one in marked]


def _mixtures(
    wanted: MergeSettings, best: list[Path], averaged: list[Path], *, own_head: bool
) -> Iterator[tuple[list[Path], float]]:
    """Folders and share of every mixture: the best model as it is always, the base where it can rank."""
    yield best, 1.0
    tuned = averaged or best
    if averaged:
        yield averaged, 1.0
    if wanted.weights:
        shares = AUTO if wanted.weights == "auto" else wanted.weights
        if own_head:
            yield tuned, 0.0
        for share in sorted(set(map(float, shares)) - {0.0, 1.0}):
            yield tuned, share


def _try(
    reranker: Reranker,
    folders: Sequence[Path],
    share: float,
    dev: DevScores,
    guards: Sequence[Guard],
    report: Report,
    *,
    checkpoints: bool,
) -> _Tried:
    from ..eval.cache import ScoreCache
    from ..model.backends import identity

    way = identity(reranker)
    cache = ScoreCache.of(way)
    (measure,) = parse_measures(report.measures[:1])
    scored = [
        score_candidates(reranker, collection, candidates, cache=cache, name=f"{share:g} of the tuned model")
        for collection, candidates in [
            (dev.collection, dev.candidates),
            *((g.collection, g.candidates) for g in guards),
        ]
    ]
    cache.close()
    qrels = [dev.collection.qrels, *(guard.collection.qrels for guard in guards)]
    values = [evaluate(measure, rank(judged, one.run)) for judged, one in zip(qrels, scored, strict=True)]
    found = [estimate(row, report.seed) for row in values]
    names = tuple(folder.name for folder in folders) if checkpoints else ()
    return _Tried(
        Point(share, names, str(way["weights"]), found[0], tuple(found[1:])), folders, scored[0], values
    )


def _values(dev: DevScores, system: str, measure: str) -> Floats:
    (parsed,) = parse_measures([measure])
    return evaluate(parsed, rank(dev.collection.qrels, dev.runs[system]))


def _name(tried: _Tried) -> str:
    return f"{tried.point.share:g}" + (" averaged" if tried.point.checkpoints else "")


def describe(point: Point, guards: Sequence[str]) -> str:
    """One line for the terminal."""
    parts = [f"{point.share:g} of the tuned weights" + (" (average)" if point.checkpoints else "")]
    parts += [f"dev {point.dev.mean:.4f}"]
    parts += [f"{guard} {found.mean:.4f}" for guard, found in zip(guards, point.guards, strict=True)]
    return ", ".join(parts) + (": published" if point.chosen else "")


def _guard_changes(
    chosen: _Tried, tuned: _Tried, guards: Sequence[Guard], report: Report
) -> list[Comparison]:
    if chosen is tuned:
        return []
    return [
        compare(
            chosen.values[place],
            tuned.values[place],
            system="merged",
            baseline="tuned",
            measure=report.measures[0],
            seed=report.seed,
        )
        for place in range(1, len(guards) + 1)
    ]


def _report(
    reranker: Reranker,
    source: Source,
    dev: DevScores,
    chosen: _Tried,
    tuned: _Tried,
    place: Path,
    *,
    command: str,
    seed: int,
) -> Report:
    """The chosen mixture beside first stage, base and tuned model, on the same candidates."""
    old = source.evidence[0].report
    entries = [first_stage_entry(dev.candidates)] if dev.candidates.first_stage else []
    for system in old.systems:
        if system.kind == "model" and system.weights != tuned.point.weights:
            kept = Scored(dev.runs[system.name], system.pairs, system.truncated_pairs, system.seconds)
            budgets = system.query_tokens, system.max_tokens
            entries.append(Entry(system.name, kept, system.path, system.weights, system.precision, budgets))
    for name, one in (("tuned", tuned), ("merged", chosen)):
        entries.append(
            Entry(
                name, one.scored, str(source.model), one.point.weights, reranker.precision, reranker.budgets
            )
        )
    report = make_report(
        dev.collection,
        dev.candidates,
        entries,
        measures=parse_measures(old.measures),
        baseline=old.baseline,
        seed=seed,
        command=f"uprank publish merge output={Path(command).name}",
        device="cpu",
    )
    runs = {entry.name: entry.scored.run for entry in entries}
    write_report(report, place, title="Merged model", runs=runs, collection=dev.collection)
    return report
