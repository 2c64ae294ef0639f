"""Score the candidates of an evaluation with every model of the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError, collect
from ...configs.schema_eval import EvalCommand
from ...configs.validate import BACKENDS, PRECISIONS, one_of

if TYPE_CHECKING:
    from ...data.groups import Collection
    from ...model.backends import Peer
    from ...model.reranker import Reranker
    from ..evaluate import Entry
    from ..processes import Processes
    from ..retrieval import Candidates
    from ..scoring import Scored


@dataclass(frozen=True)
class ModelChoice:
    """One model of the command.

    Attributes:
        path: hub id, folder or `package:NAME`; with backend `onnx` a folder or file.
        backend: what scores it, one of configs/check.BACKENDS.
        precision: `fp32` or `bf16`.
        revision: of a hub model.
        query_prompt: put before every query; what the model states when None.
        passage_prompt: put before every passage; likewise.
    """

    path: str
    backend: str = "uprank"
    precision: str = "fp32"
    revision: str | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None


def parse_models(settings: EvalCommand) -> dict[str, ModelChoice]:
    """The models by name: `model.path`, `models=[PATH, …]` or `models={NAME: PATH, NAME: {path: …}, …}`.

    A model that is written out as `{path: …, backend: …, precision: …, revision: …}` has its
    own; what it leaves out, and all of a plain path, is as in `model.backend` and so on.

    Raises:
        UserError: the models are given in no such form, with all that is wrong.
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
    choices = {name: collect(problems, _choice, name, value, settings) for name, value in named}
    if problems:
        raise UserError(problems)
    return {name: choice for name, choice in choices.items() if choice}


def is_path(value: Any) -> bool:
    """Whether a value of the command line can name a file: a text, or a number that Hydra has made of one."""
    return isinstance(value, (str, int, float)) and not isinstance(value, bool) and bool(str(value).strip())


def check_model(name: str, choice: ModelChoice) -> None:
    """What can be known of a model without loading it.

    Raises:
        UserError: it is not there, its library is not installed or takes no such setting.
    """
    from ...model.backends import backend_problems

    problems = backend_problems(
        choice.backend, choice.path, precision=choice.precision, revision=choice.revision, name=name
    )
    if problems:
        raise UserError(problems)


def score_models(
    settings: EvalCommand,
    models: Mapping[str, str | ModelChoice],
    collection: Collection,
    candidates: Candidates,
) -> list[Entry]:
    """Score the candidates of one collection; see `score_collections`."""
    return score_collections(settings, models, [(collection, candidates)])[0]


def score_collections(
    settings: EvalCommand,
    models: Mapping[str, str | ModelChoice],
    collections: Sequence[tuple[Collection, Candidates]],
) -> list[list[Entry]]:
    """Score the candidates of each collection, one model after the other: memory holds one at a time.

    Under torchrun or `accelerate launch` each process scores its share, and all of them return
    all scores.

    Raises:
        UserError: a model cannot be loaded, or a score is NaN or infinite; on every process alike.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ...model.backends import identity
    from ..processes import is_main, join
    from ..score_cache import ScoreCache
    from ..scoring import score_candidates

    processes = join(settings.model.device)
    if settings.threads:
        import torch

        torch.set_num_threads(settings.threads)
    entries: list[list[Entry]] = [[] for _ in collections]
    console = Console(stderr=True)
    with Progress(console=console, disable=not (console.is_terminal and is_main()), transient=True) as bar:
        for name, value in models.items():
            choice = value if isinstance(value, ModelChoice) else _choice(name, value, settings)
            model = _load(settings, choice, processes)
            if model.new_head and is_main():
                console.print(
                    f"{name}: an encoder without a head; its new random head ranks at random", markup=False
                )
            way = identity(model)
            cache = ScoreCache.of(way) if settings.cache else None
            for (collection, candidates), found in zip(collections, entries, strict=True):
                label = name if len(collections) == 1 else f"{name} {Path(collection.path).name}"
                scored = score_candidates(
                    model,
                    collection,
                    candidates,
                    share=processes.share,
                    progress=partial(_show, bar, bar.add_task(label)),
                    cache=cache,
                    name=name,
                    block_tokens=32 * model.tokens_per_batch,
                )
                found.append(_entry(name, choice, str(way["weights"]), model, scored))
            if cache:
                cache.close()
    return entries


def _show(bar: Any, task: Any, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def _entry(name: str, choice: ModelChoice, weights: str, model: Reranker | Peer, scored: Scored) -> Entry:
    from ..evaluate import Entry

    return Entry(
        name,
        scored,
        choice.path,
        weights,
        choice.precision,
        model.budgets,
        backend=choice.backend,
        prompts=model.prompts,
    )


def _load(settings: EvalCommand, choice: ModelChoice, processes: Processes) -> Reranker | Peer:
    """The model; where it fails on one process, it fails on all."""
    from ...model.backends import load_model

    problems: list[str] = []
    model = collect(
        problems,
        load_model,
        **asdict(choice),
        query_tokens=settings.model.query_tokens,
        max_tokens=settings.model.max_tokens,
        device=processes.device,
        tokens_per_batch=settings.tokens_per_batch,
        threads=settings.threads,
        seed=settings.seed,
    )
    processes.agree(problems)
    assert model is not None  # otherwise there was a problem
    return model


def _choice(name: str, value: Any, settings: EvalCommand) -> ModelChoice:
    """One model from what was written for it."""
    model = settings.model
    chosen: dict[str, Any] = {
        "backend": model.backend,
        "precision": model.precision,
        "revision": model.revision,
        "query_prompt": model.query_prompt,
        "passage_prompt": model.passage_prompt,
    }
    if not isinstance(value, dict):
        if not is_path(value):
            raise UserError(f"models.{name}={value}: allowed are PATH and {{path: PATH, …}}")
        return ModelChoice(str(value), **chosen)
    allowed = [field.name for field in fields(ModelChoice)]
    unknown = [str(key) for key in value if key not in allowed]
    problems = [f"models.{name}.{key}: no such setting; allowed are {', '.join(allowed)}" for key in unknown]
    if value.get("path") in (None, ""):
        problems.append(f"models.{name}: has no path")
    for key in allowed:
        if value.get(key) not in (None, "") and not is_path(value[key]):
            problems.append(f"models.{name}.{key}={value[key]}: allowed is a text")
    chosen |= {key: str(entry) for key, entry in value.items() if key in allowed and entry is not None}
    problems += one_of(f"models.{name}.backend", str(chosen["backend"]), BACKENDS)
    problems += one_of(f"models.{name}.precision", str(chosen["precision"]), PRECISIONS)
    if problems:
        raise UserError(problems)
    return ModelChoice(**chosen)


def _name(path: str, paths: list[str]) -> str:
    """The folder's name; with its parent where two folders are called the same (`best`)."""
    same = [other for other in paths if Path(other).name == Path(path).name]
    return (Path(path).name or "model") if len(same) == 1 else "/".join(Path(path).parts[-2:])
