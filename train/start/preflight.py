"""The inputs of a training run, read and checked before the model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...configs.errors import UserError, collect
from ...configs.schema_train import TrainCommand
from ...configs.validate_loss import NEEDS, chosen_losses, needs_teacher
from ...configs.validate_train import check_train
from ...data.groups import Collection, Group, collection_fingerprint, same_query
from ...data.judged import describe_files
from ...data.problems import Problems, require
from ...data.read import iterate_groups, read_groups, read_judged
from ...data.sampling import DataSource, Mix, Stream, look_ahead, share_groups, sources_of
from ...data.store import fingerprint_of
from ...eval.measures import parse_measures
from ...eval.retrieval import resolve_source
from ...model.locate import locate, require_on_hub
from ..check import check_before_training
from ..dev import Dev, make_dev
from ..losses import data_problems
from ..optim import sharding_problems
from ..run_folder import prepare_folder, read_manifest
from .launchers import launch_problems


@dataclass(frozen=True)
class Inputs:
    """The data of a run.

    Attributes:
        mix: the training groups in training order.
        dev: the dev queries with their candidates.
        dev_fingerprint: fingerprint of the dev queries.
        lines: lines from the check of the data.
        resuming: True if the output folder holds a run to continue.
    """

    mix: Mix
    dev: Dev
    dev_fingerprint: str
    lines: list[str]
    resuming: bool


def read_inputs(settings: TrainCommand) -> Inputs:
    """Check settings, paths and data.

    Raises:
        UserError: with all problems together.
    """
    output = Path(settings.output)
    if isinstance(settings.data.dev, Mapping):  # files by role become one line
        settings.data.dev = describe_files(settings.data.dev)
    problems = Problems()
    problems += launch_problems()
    problems += sharding_problems(settings)
    collect(problems, check_train, settings)
    collect(problems, parse_measures, settings.dev.measures)
    asked = settings.dev
    collect(problems, resolve_source, asked.candidates, asked.depth, str(settings.data.dev), asked.dense)
    model = settings.model
    if location := collect(problems, locate, model.path):
        collect(problems, require_on_hub, model.path, location, model.revision)
    resuming = not settings.plan and bool(collect(problems, prepare_folder, output, settings))
    mix, collection, lines = _read_data(settings, problems)
    fingerprint = collection_fingerprint(collection)
    if resuming:
        _require_same_data(output, mix, fingerprint)
    dev = make_dev(collection, settings.dev, output / "eval", seed=settings.seed)
    return Inputs(mix, dev, fingerprint, lines, resuming)


def _read_data(settings: TrainCommand, problems: Problems) -> tuple[Mix, Collection, list[str]]:
    """Read training groups and dev queries, and the lines of their check that do not forbid training.

    Raises:
        UserError: their problems, together with those found before.
    """
    collection = None
    if isinstance(settings.data.dev, str) and settings.data.dev:
        collection = read_judged(settings.data.dev, problems, split="dev")
    refuse = _refuser(settings, collection)
    sources = [
        _read_source(given, settings, number, refuse, problems)
        for number, given in enumerate(sources_of(settings.data.train))
        if isinstance(given, (str, Mapping))
    ]
    require(problems)
    assert collection is not None  # a collection that could not be read left a problem
    shares = share_groups([source.length for source in sources], settings.data.mix)
    problems += [
        f"data.mix={settings.data.mix}: {source.name} would have no group in an epoch of {sum(shares):,}"
        for source, share in zip(sources, shares, strict=True)
        if not share
    ]
    require(problems)
    mix = Mix(sources, shares, seed=settings.seed)
    if settings.data.streaming:
        return mix, collection, []
    require(data_problems(settings, mix))
    read = [(source.name, source.groups) for source in sources if not isinstance(source.groups, Stream)]
    return mix, collection, check_before_training(read, collection)


def _read_source(
    given: str | Mapping[str, Any],
    settings: TrainCommand,
    number: int,
    refuse: Callable[[Group], str],
    problems: Problems,
) -> DataSource:
    """Read one data set of `data.train`, or the first rows of a stream; add its faults to `problems`."""
    data, skip = settings.data, settings.data.on_error == "skip"
    if data.streaming:
        if not isinstance(given, str):
            problems.add("file", f"data.streaming=true: {dict(given)} is joined by ids; give files of rows")
            return DataSource(given, [], "")
        read = partial(iterate_groups, given)
        stream = Stream(
            given, read, number=number, block=data.stream_block, seed=settings.seed, refuse=refuse, skip=skip
        )
        return DataSource(given, stream, look_ahead(given, read, refuse, problems, skip=skip))
    before, skipped = len(problems), Problems()
    groups = read_groups(given, problems, skipped=skipped if skip else None)
    source = DataSource(given, groups, fingerprint_of(groups), list(skipped))
    if not groups and len(problems) == before:
        why = f": every row has problems, the first is {skipped[0]}" if skipped else ""
        problems.add("file", f"{source.name}: no groups{why}")
    return source


def _refuser(settings: TrainCommand, dev: Collection | None) -> Callable[[Group], str]:
    """Return a check of a stream's rows for what other data are checked for before training."""
    asked = {same_query(text) for text in dev.queries.values()} if dev else set()
    known = NEEDS.keys() >= chosen_losses(settings.loss).keys()  # else the settings are refused
    scored = known and needs_teacher(settings.loss)

    def refuse(group: Group) -> str:
        if same_query(group.query) in asked:
            return f"{group.where}: query is also in {settings.data.dev}: {group.query!r:.80}"
        if scored and not group.scores:
            return f"{group.where}: no pos_scores and neg_scores, from which the loss learns"
        return ""

    return refuse


def _require_same_data(output: Path, mix: Mix, dev_fingerprint: str) -> None:
    old = read_manifest(output).get("data") or {}
    dev, train = (old.get(name) or {} for name in ("dev", "train"))
    changed = [] if dev.get("fingerprint") == dev_fingerprint else ["data.dev"]
    if train.get("fingerprint") != mix.fingerprint:
        before = [source.get("fingerprint") for source in train.get("sources") or []]
        here = [source.name for source in mix.sources if source.fingerprint not in before]
        which = f" ({', '.join(here)})" if len(before) > 1 and here else ""
        changed.insert(0, f"data.train{which}")
    if changed:
        raise UserError(
            [f"{name} has changed since the run in {output} began" for name in changed],
            advice="Give a new output folder to start anew, or put the old data back to continue.",
        )
