"""`uprank check`: all problems of the data, counts, lengths, and leaks between splits."""

from __future__ import annotations

import dataclasses
import json
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import xxhash
from rich.console import Console

from ...configs.command import run
from ...configs.errors import UserError
from ...configs.schema_data import CheckCommand
from ...configs.validate import above_zero, model_problems, one_of, seed_problems
from ...data.checks import (
    CheckedSource,
    QueryIndex,
    check_splits,
    find_contradictions,
    pieces_of,
    report_match,
)
from ...data.encoding import PairEncoder, choose_budgets
from ...data.groups import Collection, Group, collection_fingerprint
from ...data.judged import describe_files
from ...data.problems import ERROR, KINDS, WARNING, Findings, Problems, require, severity
from ...data.prompts import Prompts, choose_prompts
from ...data.read import is_beir, read_groups
from ...data.sampling import sources_of
from ...data.store import Facts, GroupStore, fingerprint_of, make_entry
from .report import CheckReport, check_verdict, print_check_report

VERSION = 1  # of the check before training
EXAMPLES = 3  # shown of each kind of warning before training
BLOCK = 8192  # queries compared at a time
ROWS_OF_REPEATED_QUERIES = 20_000  # checked before training; `uprank check` checks all


def check(settings: CheckCommand) -> None:
    """Print a report; exit code 1 if training on the data would be wrong, 2 if nothing could be checked.

    Raises:
        UserError: no split is given, no source exists, or the settings are wrong.
    """
    named = {name: getattr(settings.data, name) for name in ("train", "dev", "test")}
    given = {name: sources_of(paths) for name, paths in named.items() if paths}
    _require_settings(settings, given)
    encoder, prompts = _encoder(settings)
    findings = Findings(settings.examples)
    problems = Problems()
    dropped = Problems() if settings.data.on_error == "skip" else None
    splits = {
        # Rows of dev and test are never dropped, here or in training: they prove something.
        name: [
            CheckedSource(
                describe_files(path), _read(name, path, problems, dropped if name == "train" else None)
            )
            for path in paths
        ]
        for name, paths in given.items()
    }
    everything = list(chain.from_iterable(splits.values()))
    if not any(source.groups for source in everything) and not any(
        _exists(path) for path in chain.from_iterable(given.values())
    ):
        raise UserError(problems)
    if dropped:
        problems += [
            f"{source.name}: no groups: every row has problems"
            for source in splits.get("train", [])
            if not len(source.groups) and Path(source.name).exists()
        ]
    findings.extend(problems)
    if dropped:
        findings.extend(dropped, "dropped")
    for source in everything:
        if isinstance(source.groups, GroupStore):  # warnings of rows that are groups all the same
            findings.extend(source.groups.problems.of(WARNING))
    summaries, shared = check_splits(splits, findings, encoder, prompts)
    notes = _mining_notes(splits)
    if settings.model.path and settings.noise_queries and "train" in splits:
        notes += _noise_notes(splits["train"], settings, findings)
    report = CheckReport.of(summaries, shared, notes, findings)
    if settings.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(report), ensure_ascii=False, indent=2) + "\n")
    else:
        print_check_report(report, Console())
    if report.errors:
        sys.exit(1)


def check_before_training(sources: Sequence[tuple[str, Sequence[Group]]], dev: Collection) -> list[str]:
    """Find in seconds what would spoil a run: dev queries in the training data, contradicting rows.

    The result is cached for the same data. Texts, passages and lengths are left to `uprank check`.

    Args:
        sources: name and groups of each training data set.
        dev: the held-out queries.

    Returns:
        Lines for the log: a summary, and the warnings.

    Raises:
        UserError: training or its figures would be wrong.
    """
    # The messages name the rows' places, which a fingerprint leaves out.
    names = [
        (name, fingerprint_of(groups), *(groups[place].where for place in (0, -1) if len(groups)))
        for name, groups in sources
    ]
    key = repr((names, dev.path, collection_fingerprint(dev)))

    def build(folder: Path) -> tuple[Facts, bool]:
        findings = Findings(limit=None)
        for _, groups in sources:
            _check_queries(groups, dev, findings)
        return findings.as_facts(), not findings.count(ERROR)

    entry = make_entry("checks", f"v{VERSION}-{xxhash.xxh3_128_hexdigest(key.encode())}", build)
    findings = Findings.from_facts(entry.facts)
    kinds = findings.ordered()
    errors = [text for kind in kinds if severity(kind) == ERROR for text in findings.examples[kind]]
    require(errors, advice="Take these rows out of the training data. `uprank check` says more.")
    groups = sum(len(groups) for _, groups in sources)
    summary = f"checked {groups:,} groups against {len(dev.queries):,} dev queries: "
    lines = [summary + check_verdict(0, findings.count(WARNING))]
    for _, groups_read in sources:
        lines += [f"columns: {note}" for note in getattr(groups_read, "problems", Problems()).of("columns")]
    for kind in kinds:
        lines.append(f"{findings.counts[kind]:,} x {KINDS[kind][1]}, as in")
        lines += [f"  {example}" for example in findings.examples[kind][:EXAMPLES]]
    return lines


