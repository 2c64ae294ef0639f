"""Audits of the data and the candidates, which hold for every system of a report."""

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
    """Test queries that are in the training data.

    Attributes:
        same: (Q,) true if a query equals a training query, ignoring case, whitespace and punctuation.
        exact: number of queries that are equal to the letter.
    """

    same: np.ndarray
    exact: int


def find_leaks(queries: Mapping[str, str], ids: Sequence[str], train: Iterable[str]) -> Leaks:
    """Find the test queries (id to text) among the texts of training queries.

    Args:
        queries: test queries, id to text.
        ids: Q ids, in the order of the ranking.
        train: texts of the training queries.
    """
    exact = set(train)
    alike = {same_query(text) for text in exact}
    same = np.fromiter((same_query(queries[query]) in alike for query in ids), bool, len(ids))
    return Leaks(same, sum(queries[query] in exact for query in ids))


def leak(leaks: Leaks) -> Audit:
    """Count the test queries in the training data."""
    count, total = int(leaks.same.sum()), len(leaks.same)
    figures = {"queries": float(count), "exact": float(leaks.exact)}
    if not count:
        return Audit("leak", False, f"none of {count_of(total, 'query')} is in data.train", figures)
    text = f"{count:,} of {count_of(total, 'query')} in data.train too, {leaks.exact:,} to the letter"
    return Audit("leak", True, f"{text}: read the results without them", figures)


def coverage(report: Report, ceiling: tuple[str, float] | None = None) -> Audit:
    """Tell where the candidates come from and what they allow; `ceiling` is explained in `stated`."""
    figures, queries = {"queries": float(report.queries), "recall": report.recall}, report.queries
    if not report.candidates:
        text = f"{count_of(queries, 'query')}; each run ranks its own documents"
        return Audit("recall", False, text, figures)
    text = f"{count_of(queries, 'query')}. Candidates: {report.candidates}, at most {report.depth} a query; "
    text += f"recall {report.recall:.3f}, the ceiling of any reranker"
    if ceiling is not None:
        figures["ceiling"] = ceiling[1]
        text += f" ({ceiling[0]} {ceiling[1]:.3f})"
    return Audit("recall", report.recall < LOW_RECALL, text, figures)


def zeros(missing: Sequence[str], unanswerable: Sequence[str]) -> list[Audit]:
    """Name the queries that count 0 whatever a system does."""
    kinds = ("missing", missing, "candidates"), ("unanswerable", unanswerable, "a relevant document")
    return [
        Audit(name, True, f"{count_of(len(ids), 'query')} without {lack}, counted as 0: {some(ids)}",
              {"queries": float(len(ids))})
        for name, ids, lack in kinds
        if ids
    ]  # fmt: skip


def added_text(count: int) -> str:
    """Return the warning below every table if passages were put among the candidates."""
    passages = count_of(count, "relevant passage")
    verb = "was" if count == 1 else "were"
    return (
        f"{passages} that the first stage did not find {verb} added to the candidates "
        "(add_missing_positives=true): no real search gives these figures"
    )


def added(count: int) -> list[Audit]:
    """Warn of relevant passages that were put among the candidates."""
    return [Audit("added", True, added_text(count), {"passages": float(count)})] if count else []


def own_documents(count: int) -> list[Audit]:
    """Tell of queries that are documents of the corpus."""
    if not count:
        return []
    text = (
        f"{count_of(count, 'query')} of the same id and text as a document, which was left out of its ranking"
    )
    return [Audit("own", False, text, {"queries": float(count)})]


def sample_text(report: Report) -> str:
    """Return what a report on a sample of the queries must say everywhere; empty for all queries."""
    if not report.sampled_from:
        return ""
    return f"a seeded sample of {report.queries:,} of {report.sampled_from:,} judged queries"


def sample(report: Report) -> list[Audit]:
    """Say that only a sample of the queries was measured."""
    text, figures = sample_text(report), {"queries": float(report.sampled_from)}
    return [Audit("sample", True, f"measured on {text}: no result of the whole set", figures)] if text else []


def stated(
    report: Report, *, ceiling: tuple[str, float] | None = None, leaks: Leaks | None = None
) -> list[Audit]:
    """Audit a report by its counts, which reports of older versions hold, too.

    Args:
        report: report to audit.
        ceiling: leading measure and its mean for the best order of the candidates.
        leaks: test queries in the training data; None if no training data were given.
    """
    return [
        coverage(report, ceiling),
        *sample(report),
        *zeros(report.missing_queries, report.unanswerable_queries),
        *added(report.added_positives),
        *([leak(leaks)] if leaks else []),
    ]
