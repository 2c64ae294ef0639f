"""Which mixture of base, tuned model and checkpoints is published: chosen on dev, other domains watched."""

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


def merge_weights(
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
    rank_of_lora = ((source.config.get("model") or {}).get("lora") or {}).get("rank")
    if wanted.average and rank_of_lora:
        raise UserError(
            f"merge.average={wanted.average}: the run has model.lora.rank={rank_of_lora}: its checkpoints "
            "hold adapters, whose mean is no mean of weights; leave it out (merge.weights can be given)"
        )
    seed, best = evidence.report.seed, [source.model]
    dev, guards = read_scores(evidence), read_guards(wanted, evidence.report)
    assert source.run is not None, "setting_problems comes first"
    averaged = last_checkpoints(source.run, wanted.average) if wanted.average else []
    base = read_base(source.base, seed=int(source.manifest.get("seed") or 0)) if wanted.weights else None
    measured = as_measured(reranker, evidence.report)
    tried: list[Tried] = []
    for folders, share in _mixtures(wanted, best, averaged, own_head=not source.base.new_head):
        mix_weights(measured, folders, base, share)
        tried.append(
            _try(measured, folders, share, dev, guards, evidence.report, checkpoints=folders != best)
        )
        log.info("%s", describe_mixture(tried[-1].point, [guard.name for guard in guards]))
    tried = choose_mixture(tried, evidence.report)
    chosen = next(one for one in tried if one.point.chosen)
    tuned = next(one for one in tried if one.folders == best and one.point.share == 1)
    mix_weights(reranker, chosen.folders, base, chosen.point.share)
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
    report = _report(measured, source, dev, chosen, tuned, place, command=settings.output, seed=seed)
    first = Evidence(place, report, evidence.split)
    return replace(source, evidence=(first, *source.evidence[1:]), page=place / "report.html"), merged


def as_measured(reranker: Reranker, report: Report) -> Reranker:
    """The same model in the precision of the report, whose other systems the mixtures are compared with."""
    from ...model.forward import Scorer

    precision = next((one.precision for one in reversed(report.systems) if one.kind == "model"), "") or "fp32"
    return replace(reranker, scorer=Scorer(reranker.model, precision).eval(), precision=precision)


def read_guards(wanted: MergeSettings, report: Report) -> list[Guard]:
    """The guard collections with their candidates.

    Raises:
        UserError: with every problem of their data.
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
) -> Tried:
    from ...eval.score_cache import ScoreCache
    from ...model.backends import identity

    way = identity(reranker)
    cache = ScoreCache.of(way)
    (measure,) = parse_measures(report.measures[:1])
    scored = [
        score_candidates(
            reranker, collection, candidates, cache=cache, watch=Watch(f"{share:g} of the tuned model")
        )
        for collection, candidates in [
            (dev.collection, dev.candidates),
            *((g.collection, g.candidates) for g in guards),
        ]
    ]
    cache.close()
    qrels = [dev.collection.qrels, *(guard.collection.qrels for guard in guards)]
    values = [
        evaluate_measures(measure, rank(judged, one.run)) for judged, one in zip(qrels, scored, strict=True)
    ]
    found = [estimate(row, report.seed) for row in values]
    names = tuple(folder.name for folder in folders) if checkpoints else ()
    return Tried(
        Point(share, names, str(way["weights"]), found[0], tuple(found[1:])), folders, scored[0], values
    )


def _guard_changes(chosen: Tried, tuned: Tried, guards: Sequence[Guard], report: Report) -> list[Comparison]:
    if chosen is tuned:
        return []
    return [
        compare_systems(
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
    chosen: Tried,
    tuned: Tried,
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
            read = Prompts(system.query_prompt, system.passage_prompt)
            entries.append(
                Entry(system.name, kept, system.path, system.weights, system.precision, budgets, prompts=read)
            )
    for name, one in (("tuned", tuned), ("merged", chosen)):
        entries.append(
            Entry(
                name,
                one.scored,
                str(source.model),
                one.point.weights,
                reranker.precision,
                reranker.budgets,
                prompts=reranker.prompts,
            )
        )
    options = ReportOptions(
        measures=parse_measures(old.measures),
        baseline=old.baseline,
        seed=seed,
        command=f"uprank publish merge output={Path(command).name}",
        device="cpu",
    )
    report = make_report(dev.collection, dev.candidates, entries, options)
    runs = {entry.name: entry.scored.run for entry in entries}
    write_report(report, place, title="Merged model", runs=runs, collection=dev.collection)
    return report