def _check_queries(groups: Sequence[Group], dev: Collection, findings: Findings) -> None:
    ids = list(dev.queries)
    index = QueryIndex([dev.queries[query] for query in ids])
    keys = array("Q")
    texts = groups.queries() if isinstance(groups, GroupStore) else (group.query for group in groups)
    for block in _blocks(texts):
        start = len(keys)
        pieces = pieces_of(block)
        keys.frombytes(pieces.keys.tobytes())
        for match in index.matches(block, pieces):
            other = f"{dev.path} (query {ids[match.known]})"
            report_match(match, groups[start + match.place], other, findings)
    find_contradictions(keys, groups.__getitem__, findings, most=ROWS_OF_REPEATED_QUERIES)


def _blocks(texts: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(texts, BLOCK)):
        yield block


def _read(
    split: str, given: str | Mapping[str, Any], problems: Problems, dropped: Problems | None
) -> Sequence[Group]:
    # Negatives are mined from a folder; rows are trained on and need their own.
    needed = split == "train" and not (isinstance(given, str) and is_beir(given))
    return read_groups(given, problems, split=split, need_negatives=needed, skipped=dropped)


def _exists(given: str | Mapping[str, Any]) -> bool:
    return not isinstance(given, str) or Path(given).exists()


def _require_settings(settings: CheckCommand, given: Mapping[str, list[Any]]) -> None:
    if not given:
        raise UserError("nothing to check: set data.train, data.dev or data.test")
    problems = [
        f"data.{split}={path!r}: a path, or files by role {{qrels: Q, run: R, …}}, or several in a list"
        for split, paths in given.items()
        for path in paths
        if not isinstance(path, (str, Mapping))
    ]
    problems += model_problems(settings.model)
    problems += one_of("data.on_error", settings.data.on_error, ("stop", "skip"))
    problems += above_zero({"threads": settings.threads}) + seed_problems(settings.seed)
    for name in ("examples", "noise_queries"):
        if (getattr(settings, name) or 0) < 0:
            problems.append(f"{name}={getattr(settings, name)}: allowed are whole numbers from 0")
    if problems:
        raise UserError(problems)


def _encoder(settings: CheckCommand) -> tuple[PairEncoder | None, Prompts]:
    model = settings.model
    if not model.path:
        return None, Prompts()
    from ...model.load import load_tokenizer, stated_limits

    modules = model.backend == "sentence_transformers"
    positions, stated = stated_limits(model.path, revision=model.revision, modules=modules)
    tokenizer = load_tokenizer(model.path, revision=model.revision, modules=modules)
    query_tokens, max_tokens = choose_budgets(
        tokenizer, model.query_tokens, model.max_tokens, positions=positions, stated=stated
    )
    encoder = PairEncoder(tokenizer, query_tokens=query_tokens, max_tokens=max_tokens)
    return encoder, choose_prompts(model.query_prompt, model.passage_prompt, stated)


def _mining_notes(splits: Mapping[str, Sequence[CheckedSource]]) -> list[str]:
    return [
        f"{source.name}: no negatives yet; before training: "
        f"uprank mine data.train={source.name} output=train.jsonl"
        for source in splits.get("train", [])
        if source.groups and is_beir(source.name) and not any(group.negatives for group in source.groups)
    ]


def _noise_notes(sources: Sequence[CheckedSource], settings: CheckCommand, findings: Findings) -> list[str]:
    from .label_noise import find_noise

    found = find_noise(sources, settings, findings)
    if found is None:
        return [f"label noise: not measured, as {settings.model.path} has no trained head"]
    looked, suspect = found
    if not looked:
        return ["label noise: not measured, as no row of data.train has negatives"]
    return [f"label noise: in {suspect:,} of {looked:,} groups the model ranks a negative over a positive"]


def main() -> None:
    """Run the command."""
    sys.argv = [sys.argv[0], *("json=true" if word == "--json" else word for word in sys.argv[1:])]
    run("check", CheckCommand, check)
