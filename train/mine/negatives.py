"""Choose a query's hard negatives among its best passages, by pure functions of the search results.

Likely false negatives are removed: copies and near-duplicates of a relevant passage, passages that score as
high as a relevant one (positive-aware mining: Moreira et al. 2024, NV-Retriever, arXiv:2407.15831) and those
that a teacher ranks as high.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...configs.schema_data import MineCommand
from ...data.checks import text_key, text_similarity

Teacher = Callable[[str, Sequence[str]], list[float]]
"""Raw scores of a query's passages."""

SAMPLINGS = ("random", "top", "log_random")
REASONS = {
    "relevant": "relevant themselves",
    "copy": "copies of a relevant passage",
    "query": "copies of the query",
    "repeated": "copies of a better ranked passage",
    "near": "near-duplicates of a relevant passage",
    "margin": "not below the margin",
    "max_score": "not below max_score",
    "teacher": "vetoed by the teacher",
}


@dataclass(frozen=True)
class Wanted:
    """A query that needs negatives.

    Attributes:
        number: its place among the queries.
        query: its text.
        positives: document id to text of its relevant passages.
        known: texts relevant to the same query elsewhere in the data.
    """

    number: int
    query: str
    positives: Mapping[str, str]
    known: Sequence[str] = ()


@dataclass(frozen=True)
class Retrieved:
    """Passages that the first stage found for a query.

    Attributes:
        ranked: document id to score, best first.
        compared: document id to the score that margins compare, of these documents and the positives;
            empty if nothing is compared.
    """

    ranked: Mapping[str, float]
    compared: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Negative:
    """A candidate for a negative.

    Attributes:
        doc: document id.
        text: the passage.
        rank: rank in the first stage, from 1.
        score: score of the first stage.
        teacher: raw score of the teacher; None without one.
    """

    doc: str
    text: str
    rank: int
    score: float
    teacher: float | None = None


@dataclass(frozen=True)
class Chosen:
    """The negatives of one query.

    Attributes:
        negatives: best ranked first.
        removed: number of passages that each of `REASONS` removed.
        positive_scores: the teacher's scores of the positives; empty without one.
    """

    negatives: list[Negative]
    removed: Counter[str]
    positive_scores: list[float]


def choose_negatives(
    wanted: Wanted,
    found: Retrieved,
    passages: Mapping[str, str],
    settings: MineCommand,
    teacher: Teacher | None = None,
) -> Chosen:
    """Draw the negatives of one query; a function of its arguments alone.

    Relevant passages and copies are removed; the window is cut from the rest and put in sampling order. The
    first ones that pass all filters are taken, so the teacher scores no more than needed.
    """
    removed: Counter[str] = Counter()
    pool = list(_distinct(wanted, found, passages, settings.depth, removed))
    window = pool[settings.skip : settings.depth]
    order = [window[place] for place in _order(len(window), settings, wanted.number)]
    left = _unlike(order, wanted, found, settings, removed)
    taken, scores = left[: settings.negatives], list[float]()
    if teacher is not None:
        taken, scores = _vetoed(left, wanted, settings, teacher, removed)
    return Chosen(sorted(taken, key=lambda negative: negative.rank), removed, scores)


def _distinct(
    wanted: Wanted, found: Retrieved, passages: Mapping[str, str], depth: int, removed: Counter[str]
) -> Iterator[Negative]:
    """Yield the best `depth` passages that are neither relevant nor a copy of anything."""
    copies = {text_key(text) for text in (*wanted.positives.values(), *wanted.known)}
    query, seen = text_key(wanted.query), set[str]()
    for rank, (doc, score) in enumerate(found.ranked.items(), start=1):
        if len(seen) == depth:
            return
        key = text_key(passages[doc])
        if doc in wanted.positives:
            removed["relevant"] += 1
        elif key in copies:
            removed["copy"] += 1
        elif key == query:
            removed["query"] += 1
        elif key in seen:
            removed["repeated"] += 1
        else:
            seen.add(key)
            yield Negative(doc, passages[doc], rank, score)


def _order(count: int, settings: MineCommand, number: int) -> list[int]:
    """Return the places 0 to `count` in sampling order."""
    random = np.random.default_rng((settings.seed, number))
    if settings.sampling == "top":
        return list(range(count))
    if settings.sampling == "random":
        return list(random.permutation(count).tolist())
    # The smallest of exponential times with rate 1/rank: a draw without replacement with these weights.
    times = random.exponential(size=count) * np.arange(1, count + 1)
    return list(np.argsort(times, kind="stable").tolist())


def _unlike(
    order: Iterable[Negative], wanted: Wanted, found: Retrieved, settings: MineCommand, removed: Counter[str]
) -> list[Negative]:
    """Return those that are no near-duplicates of a positive and score low enough."""
    positives = [found.compared[doc] for doc in wanted.positives if doc in found.compared]
    limit = _limit(min(positives, default=np.inf), settings)
    relevant = list(dict.fromkeys((*wanted.positives.values(), *wanted.known)))
    left = []
    for negative in order:
        score = found.compared.get(negative.doc, -np.inf)
        if settings.near_duplicates is not None and any(
            text_similarity(negative.text, text, settings.near_duplicates) >= settings.near_duplicates
            for text in relevant
        ):
            removed["near"] += 1
        elif score >= limit:
            removed["margin"] += 1
        elif settings.max_score is not None and score >= settings.max_score:
            removed["max_score"] += 1
        else:
            left.append(negative)
    return left


def _limit(positive: float, settings: MineCommand) -> float:
    """Return the score that a negative must stay below; infinite without a margin."""
    limits = [np.inf]
    if settings.absolute_margin is not None:
        limits.append(positive - settings.absolute_margin)
    if settings.relative_margin is not None:
        limits.append(positive - settings.relative_margin * abs(positive))
    return float(min(limits))


def _vetoed(
    left: list[Negative], wanted: Wanted, settings: MineCommand, teacher: Teacher, removed: Counter[str]
) -> tuple[list[Negative], list[float]]:
    """Return the first ones that the teacher ranks below every positive, and the positives' scores."""
    positives = teacher(wanted.query, list(wanted.positives.values()))
    limit = min(positives) - settings.teacher.margin
    taken: list[Negative] = []
    while left and (missing := settings.negatives - len(taken)):
        block, left = left[:missing], left[missing:]
        scores = teacher(wanted.query, [negative.text for negative in block])
        for negative, score in zip(block, scores, strict=True):
            if score < limit:
                taken.append(replace(negative, teacher=score))
            else:
                removed["teacher"] += 1
    return taken, positives
