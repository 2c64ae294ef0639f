"""`uprank eval`: models and first stage side by side on the same candidates."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.check import above_zero, model_problems, seed_problems
from ..configs.command import run
from ..configs.errors import UserError, collect
from ..configs.schema import EvalCommand

if TYPE_CHECKING:
    from ..data.groups import Collection
    from .candidates import Candidates
    from .evaluate import Entry


def evaluate(settings: EvalCommand) -> None:
    """Measure, compare, and write report.json, per_query.jsonl, the runs and report.html.

    Raises:
        UserError: anything the user can mend; checked before a model is loaded where possible.
    """
    from rich.console import Console

    from ..data.read import read_judged, require
    from ..model.load import locate
    from .candidates import find_candidates
    from .evaluate import first_stage_entry, make_report
    from .measure import parse_measures
    from .output import require_new, write_report
    from .table import print_report

    output = Path(settings.output)
    models = _models(settings)
    problems = _problems(settings)
    measures = collect(problems, parse_measures, settings.measures)
    systems = collect(problems, _systems, settings, models)
    collect(problems, require_new, output)
    for path in models.values():
        collect(problems, locate, path)
    if problems or measures is None or systems is None:
        raise UserError(problems)
    first_stage, baseline = systems
    collection = read_judged(settings.data.test, problems, split="test")
    require(problems)
    assert collection is not None  # a collection that could not be read left a problem
    candidates = find_candidates(collection, settings.candidates, settings.depth)
    first = [first_stage_entry(candidates)] if first_stage else []
    entries = first + _score(settings, models, collection, candidates)
    report = make_report(
        collection,
        candidates,
        entries,
        measures=measures,
        baseline=baseline,
        seed=settings.seed,
        command=f"uprank eval {shlex.join(sys.argv[1:])}",
    )
    page = write_report(
        report,
        output,
        title=f"{' and '.join(models) or candidates.first_stage} on {Path(settings.data.test).name}",
        runs={entry.name: entry.scored.run for entry in entries},
        collection=collection,
    )
    print_report(report, Console(), page)


def _problems(settings: EvalCommand) -> list[str]:
    problems = model_problems(settings.model)
    problems += above_zero({"tokens_per_batch": settings.tokens_per_batch, "threads": settings.threads})
    problems += seed_problems(settings.seed)
    if settings.model.path and settings.models:
        problems.append("model.path and models are both set; give one of them")
    if not isinstance(settings.models, (dict, list, type(None))):
        problems.append(f"models={settings.models}: allowed are [PATH, …] and {{NAME: PATH, …}}")
    return problems


def _models(settings: EvalCommand) -> dict[str, str]:
    """Name to path of the models; a single one is called by its folder."""
    if settings.model.path:
        return {Path(settings.model.path).name or "model": settings.model.path}
    if not isinstance(settings.models, (dict, list)):
        return {}
    if isinstance(settings.models, list):
        return {_name(str(path), settings.models): str(path) for path in settings.models}
    return {str(name): str(path) for name, path in settings.models.items()} if settings.models else {}


def _name(path: str, paths: list[str]) -> str:
    """The folder's name; with its parent where two folders are called the same (`best`)."""
    same = [other for other in paths if Path(str(other)).name == Path(path).name]
    return Path(path).name if len(same) == 1 else "/".join(Path(path).parts[-2:])


def _systems(settings: EvalCommand, models: dict[str, str]) -> tuple[str, str]:
    """The first stage (empty where there is none) and the baseline.

    The baseline is the one asked for, else the first of several models, else the first stage.
    """
    from .candidates import first_stage_name, resolve_source

    first_stage = first_stage_name(resolve_source(settings.candidates, settings.depth, settings.data.test))
    names = [name for name in (first_stage, *models) if name]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"two systems are called {doubled[0]!r}; give other names in models={{NAME: PATH}}")
    if not names:
        raise UserError(
            "nothing to evaluate: give model.path, models, or candidates with a first stage (bm25, a run)"
        )
    if settings.baseline is None:
        return first_stage, next(iter(models)) if len(models) > 1 else names[0]
    if settings.baseline not in names:
        raise UserError(f"baseline={settings.baseline}: no such system; there are {', '.join(names)}")
    return first_stage, settings.baseline


def _score(
    settings: EvalCommand, models: dict[str, str], collection: Collection, candidates: Candidates
) -> list[Entry]:
    """Score the candidates with one model after the other, so that memory holds one at a time."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from ..model.reranker import Reranker
    from .evaluate import Entry
    from .scoring import score_candidates

    if settings.threads:
        torch.set_num_threads(settings.threads)
    entries = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        for name, path in models.items():
            reranker = Reranker.load(
                path,
                precision=settings.model.precision,
                query_tokens=settings.model.query_tokens,
                max_tokens=settings.model.max_tokens,
                device=settings.model.device,
                revision=settings.model.revision,
                tokens_per_batch=settings.tokens_per_batch,
                seed=settings.seed,
            )
            if reranker.new_head:
                console.print(
                    f"{name}: an encoder without a head; its new random head ranks at random", markup=False
                )
            task = bar.add_task(name, total=len(candidates.pairs))
            advance = partial(bar.advance, task)
            scored = score_candidates(reranker, collection, candidates, progress=advance)
            precision, budgets = settings.model.precision, reranker.budgets
            entries.append(Entry(name, scored, path, reranker.weights_hash(), precision, budgets))
    return entries


def main() -> None:
    """Run the command."""
    run("eval", EvalCommand, evaluate)


if __name__ == "__main__":
    main()
