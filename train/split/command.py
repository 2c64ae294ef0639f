"""`uprank split`: part judged queries into train, dev and test."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...configs.command import run
from ...configs.errors import UserError
from ...configs.schema_data import SplitCommand
from ...configs.validate import ON_ERROR, one_of, output_problems, seed_problems
from ...data.groups import Collection, Group, same_query, same_text
from ...data.judged import describe_files, given_files
from ...data.origin import write_origin
from ...data.problems import Problems, require
from ...data.read import is_beir, read_groups, read_judged
from ...data.store import write_folder
from .components import SPLITS, assign, components


def split(settings: SplitCommand) -> None:
    """Write the splits to a new folder and print their sizes.

    Raises:
        UserError: wrong data or settings, or a split would be empty; nothing is written.
    """
    problems = Problems(("row", text) for text in _setting_problems(settings))
    paths = settings.data if isinstance(settings.data, list) else [settings.data]
    whole = len(paths) == 1 and _has_corpus(paths[0])
    skip = settings.on_error == "skip"
    skipped = Problems()
    if whole:
        collection = read_judged(paths[0], problems, split="train", skip=skip)
        require(problems)
        assert collection is not None  # a collection that could not be read left a problem
        write: Any = partial(_write_collection, collection)
        names, keys = _judged_keys(collection, settings.by)
    else:
        groups: list[Group] = []
        for path in paths:
            if _has_corpus(path):
                problems.add("file", f"{_described(path)}: has a corpus of its own; split it by itself")
                continue
            groups += read_groups(path, problems, need_negatives=False, skipped=skipped if skip else None)
        require(problems)
        write = partial(_write_groups, groups)
        names, keys = _group_keys(groups, settings.by)
    parts = components(keys)
    shares = {"dev": settings.dev, "test": settings.test}
    splits = assign(parts, names, shares, settings.seed)
    _require_all(splits, shares, parts)
    given = [given_files(path) for path in paths]

    def write_all(folder: Path) -> None:
        write(splits, folder)
        write_origin(folder, given, "uprank split")

    write_folder(Path(settings.output), write_all)
    sys.stdout.write(_told(settings, splits, parts, len(skipped)))


def _setting_problems(settings: SplitCommand) -> list[str]:
    problems = one_of("by", settings.by, ("query", "passage"))
    problems += one_of("on_error", settings.on_error, ON_ERROR) + seed_problems(settings.seed)
    for name in ("dev", "test"):
        value = getattr(settings, name)
        if not 0 <= value < 1:
            problems.append(f"{name}={value}: a share of the queries, from 0 to below 1")
    if settings.dev + settings.test >= 1 or settings.dev + settings.test <= 0:
        problems.append(f"dev={settings.dev} test={settings.test}: together above 0 and below 1")
    output = Path(settings.output)
    problems += output_problems(output)
    if output.exists():
        problems.append(f"output={output}: exists; nothing was overwritten")
    return problems


def _has_corpus(path: Any) -> bool:
    return not isinstance(given_files(path), str) or is_beir(path)


def _judged_keys(collection: Collection, by: str) -> tuple[list[str], list[list[str]]]:
    """Return the texts of the queries, and what connects each with others."""
    names, keys = list(collection.queries.values()), []
    for query, text in collection.queries.items():
        relevant = [f"p {doc}" for doc, grade in collection.qrels[query].items() if grade > 0]
        keys.append([f"q {same_query(text)}", *(relevant if by == "passage" else [])])
    return names, keys


def _group_keys(groups: Sequence[Group], by: str) -> tuple[list[str], list[list[str]]]:
    names, keys = [group.query for group in groups], []
    for group in groups:
        relevant = [f"p {same_text(text)}" for text in group.positives]
        keys.append([f"q {same_query(group.query)}", *(relevant if by == "passage" else [])])
    return names, keys


def _require_all(splits: Sequence[str], shares: Mapping[str, float], parts: Sequence[Sequence[int]]) -> None:
    empty = [name for name in SPLITS if shares.get(name, 1.0) > 0 and name not in splits]
    if empty:
        largest = max(map(len, parts), default=0)
        raise UserError(
            [f"{name} would have no query: {len(splits):,} queries, at most {largest:,} of them connected"
             for name in empty],
            advice="Give a larger share, more data, or by=query.",
        )  # fmt: skip


def _write_collection(collection: Collection, splits: Sequence[str], folder: Path) -> None:
    """Write a BEIR folder whose `qrels/` has the splits."""
    (folder / "qrels").mkdir()
    for name, texts in ("queries", collection.queries), ("corpus", collection.passages):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(_line({"_id": key, "text": text}) for key, text in texts.items())
    for name in set(splits):
        with (folder / "qrels" / f"{name}.tsv").open("w", encoding="utf-8") as stream:
            stream.write("query-id\tcorpus-id\tscore\n")
            for query, own in zip(collection.queries, splits, strict=True):
                if own == name:
                    rows = collection.qrels[query].items()
                    stream.writelines(f"{query}\t{doc}\t{grade}\n" for doc, grade in rows)


def _write_groups(groups: Sequence[Group], splits: Sequence[str], folder: Path) -> None:
    """Write rows with FlagEmbedding's keys."""
    for name in set(splits):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(
                _line(_row(group)) for group, own in zip(groups, splits, strict=True) if own == name
            )


def _row(group: Group) -> dict[str, Any]:
    row: dict[str, Any] = {"query": group.query, "pos": list(group.positives), "neg": list(group.negatives)}
    if group.grades:
        row["pos_grades"] = list(group.grades)
    if group.scores:
        count = len(group.positives)
        row |= {"pos_scores": list(group.scores[:count]), "neg_scores": list(group.scores[count:])}
    prompts = {"query_prompt": group.query_prompt, "passage_prompt": group.passage_prompt}
    return row | {key: text for key, text in prompts.items() if text}


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _told(settings: SplitCommand, splits: Sequence[str], parts: Sequence[Sequence[int]], skipped: int) -> str:
    counts = Counter(splits)
    sizes = ", ".join(f"{name} {counts[name]:,}" for name in reversed(SPLITS) if counts[name])
    lines = [f"{settings.output}: {sizes} queries of {_described(settings.data)}"]
    if settings.by == "passage":
        lines.append(
            f"no relevant passage is in two splits: {len(parts):,} sets of connected queries, the largest "
            f"has {max(map(len, parts)):,}"
        )
    if skipped:
        lines.append(f"problems of rows that were left out: {skipped:,}")
    return "\n".join(lines) + "\n"


def _described(data: Any) -> str:
    """Return the setting in one line."""
    return ", ".join(map(describe_files, data)) if isinstance(data, list) else describe_files(data)


def main() -> None:
    """Run the command."""
    run("split", SplitCommand, split)


if __name__ == "__main__":
    main()
