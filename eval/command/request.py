"""Plan an evaluation from its settings; raise every problem at once, before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.errors import UserError, collect
from ...configs.schema import EvalModelSettings
from ...configs.schema_eval import EvalCommand, GateSettings
from ...configs.validate import ON_ERROR, above_zero, model_problems, one_of, seed_problems
from ...data.judged import describe_files, is_by_role, is_qrels
from ...data.read import FORMATS
from ..measures import Measure, parse_measures
from ..retrieval import OWN, SEARCHED, first_stage_name, resolve_source
from .models import is_path

# Files written beside the folders of the collections.
WRITTEN = ("summary.json", "summary.schema.json", "summary.md", "summary.tex", "report.html")


@dataclass(frozen=True)
class CollectionPlan:
    """One collection of judged queries and the systems on it.

    Attributes:
        name: unique name; the sub-folder of its report if there are several.
        path: path as the user gave it.
        texts: whether there are texts to score; TREC qrels have none.
        candidates: source of the candidates; empty if only runs are measured.
        runs: name to path of the TREC runs.
        first_stage: name of the first stage as a system; empty if there is none.
        baseline: name of the system that the others are compared with.
    """

    name: str
    path: str
    texts: bool
    candidates: str
    runs: dict[str, str]
    first_stage: str
    baseline: str


@dataclass(frozen=True)
class Request:
    """A validated evaluation.

    Attributes:
        models: models by name.
        measures: measures to compute, the leading one first, the gate's among them.
        gate: measure of the gate; None without one.
        train: paths of the training data.
        collections: collections to evaluate, the headline first, then the guards.
    """

    models: dict[str, EvalModelSettings]
    measures: list[Measure]
    gate: Measure | None
    train: list[str]
    collections: list[CollectionPlan]

    @property
    def runs(self) -> dict[str, str]:
        """Name to path of the runs of all collections."""
        return {name: path for plan in self.collections for name, path in plan.runs.items()}


def make_request(
    settings: EvalCommand, models: Mapping[str, EvalModelSettings], problems: list[str]
) -> Request | None:
    """Return the plan, or None after adding everything wrong to `problems`.

    Args:
        settings: settings of the command.
        models: models by name.
        problems: receives one entry for each mistake.
    """
    before = len(problems)
    problems += _number_problems(settings)
    tests = collect(problems, _tests, settings.data.test) or {}
    runs = collect(problems, named, "runs", settings.runs) or {}
    train = collect(problems, named, "data.train", settings.data.train) or {}
    measures = collect(problems, _measures, settings.measures) or []
    gate = None
    if settings.gate.measure is not None:
        wrong: list[str] = []
        gate = collect(wrong, Measure.parse, settings.gate.measure)
        problems += [f"gate.measure: {problem}" for problem in wrong]
    problems += [f"runs: {path}: no such file" for path in runs.values() if not Path(path).is_file()]
    problems += [f"data.train={path}: no such file or folder" for path in train.values() if _absent(path)]
    plans = []
    for name, path in tests.items():
        if _absent(path):
            problems.append(f"data.test={path}: no such file or folder; allowed is {FORMATS}, or TREC qrels")
            collect(problems, resolve_source, settings.candidates, settings.depth, path, settings.dense)
            continue
        plan = collect(problems, _plan_collection, settings, models, runs, name, path)
        plans += [plan] if plan else []
    problems[before:] = dict.fromkeys(problems[before:])  # several collections may share a mistake
    if len(problems) > before:
        return None
    measures += [gate] if gate and gate not in measures else []
    return Request(dict(models), measures, gate, list(train.values()), plans)


def named(key: str, value: Any) -> dict[str, str]:
    """Return name to path of a setting that takes PATH, [PATH, …] or {NAME: PATH, …}.

    A path may be files by role, `{qrels: …, queries: …, corpus: …}`; it then is that text.

    Raises:
        UserError: the value has another form, or a path is given twice.

    >>> named("runs", ["a/bm25.run", "b/dense.run"])
    {'bm25': 'a/bm25.run', 'dense': 'b/dense.run'}
    >>> named("data.test", ["nq/qrels/test.tsv", "fiqa/qrels/test.tsv"])
    {'nq-qrels-test': 'nq/qrels/test.tsv', 'fiqa-qrels-test': 'fiqa/qrels/test.tsv'}
    """
    if value is None:
        return {}
    if is_by_role(value):
        value = {Path(str(value.get("qrels") or value["triples"])).name.split(".")[0]: value}
    if isinstance(value, dict):
        value = {name: describe_files(one) if is_by_role(one) else one for name, one in value.items()}
        problems = [f"{key}.{name}={path}: is no path" for name, path in value.items() if not is_path(path)]
        if problems:
            raise UserError(problems)
        by_name = {str(name): str(path) for name, path in value.items()}
        wrong = [name for name in by_name if not name or Path(name).name != name or name.startswith(".")]
        if wrong:
            raise UserError(f"{key}: {wrong[0]!r} cannot be a name: it becomes the name of a file")
        return by_name
    if not isinstance(value, (str, list)) or not all(isinstance(v, str) and v for v in _listed(value)):
        raise UserError(f"{key}={value}: allowed are PATH, [PATH, …] and {{NAME: PATH, …}}")
    paths: list[str] = _listed(value)
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{key}: {path} is given twice")
    return dict(zip(_short_names(paths), paths, strict=True))


def _tests(value: Any) -> dict[str, str]:
    tests = named("data.test", value)
    if not tests:
        raise UserError(
            f"data.test={value}: nothing is given; allowed are PATH, [PATH, …] and {{NAME: PATH, …}}"
        )
    taken = [name for name in tests if name.casefold() in WRITTEN]
    if taken:
        raise UserError(
            f"data.test: {taken[0]!r} cannot be the name of a collection: "
            "the summary writes a file of that name"
        )
    return tests


def _measures(value: Any) -> list[Measure]:
    """Parse one measure or several; a list with anything but texts is refused as a whole."""
    given = _listed(value)
    if not all(isinstance(text, str) for text in given):
        raise UserError(
            f"measures={value}: allowed are MEASURE and [MEASURE, …]; what has brackets is quoted twice, "
            "for Hydra and for the shell: 'measures=[nDCG@10,\"P@5(rel=2)\"]'"
        )
    return parse_measures(given)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _short_names(paths: list[str]) -> list[str]:
    """Return the last part of each path, with as many parts before it as tell them apart."""
    parts = [_name_parts(path) for path in paths]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["-".join(row[-length:]) for row in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{row[-1]}-{number}" for number, row in enumerate(parts, 1)]


def _name_parts(path: str) -> list[str]:
    """Return the parts that a name is made of; a folder keeps what looks like a suffix (`v1.5`)."""
    given = Path(path)
    last = given.name if given.is_dir() or "://" in path else given.stem
    return [part for part in (name.strip("/.") for name in (*given.parts[:-1], last)) if part] or ["data"]


def _absent(path: str) -> bool:
    return ":" not in path and not Path(path).exists()  # `hf://…` is looked for when it is read


def _number_problems(settings: EvalCommand) -> list[str]:
    problems = model_problems(settings.model)
    counts = {"depth": settings.depth, "tokens_per_batch": settings.tokens_per_batch}
    problems += above_zero({**counts, "threads": settings.threads, "max_queries": settings.max_queries})
    problems += seed_problems(settings.seed) + one_of("data.on_error", settings.data.on_error, ON_ERROR)
    gate = settings.gate
    if not math.isfinite(gate.min_delta):
        problems.append(f"gate.min_delta={gate.min_delta}: must be a number")
    if not 0 < gate.alpha <= 1:
        problems.append(f"gate.alpha={gate.alpha}: allowed is above 0 up to 1")
    if gate.measure is None:
        unused = [
            name for name in ("min_delta", "alpha") if getattr(gate, name) != getattr(GateSettings, name)
        ]
        problems += [
            f"gate.{name}={getattr(gate, name)}: there is no gate without gate.measure" for name in unused
        ]
    return problems


def _plan_collection(
    settings: EvalCommand,
    models: Mapping[str, EvalModelSettings],
    runs: Mapping[str, str],
    name: str,
    path: str,
) -> CollectionPlan:
    texts = not is_qrels(path)
    source, runs = settings.candidates, dict(runs)
    if not texts:
        source, runs = _without_texts(settings, models, runs, path)
    elif source == "auto" and runs and not models:
        source = ""  # nothing is reranked, so nothing is searched
    if source:
        source = resolve_source(source, settings.depth, path, settings.dense)
    first_stage = first_stage_name(source) if source else ""
    names = [system for system in (first_stage, *runs, *models) if system]
    _check_names(names, settings)
    default = next(iter(models)) if len(models) > 1 else names[0]
    baseline = settings.baseline or default
    if settings.gate.measure is not None and not {*names} - {baseline, first_stage}:
        raise UserError(
            f"gate.measure={settings.gate.measure}: nothing to judge: {baseline} is the baseline, "
            f"and the first stage {first_stage} is never judged; set baseline={first_stage} "
            "or give another system"
        )
    return CollectionPlan(name, path, texts, source, runs, first_stage, baseline)


def _without_texts(
    settings: EvalCommand, models: Mapping[str, EvalModelSettings], runs: Mapping[str, str], path: str
) -> tuple[str, dict[str, str]]:
    """Return source and runs for TREC qrels: no candidates; a candidates file is one more run, not cut."""
    problems = list(_needs_texts(settings, models, path))
    given = settings.candidates
    if given not in ("auto", *SEARCHED, *OWN):
        if not Path(given).is_file():
            problems.append(f"candidates {given!r}: no such file")
        runs = {Path(given).stem: given, **runs}
    if not runs and not problems:
        problems.append(f"nothing to evaluate: {path} is a TREC qrels file; give runs=[RUN, …]")
    if problems:
        raise UserError(problems)
    return "", dict(runs)


def _needs_texts(settings: EvalCommand, models: Mapping[str, EvalModelSettings], path: str) -> Iterator[str]:
    what = f"{path} is a TREC qrels file, which has no texts"
    if models:
        yield f"{what}: models cannot score; give a BEIR folder, or a file of its qrels/ that ends in .tsv"
    if settings.candidates in (*SEARCHED, *OWN):
        yield f"{what}: candidates={settings.candidates} is not possible; give runs=[RUN, …]"
    if settings.data.train is not None:
        yield f"{what}: data.train cannot be searched for its queries"
    if settings.add_missing_positives:
        yield f"{what}: add_missing_positives is not possible"


def _check_names(names: list[str], settings: EvalCommand) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(
            f"two systems are called {doubled[0]!r}; give other names in models={{NAME: PATH}} "
            "or runs={NAME: PATH}"
        )
    if not names:
        raise UserError(
            "nothing to evaluate: give model.path, models, runs, "
            "or candidates with a first stage (bm25, a run)"
        )
    if settings.baseline is not None and settings.baseline not in names:
        raise UserError(f"baseline={settings.baseline}: no such system; there are {', '.join(names)}")
    if settings.gate.measure is not None and len(names) < 2:
        raise UserError(f"gate.measure={settings.gate.measure}: {names[0]} has nothing to be compared with")
