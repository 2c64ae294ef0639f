"""What the card says of the data: counts, lengths against the budget, and three samples."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.trec_order import trec_order
from ..evidence import DevScores, Source, TrecRun
from ..weights import Prepared

if TYPE_CHECKING:
    from ...model.reranker import Reranker

SAMPLES = 3
MOST_PAIRS = 2000  # whose lengths are counted, spread evenly: tokenising takes a millisecond each
SHOWN = 240  # letters of a text in the card
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


@dataclass(frozen=True)
class Statistics:
    """Counts of the dev data; lengths in tokens of the model, special tokens included.

    Attributes:
        queries: judged dev queries that were measured.
        relevant: relevant judgments a query, mean.
        candidates: candidates a query, mean.
        relevant_found: relevant candidates a query, mean.
        counted: pairs whose lengths were counted.
        lengths: uncut pairs: name of the quantile to tokens.
        over_budget: share of the counted pairs that are longer than the model takes.
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
        judged: the other candidate was judged not relevant; else nobody judged it.
    """

    query: str
    relevant: str
    relevant_score: float
    other: str
    other_score: float
    judged: bool


def find_statistics(prepared: Prepared, reranker: Reranker) -> Statistics | None:
    """Counts of the dev data; None where it is out of reach."""
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


def find_samples(source: Source, prepared: Prepared, system: str) -> list[Sample]:
    """Three dev queries, spread over those with a relevant candidate and another one."""
    dev, fitted = prepared.dev, prepared.calibrated
    if dev is None:
        return []
    run, made = dev.runs[system], []
    for query in _spread(dev, run):
        row, judged = run[query], dev.collection.qrels[query]
        documents = list(row)
        ranked = [documents[place] for place in trec_order(documents, list(row.values())).tolist()]
        relevant = next(doc for doc in ranked if judged.get(doc, 0) > 0)
        other = next(doc for doc in ranked if judged.get(doc, 0) <= 0)
        made.append(
            Sample(
                query=dev.collection.queries[query],
                relevant=dev.collection.passages[relevant],
                relevant_score=fitted.scale * row[relevant] + fitted.shift,
                other=dev.collection.passages[other],
                other_score=fitted.scale * row[other] + fitted.shift,
                judged=judged.get(other, -1) == 0,
            )
        )
    return made


def plain(text: str, letters: int = SHOWN) -> str:
    """A text as one line of Markdown that shows it as it is, cut to some letters.

    >>> plain("a  <d> &amp;")
    'a &lt;d&gt; &amp;amp;'
    """
    line = " ".join(text.split())
    line = line if len(line) <= letters else line[:letters].rstrip() + "…"
    return _SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def training_facts(source: Source) -> list[tuple[str, str]]:
    """Groups of each training data set, as the manifest counts them: name and words."""
    from ..evidence import data_names

    train: dict[str, Any] = (source.manifest.get("data") or {}).get("train") or {}
    parts = train.get("sources") or ([train] if train.get("path") else [])
    rows = []
    for part in parts:
        words = [f"{part['groups']:,} groups" if part.get("groups") else "a stream of groups"]
        words += (
            [f"{part['share']:,} of them an epoch"]
            if part.get("share") not in (None, part.get("groups"))
            else []
        )
        words += [f"{part['skipped']:,} rows left out"] if part.get("skipped") else []
        rows.append((", ".join(data_names(part["path"])), ", ".join(words)))
    return rows


def _spread(dev: DevScores, run: TrecRun) -> list[str]:
    """First, middle and last of the queries that have both kinds of candidates."""
    fit = []
    for query, row in run.items():
        relevant = sum(dev.collection.qrels[query].get(doc, 0) > 0 for doc in row)
        if 0 < relevant < len(row):
            fit.append(query)
    places = np.linspace(0, len(fit) - 1, min(SAMPLES, len(fit))).round().astype(int)
    return [fit[place] for place in places]
