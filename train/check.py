"""`uprank check`: every problem in the data, counts, lengths, and leaks between splits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..configs.check import model_problems
from ..configs.command import run
from ..configs.errors import UserError
from ..configs.schema import CheckCommand
from ..data.check import Leak, Summary, find_leaks, summarise
from ..data.groups import Group
from ..data.pairs import PairEncoder, choose_budgets
from ..data.read import is_beir, read_groups


def check(settings: CheckCommand) -> None:
    """Print what was found; exit code 1 when training on it would be wrong, 2 when nothing could be checked.

    Raises:
        UserError: no split was given, or the model's settings are wrong.
    """
    paths = {split: path for split, path in asdict(settings.data).items() if path}
    if not paths:
        raise UserError("nothing to check: set data.train, data.dev or data.test")
    wrong = model_problems(settings.model)
    if wrong:
        raise UserError(wrong)
    encoder = _encoder(settings)
    problems: list[str] = []
    splits: dict[str, Sequence[Group]] = {}
    for split, path in paths.items():
        # A folder is what negatives are mined from; rows are what a run learns from.
        needed = split == "train" and not is_beir(path)
        splits[split] = read_groups(path, problems, split=split, need_negatives=needed)
    if not any(Path(path).exists() for path in paths.values()):
        raise UserError(problems)
    leaks = find_leaks(splits)
    places = {
        (split, group.query): group.where
        for split, shared in _shared(leaks).items()
        for group in splits[split]
        if group.query in shared
    }
    problems += [
        f"{places[leak.second, text]}: query of {leak.second} is also in {leak.first}: {text!r:.80}"
        for leak in leaks
        for text in leak.queries
    ]
    console = Console()
    console.print(
        _table([summarise(split, paths[split], groups, encoder) for split, groups in splits.items()])
    )
    for line in [*_leak_lines(leaks), *_mining_lines(paths, splits)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(problems)} problems" if problems else "no problems", highlight=False)
    if problems:
        sys.exit(1)


def _shared(leaks: list[Leak]) -> dict[str, set[str]]:
    """Queries of each split that are also in an earlier one; no split that has none."""
    return {
        split: {text for leak in leaks if leak.second == split for text in leak.queries}
        for split in {leak.second for leak in leaks if leak.queries}
    }


def _encoder(settings: CheckCommand) -> PairEncoder | None:
    model = settings.model
    if not model.path:
        return None
    from ..model.load import load_tokenizer, stated_limits

    tokenizer = load_tokenizer(model.path, revision=model.revision)
    positions, stated = stated_limits(model.path, revision=model.revision)
    query_tokens, max_tokens = choose_budgets(
        tokenizer, model.query_tokens, model.max_tokens, positions=positions, stated=stated
    )
    return PairEncoder(tokenizer, query_tokens=query_tokens, max_tokens=max_tokens)


def _table(summaries: list[Summary]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    headers = ("split", "queries", "positives", "negatives", "repeated", "tokens 50/95/100 %", "cut")
    for place, header in enumerate(headers):
        table.add_column(header, justify="right" if place else "left")
    for summary in summaries:
        table.add_row(
            summary.split,
            f"{summary.queries:,}",
            f"{summary.positives:,}",
            f"{summary.negatives:,}",
            f"{summary.duplicates:,}",
            "/".join(map(str, summary.lengths)) if summary.lengths else "set model.path",
            "" if summary.truncated is None else f"{100 * summary.truncated:.1f} %",
        )
    return table


def _leak_lines(leaks: list[Leak]) -> list[str]:
    return [
        f"{leak.first} and {leak.second} share {len(leak.queries)} queries and {leak.passages:,} passages"
        for leak in leaks
    ]


def _mining_lines(paths: dict[str, str], splits: dict[str, Sequence[Group]]) -> list[str]:
    groups = splits.get("train", [])
    if not groups or any(group.negatives for group in groups):
        return []
    path = paths["train"]
    return [f"{path}: no negatives yet; before training: uprank mine data.train={path} output=train.jsonl"]


def main() -> None:
    """Run the command."""
    run("check", CheckCommand, check)
