"""Turn rows of any file and shape into groups: check them, and merge those of one query."""

from __future__ import annotations

import logging
import marshal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ..groups import Group, same_text
from ..problems import Problems
from ..store import merged
from .columns import ALLOWED, Shape, describe, find_shape, unread_numbers, why_no_text
from .fields import (
    CONTRADICTION,
    MISSING,
    NO_NEGATIVES,
    SCORES,
    kind_of_value,
    plain_row,
    short,
    text_of,
    texts_of,
    whole_number,
)
from .files import ARROW_KINDS, Row, kind_of_file, read_rows
from .jsonl import groups_of
from .lines import compression

log = logging.getLogger(__name__)

SAMPLED = 100  # rows by which the columns of a table are recognised
EXPANDED = 6  # a compressed or columnar file may grow by this factor as texts
LABEL = (
    "has to be a whole number (above 0 relevant, 0 not relevant, below 0 unjudged); "
    "a teacher's scores belong in pos_scores and neg_scores"
)

Judged = list[tuple[int, str]]  # relevance (above 0 positive, 0 negative, below 0 unjudged) and text
GroupRow = tuple[str, str, Judged]  # where, query, passages


@dataclass(frozen=True)
class RowTable:
    """Table whose rows share their columns.

    Attributes:
        name: name of the file, for messages.
        rows: reads the rows from the start; gets the collector of problems.
        size: approximate size of the texts in bytes.
        separated: True if all cells are texts, as in CSV.
    """

    name: str
    rows: Callable[[Problems], Iterator[Row]]
    size: int = 0
    separated: bool = False


def tables_of(files: Sequence[Path]) -> list[RowTable]:
    """Return a table for each file."""
    tables = []
    for file in files:
        kind = kind_of_file(file)
        size = file.stat().st_size * (EXPANDED if compression(file) or kind in ARROW_KINDS else 1)
        tables.append(RowTable(str(file), partial(_plain_rows, file), size, kind in ("csv", "tsv")))
    return tables


def _plain_rows(file: Path, problems: Problems) -> Iterator[Row]:
    for where, row in read_rows(file, str(file), problems):
        yield where, plain_row(row)


def iterate_tables(
    tables: Sequence[RowTable],
    problems: Problems,
    *,
    need_negatives: bool = True,
    merge: bool = True,
    notes: Problems | None = None,
) -> Iterator[Group]:
    """Yield the groups of tables as they are read.

    Rows with lists of passages are groups, in their order. Rows of pairs, n-tuples and labelled pairs are
    merged by query over all tables, in the order of their first rows; they come last.

    Args:
        tables: the tables to read.
        problems: receives the problems.
        need_negatives: True makes a group without negatives a problem.
        merge: False makes every row a group.
        notes: receives warnings of rows that are groups all the same.
    """
    to_merge: list[tuple[RowTable, Shape]] = []
    for table in tables:
        shape = _shape(table, problems, need_negatives, notes)
        if shape is None:
            continue
        if shape.groups:
            rows = table.rows(problems)
            yield from groups_of(rows, problems, need_negatives=need_negatives, notes=notes)
        elif merge and not shape.lists:
            to_merge.append((table, shape))
        else:
            for row in _read(table, shape, problems):
                yield from _group([row], problems, need_negatives)
    if to_merge:
        yield from _merged(to_merge, problems, need_negatives)


def _shape(table: RowTable, problems: Problems, need_negatives: bool, notes: Problems | None) -> Shape | None:
    """Return the shape of a table by its first rows; None, with a problem added, if it cannot be read."""
    first = [row for _, row in islice(table.rows(Problems()), SAMPLED)]
    if not first:  # there are only problems
        for _ in table.rows(problems):
            pass
        return None
    shape = find_shape(first, separated=table.separated)
    if shape is None:
        columns = describe(first) or "not the same in its rows"
        problems.add("file", f"{table.name}: its columns are {columns}; allowed are {ALLOWED}")
    elif column := unread_numbers(first, shape):
        problems.add(
            "file",
            f"{table.name}: {column} has {why_no_text(first, column)} and is not read ({shape}): "
            "if it is the relevance, call it `label`, else leave it out",
        )
        return None
    elif need_negatives and not (shape.negatives or shape.label):
        problems.add(
            "file",
            f"{table.name}: has no negatives ({shape}); find hard ones first: "
            f"uprank mine data.train={table.name} corpus=PASSAGES.jsonl output=train.jsonl",
        )
        return None
    elif not shape.groups or shape.unused:
        log.info("%s: %s", table.name, shape)
    if shape is not None and not shape.groups and (shape.by_order or shape.unused) and notes is not None:
        notes.add("columns", f"{table.name}: {shape}")
    return shape


