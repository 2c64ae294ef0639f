"""Score the candidates of an evaluation with every model of the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError, collect
from ...configs.schema import EvalModelSettings
from ...configs.schema_eval import EvalCommand
from ...configs.validate import BACKENDS, PRECISIONS, one_of

if TYPE_CHECKING:
    from ...data.groups import Collection
    from ...model.backends import Peer
    from ...model.reranker import Reranker
    from ..evaluate import Entry
    from ..processes import Processes
    from ..retrieval import Candidates

# Settings that a model of `models` may have for itself.
OWN = ("path", "backend", "precision", "revision", "query_prompt", "passage_prompt")


def parse_models(settings: EvalCommand) -> dict[str, EvalModelSettings]:
    """Return the models of `model.path`, `models=[PATH, …]` or `models={NAME: PATH, …}` by name.

    A model given as `{path: …, backend: …, precision: …, revision: …}` has settings of its own; everything it
    leaves out, and everything but the path of a plain PATH, is as in `model.backend` and so on.

    Raises:
        UserError: the models are given in another form; all problems are listed.
    """
    given, problems = settings.models, []
    if settings.model.path and given:
        problems.append("model.path and models are both set; give one of them")
    if settings.model.path is not None and not settings.model.path.strip():
        problems.append("model.path is empty: give a hub id or a folder")
    if settings.model.path:
        given = [settings.model.path]
    elif given is None:
        given = {}
    if isinstance(given, list):
        paths = [str(entry.get("path")) if isinstance(entry, dict) else str(entry) for entry in given]
        named = list(zip([_name(path, paths) for path in paths], given, strict=True))
    elif isinstance(given, dict):
        named = [(str(name), value) for name, value in given.items()]
    else:
        raise UserError([*problems, f"models={given}: allowed are [PATH, …] and {{NAME: PATH, …}}"])
    if "" in dict(named):
        problems.append("models: a name is empty; allowed are [PATH, …] and {NAME: PATH, …}")
    doubled = sorted({name for name, _ in named if [other for other, _ in named].count(name) > 1})
    problems += [f"two models are called {name!r}; give names: models={{NAME: PATH}}" for name in doubled]
    models = {name: collect(problems, _parse, name, value, settings.model) for name, value in named}
    if problems:
        raise UserError(problems)
    return {name: model for name, model in models.items() if model}


def is_path(value: Any) -> bool:
    """Return whether a value can name a file: a text, or a number that Hydra made of one."""
    return isinstance(value, (str, int, float)) and not isinstance(value, bool) and bool(str(value).strip())


def score_collections(
    settings: EvalCommand,
    models: Mapping[str, EvalModelSettings],
    collections: Sequence[tuple[Collection, Candidates]],
) -> list[list[Entry]]:
    """Score the candidates of each collection, one model after the other: memory holds one at a time.

    Under torchrun or `accelerate launch` each rank scores its share, and all of them return all scores.

    Raises:
        UserError: a model cannot be loaded, or a score is NaN or infinite; raised on every rank.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ...model.backends import identity
    from ..evaluate import Entry
    from ..processes import is_main, join
    from ..score_cache import ScoreCache
    from ..scoring import Watch, score_candidates

    processes = join(settings.model.device)
    if settings.threads:
        import torch

        torch.set_num_threads(settings.threads)
    entries: list[list[Entry]] = [[] for _ in collections]
    console = Console(stderr=True)
    with Progress(console=console, disable=not (console.is_terminal and is_main()), transient=True) as bar:
        for name, choice in models.items():
            model = _load(settings, choice, processes)
            if model.new_head and is_main():
                console.print(
                    f"{name}: an encoder without a head; its new random head ranks at random", markup=False
                )
            way = identity(model)
            cache = ScoreCache.of(way) if settings.cache else None
            for (collection, candidates), row in zip(collections, entries, strict=True):
                label = name if len(collections) == 1 else f"{name} {Path(collection.path).name}"
                show = partial(_show, bar, bar.add_task(label))
                watch = Watch(name, 32 * model.tokens_per_batch, show)
                scored = score_candidates(
                    model, collection, candidates, share=processes.share, cache=cache, watch=watch
                )
                row.append(
                    Entry(
                        name,
                        scored,
                        str(choice.path),
                        str(way["weights"]),
                        model.precision,
                        model.budgets,
                        backend=choice.backend,
                        prompts=model.prompts,
                    )
                )
            if cache:
                cache.close()
    return entries


def _show(bar: Any, task: Any, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def _load(settings: EvalCommand, choice: EvalModelSettings, processes: Processes) -> Reranker | Peer:
    """Load a model; if that fails on one rank, it fails on all."""
    from ...model.backends import load_model

    problems: list[str] = []
    model = collect(
        problems,
        load_model,
        choice,
        device=processes.device,
        tokens_per_batch=settings.tokens_per_batch,
        threads=settings.threads,
        seed=settings.seed,
    )
    processes.agree(problems)
    assert model is not None  # otherwise there was a problem
    return model


def _parse(name: str, value: Any, shared: EvalModelSettings) -> EvalModelSettings:
    """Return one model from its value in `models`."""
    if not isinstance(value, dict):
        if not is_path(value):
            raise UserError(f"models.{name}={value}: allowed are PATH and {{path: PATH, …}}")
        return replace(shared, path=str(value))
    unknown = [str(key) for key in value if key not in OWN]
    problems = [f"models.{name}.{key}: no such setting; allowed are {', '.join(OWN)}" for key in unknown]
    if value.get("path") in (None, ""):
        problems.append(f"models.{name}: has no path")
    for key in OWN:
        if value.get(key) not in (None, "") and not is_path(value[key]):
            problems.append(f"models.{name}.{key}={value[key]}: allowed is a text")
    changes: dict[str, Any] = {key: str(value[key]) for key in OWN if value.get(key) is not None}
    model = replace(shared, **changes)
    problems += one_of(f"models.{name}.backend", model.backend, BACKENDS)
    problems += one_of(f"models.{name}.precision", model.precision, PRECISIONS)
    if problems:
        raise UserError(problems)
    return model


def _name(path: str, paths: list[str]) -> str:
    """Return the folder's name; with its parent if two folders have the same one (`best`)."""
    same = [other for other in paths if Path(other).name == Path(path).name]
    return (Path(path).name or "model") if len(same) == 1 else "/".join(Path(path).parts[-2:])
