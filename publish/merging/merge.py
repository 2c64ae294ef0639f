"""Choose the published mixture of base, tuned model and checkpoints on dev, and watch other domains."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...configs.errors import UserError
from ...configs.schema_publish import MergeSettings, PublishCommand
from ...data.groups import Collection
from ...data.problems import Problems, require
from ...data.prompts import Prompts
from ...data.read import read_judged
from ...eval.evaluate import Entry, ReportOptions, first_stage_entry, make_report
from ...eval.measures import evaluate_measures, parse_measures, rank
from ...eval.report import write_report
from ...eval.results import Comparison, Report
from ...eval.retrieval import Candidates, find_candidates
from ...eval.scoring import Scored, Watch, score_candidates
from ...eval.statistics import compare_systems, estimate
from ..evidence import DevScores, Evidence, Source, distinct_names, read_scores, restricted
from .interpolate import last_checkpoints, mix_weights, read_base
from .mixtures import RULE, Merged, Point, Tried, choose_mixture, describe_mixture

if TYPE_CHECKING:
    from ...model.reranker import Reranker

log = logging.getLogger(__name__)
AUTO = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Guard:
    """Judged queries of another domain."""

    name: str
    collection: Collection
    candidates: Candidates

    @property
    def record(self) -> dict[str, object]:
        """Its entry in `uprank.json`."""
        queries = len(self.collection.queries)
        return {"name": self.name, "queries": queries, "candidates": self.candidates.source}


@dataclass(frozen=True)
class Trial:
    """The data on which every mixture is scored, with the model in the precision of the report."""

    reranker: Reranker
    report: Report
    dev: DevScores
    guards: Sequence[Guard]


def merge_weights(
    settings: PublishCommand, source: Source, reranker: Reranker, place: Path
) -> tuple[Source, Merged]:
    """Try the mixtures, leave the reranker with the weights of the chosen one, and report on those.

    Args:
        settings: settings of the command.
        source: the run; its first report has the dev queries.
        reranker: the run's best model.
        place: empty folder for the report on the chosen mixture.

    Returns:
        The source with evidence on the chosen weights, and the mixtures tried.

    Raises:
        UserError: base, checkpoints, dev scores or guards cannot be read.
    """
    wanted, evidence = settings.merge, source.evidence[0]
    rank_of_lora = ((source.config.get("model") or {}).get("lora") or {}).get("rank")
    if wanted.average and rank_of_lora:
        raise UserError(
            f"merge.average={wanted.average}: the run has model.lora.rank={rank_of_lora}: its checkpoints "
            "hold adapters, whose mean is not the mean of weights; leave it out (merge.weights is allowed)"
        )
    report, best = evidence.report, [source.model]
    dev, guards = read_scores(evidence), read_guards(wanted, report)
    assert source.run is not None, "setting_problems comes first"
    averaged = last_checkpoints(source.run, wanted.average) if wanted.average else []
    base = read_base(source.base, seed=int(source.manifest.get("seed") or 0)) if wanted.weights else None
    trial = Trial(as_measured(reranker, report), report, dev, guards)
    tried: list[Tried] = []
    for folders, share in _mixtures(wanted, best, averaged, own_head=not source.base.new_head):
        mix_weights(trial.reranker, folders, base, share)
        tried.append(_try(trial, folders, share, names=() if folders == best else [f.name for f in folders]))
        log.info("%s", describe_mixture(tried[-1].point, [guard.name for guard in guards]))
    tried = choose_mixture(tried, report)
    chosen = next(one for one in tried if one.point.chosen)
    tuned = next(one for one in tried if one.folders == best and one.point.share == 1)
    mix_weights(reranker, chosen.folders, base, chosen.point.share)
    assert reranker.weights_hash() == chosen.point.weights, "the same mixture gives the same bits"
    merged = Merged(
        measure=report.measures[0],
        rule=RULE,
        points=sorted((one.point for one in tried), key=lambda point: (point.share, point.checkpoints)),
        guards=[guard.record for guard in guards],
        tuned_weights=tuned.point.weights,
        head_kept=base is not None and bool(base.new),
        guard_changes=[] if chosen is tuned else _guard_changes(chosen, tuned, report),
    )
    if not merged.changed:
        return source, merged
    entries = _entries(trial, chosen, tuned, str(source.model))
    options = ReportOptions(
        measures=parse_measures(report.measures),
        baseline=report.baseline,
        seed=report.seed,
        command=f"uprank publish merge output={Path(settings.output).name}",
        device="cpu",
    )
    new = make_report(dev.collection, dev.candidates, entries, options)
    runs = {entry.name: entry.scored.run for entry in entries}
    write_report(new, place, title="Merged model", runs=runs, collection=dev.collection)
    first = Evidence(place, new, evidence.split)
    return replace(source, evidence=(first, *source.evidence[1:]), page=place / "report.html"), merged


def as_measured(reranker: Reranker, report: Report) -> Reranker:
    """Return the same model in the precision of the report's other systems, so that scores are comparable."""
    from ...model.forward import Scorer

    precision = next((one.precision for one in reversed(report.systems) if one.kind == "model"), "") or "fp32"
    old = reranker.scorer
    scorer = Scorer(reranker.model, precision, token_types=old.token_types, by_length=old.by_length).eval()
    return replace(reranker, scorer=scorer, precision=precision)