def _merged(
    tables: Sequence[tuple[RowTable, Shape]], problems: Problems, need_negatives: bool
) -> Iterator[Group]:
    def rows() -> Iterator[tuple[bytes, bytes]]:
        for table, shape in tables:
            for where, query, judged in _read(table, shape, problems):
                yield query.encode(), marshal.dumps((where, judged))

    for query, payloads in merged(rows(), sum(table.size for table, _ in tables)):
        same = [(where, query.decode(), judged) for where, judged in map(marshal.loads, payloads)]
        yield from _group(same, problems, need_negatives)


def _read(table: RowTable, shape: Shape, problems: Problems) -> Iterator[GroupRow]:
    """Yield each row without problems, with its passages and their relevance."""
    for where, row in table.rows(problems):
        found = Problems()
        query = text_of(row.get(shape.query), shape.query, found, present=shape.query in row)
        texts = _passages(row, shape.passages, found)
        judged = [(1, text) for text in texts]
        if shape.label:
            judged = list(zip(_labels(row, shape, found), texts, strict=False))
        for column in shape.negatives:
            if row.get(column) is not None:  # rows may have fewer than the table has columns
                judged += [(0, text) for text in _passages(row, column, found)]
        if found:
            problems.extend(found, where=where)
        else:
            yield where, query, judged


def _group(rows: Sequence[GroupRow], problems: Problems, need_negatives: bool) -> Iterator[Group]:
    """Yield the group of rows with the same query; nothing if it has problems."""
    where, query, _ = rows[0]
    found = Problems()
    grades: dict[str, tuple[int, str]] = {}  # text to its relevance and place
    seen: dict[str, tuple[bool, str]] = {}  # `same_text` to `relevance > 0` and place
    for at, _, judged in rows:
        for grade, text in judged:
            if grade < 0:
                continue
            relevant, before = seen.setdefault(same_text(text), (grade > 0, at))
            grade_before, grade_at = grades.setdefault(text, (grade, at))
            if relevant != (grade > 0):
                found.add("contradiction", f"{CONTRADICTION}: {short(text)}{_others(before, at, where)}")
            elif grade_before != grade:
                both = f"{grade_before} and {grade}"
                found.add(
                    "contradiction",
                    f"a passage is judged {both}: {short(text)}{_others(grade_at, at, where)}",
                )
    positives = [text for text, (grade, _) in grades.items() if grade > 0]
    negatives = [text for text, (grade, _) in grades.items() if grade == 0]
    if not positives:
        found.add(MISSING, "no passage of this query is relevant; a group needs at least one")
    if need_negatives and not negatives:
        found.add("no negatives", NO_NEGATIVES)
    if found:
        problems.extend(found, where=where)
        return
    relevance = tuple(grades[text][0] for text in positives)
    graded = relevance if any(grade != 1 for grade in relevance) else ()
    yield Group(query, tuple(positives), tuple(negatives), where, graded)


def _others(first: str, second: str, where: str) -> str:
    """Return the places of a contradiction other than the one where it is reported."""
    file = where.rpartition(":")[0] + ":"
    places = dict.fromkeys(place for place in (first, second) if place != where)
    return "".join(
        f" (line {place.removeprefix(file)})" if place.startswith(file) else f" ({place})" for place in places
    )


def _passages(row: Mapping[str, Any], column: str, problems: Problems) -> list[str]:
    """Return a text, or a list of texts, as a list."""
    value = row.get(column)
    if isinstance(value, list):
        return texts_of(value, column, problems)
    return [text_of(value, column, problems, present=column in row)]


def _labels(row: Mapping[str, Any], shape: Shape, problems: Problems) -> list[int]:
    """Return a label for each passage."""
    column, passages, value = shape.label, row.get(shape.passages), row.get(shape.label)
    count = len(passages) if isinstance(passages, list) else 1
    values = value if isinstance(value, list) else [value]
    grades = [whole_number(given) for given in values]
    if len(values) != count:
        problems.add(SCORES, f"`{column}` has {len(values)} labels for {count} passages")
    for given, grade in zip(values, grades, strict=True):
        if grade is None:
            problems.add(SCORES, f"`{column}` {_shown(given)} {LABEL}")
    return [grade for grade in grades if grade is not None]


def _shown(value: object) -> str:
    if isinstance(value, str):
        return short(value)
    return str(value)[:60] if isinstance(value, float) else f"({kind_of_value(value)})"
