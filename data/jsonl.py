"""FlagEmbedding JSONL, plain or compressed: one row a query, with `query`, `pos` and `neg`.

Format: https://github.com/FlagOpen/FlagEmbedding/tree/master/examples/finetune/reranker#2-data-format
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..configs.errors import UserError
from .groups import Collection, Group, passage_id, same_text
from .lines import read_lines

# Only an escape can bring one in: half of a character, which no tokenizer and no file takes.
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_rows(path: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a file, read as they are needed, see `parse_rows`; `.gz` and `.zst` are decompressed."""
    try:
        yield from parse_rows(read_lines(path), str(path), problems)
    except UserError as error:
        problems += error.problems


def parse_rows(
    lines: Iterable[bytes], name: str, problems: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
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
            problems.append(f"{where}: not UTF-8 ({error.reason} at byte {error.start})")
        except json.JSONDecodeError as error:
            problems.append(f"{where}: broken JSON ({error.msg} at character {error.pos + 1})")
        except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
            problems.append(f"{where}: broken JSON ({error})")
        else:
            if not isinstance(row, dict):
                problems.append(f"{where}: a row is a JSON object, this is {_kind(row)}")
            elif _LONE_SURROGATE.search(raw) and _has_lone_surrogate(row):
                problems.append(
                    f"{where}: an escape \\ud800 to \\udfff without its other half is no character"
                )
            else:
                yield where, row
    if empty:
        problems.append(f"{name}: no rows")


def iterate_groups(path: Path, problems: list[str], *, need_negatives: bool = True) -> Iterator[Group]:
    """Groups of a JSONL file, in order; what is wrong with a row is added to `problems`.

    Duplicate passages within one row are kept once.
    """
    yield from groups_of(read_rows(path, problems), problems, need_negatives=need_negatives)


def groups_of(
    rows: Iterable[tuple[str, dict[str, Any]]], problems: list[str], *, need_negatives: bool = True
) -> Iterator[Group]:
    """Groups of rows that come with where they stand, see `iterate_groups`."""
    for where, row in rows:
        found: list[str] = []
        query = _text(row, "query", found)
        positives = _texts(row, "pos", found)
        negatives = _texts(row, "neg", found)
        if row.get("pos") == []:
            found.append("`pos` is empty; a group needs at least one relevant passage")
        if need_negatives and row.get("neg") in (None, []):
            found.append("no negatives; give `neg`, or find hard ones with `uprank mine`")
        for name in ("pos", "neg"):
            found += _score_problems(row, name)
        shared = {same_text(text) for text in positives} & {same_text(text) for text in negatives}
        found += [f"a positive is also a negative: {_short(text)}" for text in sorted(shared)]
        if found:
            problems += [f"{where}: {problem}" for problem in found]
        else:
            yield Group(query, _unique(positives), _unique(negatives), where)


def read_groups(path: Path, problems: list[str], *, need_negatives: bool = True) -> list[Group]:
    """All groups of a JSONL file in memory, see `iterate_groups`."""
    return list(iterate_groups(path, problems, need_negatives=need_negatives))


def as_collection(path: Path, groups: Iterable[Group]) -> Collection:
    """Judged queries of JSONL rows: each ranks its own positives and negatives.

    A query's id is the number of its line; negatives are judged 0; pools are in the order of ids, because
    that of the rows knows what is relevant.
    """
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    pools: dict[str, list[str]] = {}
    for group in groups:
        key = group.where.rpartition(":")[2]
        judged = {passage_id(text): 0 for text in group.negatives}
        judged |= {passage_id(text): 1 for text in group.positives}
        passages |= {passage_id(text): text for text in (*group.positives, *group.negatives)}
        queries[key], qrels[key], pools[key] = group.query, judged, sorted(judged)
    return Collection(str(path), queries, passages, qrels, pools)


def _text(row: dict[str, Any], key: str, problems: list[str]) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        problems.append(
            f"`{key}` is missing" if key not in row else f"`{key}` is {_kind(value)}, not a string"
        )
        return ""
    if not value.strip():
        problems.append(f"`{key}` is an empty text")
    return value


def _texts(row: dict[str, Any], key: str, problems: list[str]) -> list[str]:
    value = row.get(key)
    if value is None:
        if key == "pos":
            problems.append("`pos` is missing")
        return []
    if not isinstance(value, list):
        problems.append(f"`{key}` is {_kind(value)}, not a list of strings")
        return []
    for index, text in enumerate(value):
        if not isinstance(text, str):
            problems.append(f"`{key}[{index}]` is {_kind(text)}, not a string")
        elif not text.strip():
            problems.append(f"`{key}[{index}]` is an empty text")
    return [text for text in value if isinstance(text, str)]


def _score_problems(row: dict[str, Any], key: str) -> list[str]:
    scores, texts = row.get(f"{key}_scores"), row.get(key)
    count = len(texts) if isinstance(texts, list) else 0
    if scores is None or (isinstance(scores, list) and len(scores) == count and all(map(_is_number, scores))):
        return []
    return [f"`{key}_scores` needs one number for each of its {count} passages"]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_lone_surrogate(row: dict[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _unique(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _short(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
