"""FlagEmbedding JSONL, plain or compressed: one row a query, with `query`, `pos` and `neg`.

Optional keys: a teacher's `pos_scores` and `neg_scores` (both or none); `pos_grades`, the relevance above 0
of each positive (Uprank's own key); `query_prompt` and `passage_prompt`, which are put before the texts.
`prompt`, an instruction for generative rerankers, is not used.

Format: https://github.com/FlagOpen/FlagEmbedding/tree/master/examples/finetune/reranker#2-data-format
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ..groups import Collection, Group, passage_id, same_text
from ..problems import NOT_UTF8, Problems
from .fields import (
    CONTRADICTION,
    LARGEST_GRADE,
    LONE_SURROGATE,
    MISSING,
    NO_NEGATIVES,
    SCORES,
    has_lone_surrogate,
    is_number,
    kind_of_value,
    short,
    text_of,
    texts_of,
)
from .lines import read_lines

BROKEN, NO_OBJECT = "broken row", "a row is a JSON object, this is "

# Half of a character, which no tokenizer and no file takes, can only come from an escape.
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_jsonl_rows(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file, see `parse_rows`; `.gz` and `.zst` are decompressed."""
    try:
        yield from parse_rows(read_lines(path), str(path), problems)
    except UserError as error:
        problems.extend(error.problems, "file")


