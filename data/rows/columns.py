"""Recognise a table's columns: the query, the passages, and their relevance.

Tables are read as by sentence-transformers (pairs, triplets, n-tuples, labelled pairs, labelled lists), and
mteb's reranking rows. Columns are recognised by their names, the others by their order.
https://sbert.net/docs/cross_encoder/training_overview.html#dataset-format
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .fields import LABELS, kind_of_value, whole_number

ALLOWED = (
    "query, pos, neg (lists of texts); query, positive, negative or negative_1, negative_2, … "
    "(texts or lists); "
    "two columns of texts and a label; a query, a list of passages and a list of labels"
)
# sentence-transformers knows the first four.
GROUP_COLUMNS = (
    *("query", "pos", "neg", "pos_scores", "neg_scores", "pos_grades"),
    *("query_prompt", "passage_prompt", "prompt"),
)
# One word with a digit, or an address, names something; Chinese texts have no spaces but are not ASCII.
_IDS = re.compile(r"(?=.*[0-9])[A-Za-z0-9_.:#-]{1,64}|https?://\S+")
_ID = re.compile(r"(.*[_-])?(id|idx|index|uuid)|unnamed: 0|__index_level_0__|", re.IGNORECASE)
_QUERY = ("query", "queries", "query_text", "question", "anchor", "sentence1", "sentence_1", "sentence_a")
_POSITIVE = (
    *("positive", "positives", "pos", "positive_passage", "positive_passages", "answer", "answers"),
    *("passage", "passages", "document", "documents", "docs", "response", "responses"),
    *("sentence2", "sentence_2", "sentence_b"),
)
_NEGATIVE = re.compile(r"(hard[_-]?)?neg(ative)?s?([_-].*|\d+)?|sentence_?([3-9]|[c-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Shape:
    """Columns by which the rows of one file are read.

    Attributes:
        query: column of the query.
        passages: column of the positives, or of the labelled passages.
        negatives: columns of negatives.
        label: column of the labels; empty without one.
        lists: True if a row lists all passages of its query; such rows are not merged.
        unused: columns that are not read.
        groups: True for FlagEmbedding rows.
        by_order: True if a column was recognised by its order only.
    """

    query: str
    passages: str
    negatives: tuple[str, ...] = ()
    label: str = ""
    lists: bool = False
    unused: tuple[str, ...] = ()
    groups: bool = False
    by_order: bool = False

    def __str__(self) -> str:
        pairs = [(self.query, "query"), (self.passages, "passages" if self.label else "positive")]
        pairs += [(name, "negative") for name in self.negatives] + [(self.label, "relevance")]
        parts = [f"{name} = {role}" for name, role in pairs if name]
        return ", ".join([*parts, *(f"{name} is not used" for name in self.unused)])


def find_shape(rows: Sequence[Mapping[str, Any]], *, separated: bool = False) -> Shape | None:
    """Return the shape of a file by its first rows; None if it is unknown.

    Args:
        rows: the first rows; columns that most of them have are the columns of the file.
        separated: CSV or TSV, whose cells are texts: `pos` and `neg` are then columns like any other.

    >>> str(find_shape([{"idx": 3, "premise": "a", "hypothesis": "b"}]))
    'premise = query, hypothesis = positive'
    >>> str(find_shape([{"label": 1, "answer": "a", "question": "b"}]))
    'question = query, answer = passages, label = relevance'
    """
    columns = columns_of(rows)
    if not separated and {"query", "pos"} <= set(columns):
        unknown = tuple(column for column in columns if column not in GROUP_COLUMNS)
        return Shape("query", "pos", ("neg",), lists=True, unused=unknown, groups=True)
    names = {column: column.strip().lower() for column in columns}
    labels = [column for column in columns if names[column] in LABELS]
    texts = [column for column in columns if not _ID.fullmatch(names[column]) and column not in labels]
    if len(labels) > 1:
        return None
    query, passages = (_named(texts, names, known) for known in (_QUERY, _POSITIVE))
    others = [column for column in texts if column not in (query, passages)]
    negatives = [column for column in others if _NEGATIVE.fullmatch(names[column])]
    unused = [column for column in others if column not in negatives]
    known = bool(query and passages)
    if not known:
        # By its order a column is a passage only if its values can be: no numbers, ids or class names.
        in_order = iter([column for column in unused if not why_no_text(rows, column, query=not query)])
        query = query or next(in_order, "")
        in_order = iter([column for column in in_order if not why_no_text(rows, column)])
        passages = passages or next(in_order, "")
        negatives = negatives or list(in_order)
        unused = [column for column in unused if column not in (query, passages, *negatives)]
    read = [query, passages, *negatives]
    if not all(column and _has_texts(rows, column) for column in read) or (labels and negatives):
        return None
    if any(_values(rows, column) and why_no_text(rows, column) == NUMBERS for column in read[:2]):
        return None
    lists = any(isinstance(row.get(passages), list) for row in rows)
    return Shape(query, passages, tuple(negatives), "".join(labels), lists, tuple(unused), by_order=not known)


NUMBERS, LABELLED = "numbers", "labels"


def why_no_text(rows: Sequence[Mapping[str, Any]], column: str, *, query: bool = False) -> str:
    """Return what the values of a column are if they can be no passages (or queries), else nothing.

    Args:
        rows: the first rows.
        column: name of the column.
        query: a query may be the same in all rows.

    >>> why_no_text([{"a": "1"}, {"a": "0"}], "a"), why_no_text([{"a": "train"}] * 2, "a")
    ('numbers', 'one and the same value')
    """
    values = _values(rows, column)
    if not values or any(isinstance(value, list) for value in values):
        return ""
    if all(_is_number(value) for value in values):
        return NUMBERS
    if all(whole_number(value) is not None for value in values):
        return LABELLED
    words = [value for value in values if isinstance(value, str)]
    if len(words) < len(values):
        return f"{kind_of_value(next(value for value in values if not isinstance(value, str)))} in each row"
    if all(_IDS.fullmatch(word) for word in words):
        return "ids"
    distinct = set(words)
    if query or len(words) < 2:
        return ""
    if len(distinct) == 1:
        return "one and the same value"
    few = len(words) >= 4 * len(distinct) and all(len(word.split()) <= 2 for word in distinct)
    return f"{len(distinct)} class names" if few else ""


def describe(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the columns with what their values are, for a message that refuses them."""
    parts = []
    for column in columns_of(rows):
        values = _values(rows, column)
        kind = why_no_text(rows, column, query=True) if values else "empty"
        if not kind:
            inner = values[0][0] if isinstance(values[0], list) and values[0] else None
            kind = kind_of_value(values[0]) + (
                f" of {kind_of_value(inner)[2:]}s" if inner is not None else ""
            )
        parts.append(f"{column} ({kind})")
    return ", ".join(parts)


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    return [row[column] for row in rows if row.get(column) is not None]