def read_guards(wanted: MergeSettings, report: Report) -> list[Guard]:
    """Read the guard collections and find their candidates.

    Raises:
        UserError: all problems of their data.
    """
    guards, problems = [], Problems()
    for path, name in zip(wanted.guard, distinct_names(wanted.guard), strict=True):
        collection = read_judged(path, problems, split="test")
        if collection is None or problems:
            continue
        count = wanted.guard_queries
        if count is not None and count < len(collection.queries):
            names = list(collection.queries)
            drawn = np.random.default_rng(report.seed).choice(len(names), size=count, replace=False)
            collection = restricted(collection, {names[place] for place in drawn})
        candidates = find_candidates(collection, "auto", wanted.guard_depth or report.depth)
        guards.append(Guard(name, collection, candidates))
    require(problems)
    return guards


def _mixtures(
    wanted: MergeSettings, best: list[Path], averaged: list[Path], *, own_head: bool
) -> Iterator[tuple[list[Path], float]]:
    """Yield folders and share of every mixture: always the best model, the base only if it can rank."""
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


def _try(trial: Trial, folders: Sequence[Path], share: float, *, names: Sequence[str]) -> Tried:
    """Score dev and guards with a mixture that the model already holds."""
    from ...eval.score_cache import ScoreCache
    from ...model.backends import identity

    way, report = identity(trial.reranker), trial.report
    cache = ScoreCache.of(way)
    (measure,) = parse_measures(report.measures[:1])
    scored, values = [], []
    judged: list[DevScores | Guard] = [trial.dev, *trial.guards]
    for one in judged:
        name = f"{share:g} of the tuned model"
        scored.append(
            score_candidates(trial.reranker, one.collection, one.candidates, cache=cache, watch=Watch(name))
        )
        values.append(evaluate_measures(measure, rank(one.collection.qrels, scored[-1].run)))
    cache.close()
    dev, *guards = [estimate(row, report.seed) for row in values]
    point = Point(share, tuple(names), str(way["weights"]), dev, tuple(guards))
    return Tried(point, folders, scored[0], values)


def _guard_changes(chosen: Tried, tuned: Tried, report: Report) -> list[Comparison]:
    names = {"system": "merged", "baseline": "tuned", "measure": report.measures[0]}
    return [
        compare_systems(new, old, seed=report.seed, **names)
        for new, old in zip(chosen.values[1:], tuned.values[1:], strict=True)
    ]


def _entries(trial: Trial, chosen: Tried, tuned: Tried, path: str) -> list[Entry]:
    """Return first stage, base, tuned model and chosen mixture, all on the same candidates."""
    dev, model = trial.dev, trial.reranker
    entries = [first_stage_entry(dev.candidates)] if dev.candidates.first_stage else []
    for system in trial.report.systems:
        if system.kind == "model" and system.weights != tuned.point.weights:
            kept = Scored(dev.runs[system.name], system.pairs, system.truncated_pairs, system.seconds)
            budgets = system.query_tokens, system.max_tokens
            stated = Prompts(system.query_prompt, system.passage_prompt)
            weights, precision = system.weights, system.precision
            entries.append(Entry(system.name, kept, system.path, weights, precision, budgets, prompts=stated))
    return entries + [
        Entry(
            name, one.scored, path, one.point.weights, model.precision, model.budgets, prompts=model.prompts
        )
        for name, one in (("tuned", tuned), ("merged", chosen))
    ]
