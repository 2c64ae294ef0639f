"""Audits of one system's scores: one quiet sentence where all is well, a loud one where it is not."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ..measures import Floats, Measure, Ranking, backwards, evaluate_measures, judged_share
from ..results import Audit, Calibration, System
from ..statistics import ALPHA, estimates, paired_test
from ..words import count_of, percent

TIED_WIDTH = 0.005  # of the measure between the worst and the best order of equal scores
COLLAPSED_SHARE = 0.5  # of the queries
COLLAPSED_RANGE = 0.01  # logits between the best and the worst candidate of a query
TRUNCATED_SHARE = 0.1
JUDGED_SHARE = 0.2
CALIBRATION_ERROR = 0.1
USUAL_CUTOFF = 10


def ties(ranking: Ranking, measure: Measure, bounds: tuple[Floats, Floats, Floats]) -> Audit:
    """How much of the result is decided by equal scores, and so by document ids.

    Args:
        ranking: of the system.
        measure: the leading one.
        bounds: (Q,) worst, expected and best value over the orders of equal scores.
    """
    depth = measure.cutoff or USUAL_CUTOFF
    tied = int(ranking.tied(depth).sum())
    figures = {"queries": float(tied)}
    if not tied and not (bounds[2] > bounds[0]).any():
        return Audit("ties", False, f"no equal scores within the top {depth}", figures)
    text = _tied_text(tied, len(ranking.queries), depth)
    worst, expected, best = (float(values.mean()) for values in bounds)
    figures |= {"worst": worst, "expected": expected, "best": best}
    text += f"; over their orders {measure} is {worst:.3f} to {best:.3f}, {expected:.3f} expected"
    return Audit("ties", best - worst >= TIED_WIDTH, text, figures)


def spread(ranking: Ranking, *, logits: bool) -> Audit | None:
    """Whether the scores of a query differ at all; None where no query has two candidates.

    Args:
        ranking: of the system.
        logits: whether the scores are a model's logits; only those have a scale that can be judged.
    """
    rows = ranking.lengths > 1
    if not rows.any():
        return None
    scores, last = ranking.scores[rows].astype(np.float64), ranking.lengths[rows, None] - 1
    ranges = scores[:, 0] - np.take_along_axis(scores, last, axis=1)[:, 0]
    middle, constant = float(np.median(ranges)), int((ranges == 0).sum())
    figures = {"median_range": middle, "constant_queries": float(constant)}
    if constant == len(ranges):
        text = (
            "a constant scorer: all candidates of a query have one score, and document ids decide the order"
        )
        return Audit("spread", True, text, figures)
    if constant or (logits and middle < COLLAPSED_RANGE):
        text = f"scores have collapsed: median range within a query {middle:.2g}"
        text += f", all equal in {count_of(constant, 'query')}" if constant else ""
        return Audit("spread", constant > 0.01 * len(ranges) or middle < COLLAPSED_RANGE, text, figures)
    text = f"scores of a query range over {middle:.2f} (median)"
    return Audit("spread", False, text, figures)


def direction(ranking: Ranking, measure: Measure, values: Floats, seed: int) -> Audit:
    """Whether the scores point the right way: against the same ranking read from its end.

    Args:
        ranking: of the system.
        measure: the leading one.
        values: (Q,) its values.
        seed: of the paired test.
    """
    turned = evaluate_measures(measure, backwards(ranking))
    own, other = float(values.mean()), float(turned.mean())
    figures = {"value": own, "negated": other}
    if own < other and paired_test(values, turned, seed=seed) < ALPHA:
        text = f"ranks in reverse: {measure} {own:.3f}, and {other:.3f} with the same scores negated"
        return Audit("direction", True, text, figures)
    return Audit("direction", False, f"{measure} with the scores negated {other:.3f}", figures)


def headroom(measure: Measure, value: float, floor: tuple[str, float], ceiling: float) -> Audit:
    """Which share of what the candidates allow a system has used.

    Args:
        measure: the leading one.
        value: mean of the system.
        floor: what it starts from, and the mean of that: the first stage, or a random order.
        ceiling: mean of the best order of the candidates.
    """
    name, start = floor
    figures = {"floor": start, "ceiling": ceiling}
    between = f"from {name} {start:.3f} to the best order {ceiling:.3f} ({measure})"
    if ceiling - start < 1e-9:
        return Audit("headroom", False, f"no headroom {between}", figures)
    share = (value - start) / (ceiling - start)
    figures["share"] = share
    if share < 0:
        return Audit("headroom", True, f"uses none of the headroom {between}: it is at {value:.3f}", figures)
    return Audit("headroom", False, f"uses {percent(share)} of the headroom {between}", figures)


def own_documents(ranking: Ranking, measure: Measure, best: Ranking) -> Audit:
    """What the documents that a run brought along would allow."""
    recall, ceiling = (
        float(evaluate_measures(m, r).mean()) for m, r in ((Measure("R"), ranking), (measure, best))
    )
    text = f"recall {recall:.3f} of its own documents; their best order has {measure} {ceiling:.3f}"
    return Audit("recall", False, text, {"recall": recall, "ceiling": ceiling})


def not_judged(run: Collection[str], qrels: Collection[str]) -> Audit | None:
    """Queries of a run that nobody judged, which no measure sees; None without any.

    Args:
        run: ids of its queries.
        qrels: ids of the judged ones.
    """
    count = sum(query not in qrels for query in run)
    if not count:
        return None
    text = f"{count:,} of its {count_of(len(run), 'query')} not judged, so they do not count"
    return Audit("not_judged", False, text, {"queries": float(count)})


def truncation(
    pairs: int,
    truncated: int,
    *,
    measure: Measure | None = None,
    values: Floats | None = None,
    cut: np.ndarray | None = None,
) -> Audit:
    """How many pairs were cut, and whether queries suffer whose relevant passages were.

    Args:
        pairs: all of them.
        truncated: those cut to the token budget.
        measure: the leading one.
        values: (Q,) its values.
        cut: (Q,) whether a relevant candidate of the query was cut; None where it is not known.
    """
    text = f"{percent(truncated, pairs)} of {pairs:,} pairs cut to the token budget"
    figures = {"share": truncated / max(pairs, 1)}
    if measure is not None and values is not None and cut is not None and cut.any():
        count = int(cut.sum())
        figures |= {"cut_queries": float(count), "cut": float(values[cut].mean())}
        text += f"; {measure} {figures['cut']:.3f} in {count_of(count, 'query')} with a relevant passage cut"
        if not cut.all():
            figures["uncut"] = float(values[~cut].mean())
            text += f", {figures['uncut']:.3f} in the others"
    return Audit("truncation", figures["share"] > TRUNCATED_SHARE, text, figures)


def judged(ranking: Ranking, measure: Measure) -> Audit:
    """How much of the top anybody has judged: an unjudged document counts as not relevant."""
    depth = measure.cutoff or USUAL_CUTOFF
    share = float(judged_share(ranking, depth).mean())
    # With one judgment a query, as in MS MARCO, one in ten is all that can be expected.
    most = float((np.minimum(ranking.num_relevant() + ranking.num_nonrelevant(), depth) / depth).mean())
    text = (
        f"{percent(share)} of the top {depth} judged, of at most {percent(most)}; others count not relevant"
    )
    return Audit("judged", share < JUDGED_SHARE and share < most / 2, text, {"share": share, "most": most})


def clean(measures: Mapping[str, Floats], leaked: np.ndarray, seed: int) -> Audit:
    """The result of a system without the queries that its training data hold.

    Args:
        measures: name to (Q,) values of the system; the first one is said in words.
        leaked: (Q,) whether the query is in the training data.
        seed: of the intervals.
    """
    if leaked.all():
        return Audit("leak", True, "no query is left that is not in data.train", {"queries": 0.0})
    figures = {"queries": float((~leaked).sum())}
    words = []
    rows = estimates([values[~leaked] for values in measures.values()], seed)
    for name, found in zip(measures, rows, strict=True):
        figures |= {name: found.mean, f"{name} low": found.low, f"{name} high": found.high}
        words.append(f"{name} {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]")
    whole = float(next(iter(measures.values())).mean())
    text = (
        f"{words[0]} on the {count_of(int((~leaked).sum()), 'query')} not in data.train, {whole:.3f} on all"
    )
    return Audit("leak", True, text, figures)


def calibrated(found: Calibration) -> Audit:
    """Whether sigmoid scores may be read as probabilities; the ranking does not depend on it."""
    over = "judged candidates" if found.over == "judged" else "all candidates, unjudged as not relevant"
    loud = found.error > CALIBRATION_ERROR
    words = "sigmoid scores are no probabilities" if loud else "sigmoid scores are near probabilities"
    text = f"{words}: expected calibration error {found.error:.3f} over {over}"
    return Audit("calibration", loud, text + ("; the ranking is not affected" if loud else ""),
                 {"error": found.error})  # fmt: skip


def speed(pairs: int, cached: int, seconds: float, queries: int, machine: str) -> Audit:
    """Throughput over the pairs that were really scored, and the machine it was measured on."""
    scored = pairs - cached
    from_cache = f"{cached:,} of {pairs:,} pairs from the cache" if cached else ""
    if scored < 1 or seconds <= 0:
        return Audit("speed", False, from_cache or f"{pairs:,} pairs, not timed", {"pairs": float(scored)})
    rate = scored / seconds
    milliseconds = 1000 * pairs / rate / max(queries, 1)
    text = f"{rate:,.0f} pairs a second, {milliseconds:,.0f} ms a query, on {machine}"
    figures = {"pairs": float(scored), "pairs_per_second": rate, "milliseconds_per_query": milliseconds}
    return Audit("speed", False, text + (f"; {from_cache}" if from_cache else ""), figures)


def relevant_cut(
    queries: Collection[str],
    run: Mapping[str, Mapping[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    cut: np.ndarray,
) -> np.ndarray:
    """(Q,) whether a relevant candidate of the query was cut.

    Args:
        queries: Q ids, in the order of the ranking.
        run: query -> document -> score, in the order in which the pairs were scored.
        qrels: judgments.
        cut: (N,) whether each pair was cut, query after query.
    """
    found = dict.fromkeys(queries, False)
    start = 0
    for query, row in run.items():
        flags = cut[start : start + len(row)]
        start += len(row)
        if query in found and flags.any():
            docs = list(row)
            grades = qrels[query]
            found[query] = any(grades.get(docs[place], 0) > 0 for place in np.flatnonzero(flags))
    return np.fromiter(found.values(), bool, len(found))


def stated_of(system: System, queries: int) -> list[Audit]:
    """What the counts of a system say that has no audits: in a report of an older version."""
    found = []
    if system.pairs and system.kind == "model":
        found.append(truncation(system.pairs, system.truncated_pairs))
    if system.tied_queries:
        text = _tied_text(system.tied_queries, queries, USUAL_CUTOFF)
        if system.tied_queries >= COLLAPSED_SHARE * queries:
            text += "; it hardly tells the documents apart"
        found.append(Audit("ties", True, text, {"queries": float(system.tied_queries)}))
    return found


def _tied_text(tied: int, queries: int, depth: int) -> str:
    return f"equal scores within the top {depth} in {count_of(tied, 'query')} ({percent(tied, queries)})"