def parse_rows(lines: Iterable[bytes], name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(name:line, object)` of each line that is a JSON object; every other line is a problem.

    Blank lines and a byte order mark at the start are skipped.
    """
    empty = True
    for number, raw in enumerate(lines, 1):
        where = f"{name}:{number}"
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw.strip():
            continue
        empty = False
        try:
            row = json.loads(raw.rstrip().decode("utf-8"), object_pairs_hook=_once)
        except UnicodeDecodeError as error:
            problems.add("encoding", f"{where}: byte {error.start} is {NOT_UTF8}")
        except json.JSONDecodeError as error:
            problems.add(BROKEN, f"{where}: broken JSON ({error.msg} at character {error.pos + 1})")
        except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
            problems.add(BROKEN, f"{where}: broken JSON ({error})")
        else:
            if not isinstance(row, dict):
                problems.add(BROKEN, f"{where}: {NO_OBJECT}{kind_of_value(row)}")
            elif _LONE_SURROGATE.search(raw) and has_lone_surrogate(row):
                problems.add("encoding", f"{where}: {LONE_SURROGATE}")
            else:
                yield where, row
    if empty:
        problems.add("file", f"{name}: no rows")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys stand once; Python's reader would forget all but the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise ValueError(f"key {short(twice)} stands twice")
    return row


def groups_of(
    rows: Iterable[tuple[str, dict[str, Any]]],
    problems: Problems,
    *,
    need_negatives: bool = True,
    notes: Problems | None = None,
) -> Iterator[Group]:
    """Yield the group of each row, given as `(where, row)`, and add what is wrong to `problems`.

    Repeated passages of a row are kept once; `notes` receives warnings.
    """
    for where, row in rows:
        found = Problems()
        query = text_of(row.get("query"), "query", found, present="query" in row)
        positives = _texts(row, "pos", found)
        negatives = _texts(row, "neg", found)
        if row.get("pos") == []:
            found.add(MISSING, "`pos` is empty; a group needs at least one relevant passage")
        if need_negatives and row.get("neg") in (None, []):
            found.add("no negatives", NO_NEGATIVES)
        scores, grades = _scores(row, found), _grades(row, found)
        prompts = [_prompt(row, key, found) for key in ("query_prompt", "passage_prompt")]
        shared = {same_text(text) for text in positives} & {same_text(text) for text in negatives}
        found.extend((f"{CONTRADICTION}: {short(text)}" for text in sorted(shared)), "contradiction")
        if found:
            problems.extend(found, where=where)
        else:
            first, second = _first_places(positives), _first_places(negatives)
            if notes is not None and len(first) + len(second) < len(positives) + len(negatives):
                notes.extend(_repeated(positives, negatives), "duplicate passage", where=where)
            yield Group(
                query,
                tuple(positives[place] for place in first),
                tuple(negatives[place] for place in second),
                where,
                tuple(grades[place] for place in first) if grades else (),
                tuple(scores[place] for place in [*first, *(len(positives) + place for place in second)])
                if scores
                else (),
                *prompts,
            )


def read_jsonl(path: Path, problems: Problems, *, need_negatives: bool = True) -> list[Group]:
    """Read all groups of a JSONL file into memory."""
    return list(groups_of(read_jsonl_rows(path, problems), problems, need_negatives=need_negatives))


def as_collection(path: Path, groups: Iterable[Group], names: Sequence[str] = ()) -> Collection:
    """Turn groups into judged queries, each of which ranks its own positives and negatives.

    A query's id is the number of its line, after the number of its file if there are several. Negatives are
    judged 0. Pools are in the order of ids: the order of the rows gives away what is relevant.

    Args:
        path: the path as given.
        groups: the groups of the rows.
        names: names of the files.
    """
    files = {name: f"{number}-" for number, name in enumerate(names, 1)} if len(names) > 1 else {}
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    pools: dict[str, list[str]] = {}
    prompted_queries, prompted_passages = set[str](), set[str]()
    for group in groups:
        name, _, line = group.where.rpartition(":")
        key = files.get(name, "") + line
        texts = group.prompted
        judged = {passage_id(text): 0 for text in texts.negatives}
        judged |= dict(zip(map(passage_id, texts.positives), group.grades or repeat(1), strict=False))
        passages |= {passage_id(text): text for text in (*texts.positives, *texts.negatives)}
        queries[key], qrels[key], pools[key] = texts.query, judged, sorted(judged)
        prompted_queries |= {key} if group.query_prompt else set()
        prompted_passages |= judged.keys() if group.passage_prompt else set()
    prompted = frozenset(prompted_queries), frozenset(prompted_passages)
    return Collection(str(path), queries, passages, qrels, pools, *prompted)


def _texts(row: dict[str, Any], key: str, problems: Problems) -> list[str]:
    value = row.get(key)
    if value is None:
        if key == "pos":
            problems.add(MISSING, "`pos` is missing")
        return []
    if not isinstance(value, list):
        problems.add(MISSING, f"`{key}` is {kind_of_value(value)}, not a list of strings")
        return []
    return texts_of(value, key, problems)


def _scores(row: dict[str, Any], problems: Problems) -> list[float]:
    """Return the scores of the positives and then of the negatives; none if only one of the two has any."""
    if row.get("pos_scores") is None and row.get("neg_scores") is None:
        return []
    before = len(problems)
    values = [_numbers(row, key, f"{key}_scores", "number", problems) for key in ("pos", "neg")]
    whole = all(
        value is not None or not row.get(key) for key, value in zip(("pos", "neg"), values, strict=True)
    )
    if not whole and any(values) and len(problems) == before:
        problems.add(
            SCORES, "`pos_scores` and `neg_scores` go together: a teacher scores all passages of a row"
        )
    return [float(score) for value in values for score in value or ()] if whole else []


def _grades(row: dict[str, Any], problems: Problems) -> list[int]:
    if row.get("pos_grades") is None:
        return []
    values = _numbers(row, "pos", "pos_grades", "whole number above 0", problems) or []
    if all(isinstance(grade, int) and 0 < grade <= LARGEST_GRADE for grade in values):
        return values if any(grade != 1 for grade in values) else []
    problems.add(
        SCORES, f"`pos_grades` needs one whole number above 0 for each of its {len(values)} passages"
    )
    return []


def _numbers(row: dict[str, Any], key: str, name: str, kind: str, problems: Problems) -> list[Any] | None:
    """Return a number for each text of `key`; None if the row has none."""
    numbers, texts = row.get(name), row.get(key)
    count = len(texts) if isinstance(texts, list) else 0
    if numbers is None or (
        isinstance(numbers, list) and len(numbers) == count and all(map(is_number, numbers))
    ):
        return numbers
    problems.add(SCORES, f"`{name}` needs one {kind} for each of its {count} passages")
    return None


def _prompt(row: dict[str, Any], key: str, problems: Problems) -> str:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        problems.add(MISSING, f"`{key}` is {kind_of_value(value)}, not a string")
    return value if isinstance(value, str) else ""


def _repeated(positives: list[str], negatives: list[str]) -> Iterator[str]:
    """Yield a warning for each text that a row repeats to the letter."""
    for role, texts in ("positive", positives), ("negative", negatives):
        first = set(_first_places(texts))
        for place, text in enumerate(texts):
            if place not in first:
                yield f"{role} stands more than once: {short(text)}; it is taken once"


def _first_places(texts: list[str]) -> Sequence[int]:
    """Return the first index of each distinct text."""
    if len(set(texts)) == len(texts):
        return range(len(texts))
    return sorted({text: place for place, text in reversed(list(enumerate(texts)))}.values())
