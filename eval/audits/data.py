"""Audits of the data and the candidates: what holds for every system of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...data.groups import same_query
from ..results import Audit, Report
from ..words import count_of, some

LOW_RECALL = 0.5


@dataclass(frozen=True, eq=False)
class Leaks:
    """Test queries that the training data hold.

    Attributes:
        same: (Q,) equal to a training query but for case, blanks and punctuation.
        exact: how many of them are equal to the letter.
    """

    same: np.ndarray
    exact: int


def find_leaks(queries: Mapping[str, str], ids: Sequence[str], train: Iterable[str]) -> Leaks:
    """Which of the test queries are among the training queries.

    Args:
        queries: id to text.
        ids: Q ids, in the order of the ranking.
        train: texts of the training queries.
    """
    exact = set(train)
    same = {same_query(text) for text in exact}
    found = np.fromiter((same_query(queries[query]) in same for query in ids), bool, len(ids))
    return Leaks(found, sum(queries[query] in exact for query in ids))


def leak(leaks: Leaks) -> Audit:
    """What the training data gave away."""
    count, total = int(leaks.same.sum()), len(leaks.same)
    figures = {"queries": float(count), "exact": float(leaks.exact)}
    if not count:
        return Audit("leak", False, f"none of {count_of(total, 'query')} is in data.train", figures)
    text = f"{count:,} of {count_of(total, 'query')} in data.train too, {leaks.exact:,} to the letter"
    return Audit("leak", True, f"{text}: read the results without them", figures)


def coverage(
    *,
    queries: int,
    candidates: str,
    depth: int,
    recall: float,
    ceiling: tuple[str, float] | None = None,
) -> Audit:
    """Where the candidates come from and what they allow.

    Args:
        queries: judged queries.
        candidates: source; empty where runs brought their own documents.
        depth: most candidates a query.
        recall: mean share of relevant documents among the candidates.
        ceiling: leading measure and its mean for the best order of the candidates.
    """
    figures = {"queries": float(queries), "recall": recall}
    if not candidates:
        return Audit(
            "recall", False, f"{count_of(queries, 'query')}; each run ranks its own documents", figures
        )
    text = f"{count_of(queries, 'query')}. Candidates: {candidates}, at most {depth} a query; "
    text += f"recall {recall:.3f}, the ceiling of any reranker"
    if ceiling is not None:
        figures["ceiling"] = ceiling[1]
        text += f" ({ceiling[0]} {ceiling[1]:.3f})"
    return Audit("recall", recall < LOW_RECALL, text, figures)


def zeros(missing: Sequence[str], unanswerable: Sequence[str]) -> list[Audit]:
    """Queries that count 0 whatever a system does."""
    return [
        Audit(
            name,
            True,
            f"{count_of(len(ids), 'query')} without {lack}, counted as 0: {some(ids)}",
            {"queries": float(len(ids))},
        )
        for name, ids, lack in (
            ("missing", missing, "candidates"),
            ("unanswerable", unanswerable, "a relevant document"),
        )
        if ids
    ]


def added_text(count: int) -> str:
    """What every table says where passages were put among the candidates."""
    passages = count_of(count, "relevant passage")
    verb = "was" if count == 1 else "were"
    return (
        f"{passages} that the first stage did not find {verb} added to the candidates "
        "(add_missing_positives=true): no real search gives these figures"
    )


def added(count: int) -> list[Audit]:
    """That relevant passages were put among the candidates."""
    return [Audit("added", True, added_text(count), {"passages": float(count)})] if count else []


def stated(
    report: Report, *, ceiling: tuple[str, float] | None = None, leaks: Leaks | None = None
) -> list[Audit]:
    """The audits of a report.

    Args:
        report: its counts are what a report of an older version can be audited by.
        ceiling: leading measure and its mean for the best order of the candidates.
        leaks: test queries in the training data; None where no training data were given.
    """
    return [
        coverage(
            queries=report.queries,
            candidates=report.candidates,
            depth=report.depth,
            recall=report.recall,
            ceiling=ceiling,
        ),
        *zeros(report.missing_queries, report.unanswerable_queries),
        *added(report.added_positives),
        *([leak(leaks)] if leaks else []),
    ]
