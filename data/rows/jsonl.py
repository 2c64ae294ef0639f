"""FlagEmbedding JSONL, plain or compressed: one row a query, with `query`, `pos` and `neg`.

Optional are a teacher's scores, `pos_scores` and `neg_scores` (both or none), relevance above 0 of each
positive, `pos_grades` (Uprank's own key), and `query_prompt` and `passage_prompt`, which are put before the
texts. `prompt`, an instruction for generative rerankers, is not used.

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
from ..problems import Problems
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

# Only an escape can bring one in: half of a character, which no tokenizer and no file takes.
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_jsonl_rows(path: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a file, read as they are needed, see `parse_rows`; `.gz` and `.zst` are decompressed."""
    try:
        yield from parse_rows(read_lines(path), str(path), problems)
    except UserError as error:
        problems.extend(error.problems, "file")


def parse_rows(lines: Iterable[bytes], name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(name:line, object)` of each line that is a JSON object; note every other one.

    Blank lines are passed over. A byte order mark at the start is accepted.
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
            row = json.loads(raw.rstrip().decode("utf-8"))
        except UnicodeDecodeError as error:
            problems.add("encoding", f"{where}: not UTF-8 ({error.reason} at byte {error.start})")
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


def iterate_jsonl(path: Path, problems: Problems, *, need_negatives: bool = True) -> Iterator[Group]:
    """Groups of a JSONL file, in order; what is wrong with a row is added to `problems`.

    Duplicate passages within one row are kept once.
    """
    yield from groups_of(read_jsonl_rows(path, problems), problems, need_negatives=need_negatives)


def groups_of(
    rows: Iterable[tuple[str, dict[str, Any]]],
    problems: Problems,
    *,
    need_negatives: bool = True,
    notes: Problems | None = None,
) -> Iterator[Group]:
    """Groups of rows that come with where they stand, see `iterate_groups`; `notes` receives warnings."""
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
    """All groups of a JSONL file in memory, see `iterate_groups`."""
    return list(iterate_jsonl(path, problems, need_negatives=need_negatives))


def as_collection(path: Path, groups: Iterable[Group], names: Sequence[str] = ()) -> Collection:
    """Judged queries of rows: each ranks its own positives and negatives.

    A query's id is the number of its line, after that of its file where there are several; negatives are
    judged 0; pools are in the order of ids, because that of the rows knows what is relevant.

    Args:
        path: as the user gave it.
        groups: of the rows.
        names: of the files.
    """
    files = {name: f"{number}-" for number, name in enumerate(names, 1)} if len(names) > 1 else {}
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    pools: dict[str, list[str]] = {}
    own_queries, own_passages = set[str](), set[str]()
    for group in groups:
        name, _, line = group.where.rpartition(":")
        key = files.get(name, "") + line
        read = group.prompted
        own_queries |= {key} if group.query_prompt else set()
        judged = {passage_id(text): 0 for text in read.negatives}
        judged |= dict(zip(map(passage_id, read.positives), group.grades or repeat(1), strict=False))
        passages |= {passage_id(text): text for text in (*read.positives, *read.negatives)}
        queries[key], qrels[key], pools[key] = read.query, judged, sorted(judged)
        own_passages |= judged.keys() if group.passage_prompt else set()
    own = frozenset(own_queries), frozenset(own_passages)
    return Collection(str(path), queries, passages, qrels, pools, *own)


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
    """Scores of the positives and then of the negatives; none where only one of the two has any."""
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
    """A number for each text of `key`; None where the row has none."""
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
    """A warning for each text that a row repeats to the letter."""
    for role, texts in ("positive", positives), ("negative", negatives):
        first = set(_first_places(texts))
        for place, text in enumerate(texts):
            if place not in first:
                yield f"{role} stands more than once: {short(text)}; it is taken once"


def _first_places(texts: list[str]) -> Sequence[int]:
    """Where each distinct text stands first."""
    if len(set(texts)) == len(texts):
        return range(len(texts))
    places: dict[str, int] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, place)
    return list(places.values())