def is_role(name: str) -> bool:
    """Return True if a column of this name has a known role.

    >>> is_role("Negative_2"), is_role("how are you")
    (True, False)
    """
    plain = name.strip().lower()
    return plain in (*LABELS, *_QUERY, *_POSITIVE) or _NEGATIVE.fullmatch(plain) is not None


def unread_numbers(rows: Sequence[Mapping[str, Any]], shape: Shape) -> str:
    """Return an unread column of a table of pairs that holds numbers or labels: perhaps the relevance."""
    if shape.groups or shape.label or shape.negatives:
        return ""
    numbers = (column for column in shape.unused if why_no_text(rows, column) in (NUMBERS, LABELLED))
    return next(numbers, "")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that at least half of the rows have, or whose name is known, in their order."""
    counts = Counter(column for row in rows for column in row)
    return [
        column
        for column, count in counts.items()
        if 2 * count >= len(rows) or (count > 1 and is_role(column))
    ]


def _named(columns: Sequence[str], names: Mapping[str, str], known: Sequence[str]) -> str:
    """Return the column whose name comes first among the known ones."""
    matching = [column for column in columns if names[column] in known]
    return min(matching, key=lambda column: known.index(names[column]), default="")


def _has_texts(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Return True if any row has a text or a list of texts there, so that one wrong row decides nothing."""
    values = [row.get(column) for row in rows]
    if all(value is None or value == [] for value in values):
        return True
    return any(
        isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], str))
        for value in values
    )
