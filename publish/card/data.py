"""The data in the card: counts, lengths against the token budget, and three samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...data.trec_order import trec_order
from ..evidence import DevScores, Source, TrecRun
from ..weights import Prepared

if TYPE_CHECKING:
    from ...model.reranker import Reranker

SAMPLES = 3
MOST_PAIRS = 2000  # whose lengths are counted, spread evenly: tokenising takes a millisecond each


@dataclass(frozen=True)
class Statistics:
    """Counts of the dev data; lengths are in tokens of the model, special tokens included.

    Attributes:
        queries: judged dev queries that were measured.
        relevant: mean number of relevant judgments per query.
        candidates: mean number of candidates per query.
        relevant_found: mean number of relevant candidates per query.
        counted: pairs whose lengths were counted.
        lengths: name of the quantile -> tokens of an uncut pair.
        over_budget: share of the counted pairs that are longer than the budget.
    """

    queries: int
    relevant: float
    candidates: float
    relevant_found: float
    counted: int
    lengths: dict[str, int]
    over_budget: float


@dataclass(frozen=True)
class Sample:
    """A dev query with its best relevant and its best other candidate, by published score.

    Attributes:
        judged: the other candidate was judged not relevant; if False nobody judged it.
    """

    query: str
    relevant: str
    relevant_score: float
    other: str
    other_score: float
    judged: bool


def find_statistics(prepared: Prepared, reranker: Reranker) -> Statistics | None:
    """Return counts of the dev data; None if it is out of reach."""
    dev = prepared.dev
    if dev is None:
        return None
    ids, read = dev.candidates.pairs, reranker.prompts.collection(dev.collection)
    step = max(1, -(-len(ids) // MOST_PAIRS))
    texts = [(read.queries[query], read.passages[doc]) for query, doc in ids[::step]]
    lengths = reranker.pairs.full_lengths(texts)
    relevant = [{doc for doc, grade in row.items() if grade > 0} for row in dev.collection.qrels.values()]
    found = [
        len(docs & dev.candidates.run.get(query, {}).keys())
        for query, docs in zip(dev.collection.qrels, relevant, strict=True)
    ]
    quantiles = {"median": 0.5, "95 %": 0.95, "longest": 1.0}
    return Statistics(
        queries=len(dev.collection.queries),
        relevant=float(np.mean([len(docs) for docs in relevant])),
        candidates=len(ids) / len(dev.collection.queries),
        relevant_found=float(np.mean(found)),
        counted=len(texts),
        lengths={name: int(np.quantile(lengths, at, method="higher")) for name, at in quantiles.items()},
        over_budget=float((lengths > reranker.pairs.max_tokens).mean()),
    )


def find_samples(prepared: Prepared, system: str) -> list[Sample]:
    """Return three dev queries, spread over those with both a relevant and another candidate."""
    dev, fitted = prepared.dev, prepared.calibrated
    if dev is None:
        return []
    run, collection, samples = dev.runs[system], dev.collection, []
    for query in _spread(dev, run):
        row, grades = run[query], collection.qrels[query]
        documents = list(row)
        ranked = [documents[place] for place in trec_order(documents, list(row.values())).tolist()]
        relevant = next(doc for doc in ranked if grades.get(doc, 0) > 0)
        other = next(doc for doc in ranked if grades.get(doc, 0) <= 0)
        samples.append(
            Sample(
                query=collection.queries[query],
                relevant=collection.passages[relevant],
                relevant_score=fitted.scale * row[relevant] + fitted.shift,
                other=collection.passages[other],
                other_score=fitted.scale * row[other] + fitted.shift,
                judged=grades.get(other, -1) == 0,
            )
        )
    return samples


def training_facts(source: Source) -> list[tuple[str, str]]:
    """Return the name of each training data set and its groups, as the manifest counts them."""
    rows = []
    for part, origin in zip(source.train_sources, source.train_origins, strict=True):
        groups, share, skipped = (part.get(key) for key in ("groups", "share", "skipped"))
        words = [f"{groups:,} groups" if groups else "a stream of groups"]
        words += [f"{share:,} of them an epoch"] if share not in (None, groups) else []
        words += [f"{skipped:,} rows left out"] if skipped else []
        rows.append((", ".join(origin["names"]), ", ".join(words)))
    return rows


def _spread(dev: DevScores, run: TrecRun) -> list[str]:
    """Return the first, middle and last query that has both kinds of candidates."""
    qrels = dev.collection.qrels
    fit = [
        query for query, row in run.items() if 0 < sum(qrels[query].get(doc, 0) > 0 for doc in row) < len(row)
    ]
    places = np.linspace(0, len(fit) - 1, min(SAMPLES, len(fit))).round().astype(int)
    return [fit[place] for place in places]
