"""Audits of one system's scores: a quiet sentence if all is well, a loud one if not."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ..measures import Floats, Measure, Ranking, backwards, evaluate_measures, judged_share
from ..results import Audit, Calibration, System
from ..statistics import ALPHA, estimates, paired_test
from ..words import count_of, format_estimate, percent

TIED_WIDTH = 0.005  # difference of the measure between worst and best order of equal scores
COLLAPSED_SHARE = 0.5  # share of the queries
CONSTANT_SHARE = 0.01  # share of the queries; equal passages make a few queries constant for any model
COLLAPSED_RANGE = 0.01  # logits between the best and the worst candidate of a query
TRUNCATED_SHARE = 0.1
JUDGED_SHARE = 0.2
CALIBRATION_ERROR = 0.1
USUAL_CUTOFF = 10


def ties(ranking: Ranking, measure: Measure, bounds: tuple[Floats, Floats, Floats]) -> Audit:
    """Measure how much equal scores, and so document ids, decide the result.

    Args:
        ranking: ranking of the system.
        measure: leading measure.
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
    """Check that the scores of a query differ; None if no query has two candidates.

    Args:
        ranking: ranking of the system.
        logits: the scores are a model's logits; only those have a scale that can be judged.
    """
    rows = ranking.lengths > 1
    if not rows.any():
        return None
    scores, last = ranking.scores[rows].astype(np.float64), ranking.lengths[rows, None] - 1
    ranges = scores[:, 0] - np.take_along_axis(scores, last, axis=1)[:, 0]
    middle, constant = float(np.median(ranges)), int((ranges == 0).sum())
    figures = {"median_range": middle, "constant_queries": float(constant)}
    if constant == len(ranges):
        text = "a constant scorer: all candidates of a query have one score, and document ids decide the "
        return Audit("spread", True, f"{text}order", figures)
    collapsed = constant > CONSTANT_SHARE * len(ranges) or (logits and middle < COLLAPSED_RANGE)
    text = f"scores of a query range over {middle:.2f} (median)"
    if collapsed:
        text = f"scores have collapsed: median range within a query {middle:.2g}"
    text += f", all equal in {count_of(constant, 'query')} of {len(ranges):,}" if constant else ""
    return Audit("spread", collapsed, text, figures)


def direction(ranking: Ranking, measure: Measure, values: Floats, seed: int) -> Audit:
    """Compare the ranking with its reverse: a better reverse means scores of the wrong sign.

    Args:
        ranking: ranking of the system.
        measure: leading measure.
        values: (Q,) values of the leading measure.
        seed: seed of the paired test.
    """
    turned = evaluate_measures(measure, backwards(ranking))
    mean, other = float(values.mean()), float(turned.mean())
    figures = {"value": mean, "negated": other}
    if mean < other and paired_test(values, turned, seed=seed) < ALPHA:
        text = f"ranks in reverse: {measure} {mean:.3f}, and {other:.3f} with the same scores negated"
        return Audit("direction", True, text, figures)
    return Audit("direction", False, f"{measure} with the scores negated {other:.3f}", figures)


def headroom(measure: Measure, value: float, floor: tuple[str, float], ceiling: float) -> Audit:
    """Return the share of the possible gain that a system has reached.

    Args:
        measure: leading measure.
        value: mean of the system.
        floor: name and mean of its starting point: the first stage, or a random order.
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
    """Measure what a run's own documents allow."""
    recall, ceiling = (
        float(evaluate_measures(m, r).mean()) for m, r in ((Measure("R"), ranking), (measure, best))
    )
    text = f"recall {recall:.3f} of its own documents; their best order has {measure} {ceiling:.3f}"
    return Audit("recall", False, text, {"recall": recall, "ceiling": ceiling})


def not_judged(run: Collection[str], qrels: Collection[str]) -> Audit | None:
    """Count query ids of a run that are not in the qrels, which no measure sees; None without any."""
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
    found: np.ndarray | None = None,
) -> Audit:
    """Count the pairs that were cut, and compare queries with and without a relevant passage cut.

    Only queries with a relevant candidate are compared: the others count 0 for another reason.

    Args:
        pairs: number of pairs.
        truncated: number of pairs cut to the token budget.
        measure: leading measure.
        values: (Q,) values of the leading measure.
        cut: (Q,) true if a relevant candidate of the query was cut; None if unknown.
        found: (Q,) true if the query has a relevant candidate; None if unknown.
    """
    if not pairs:
        return Audit("truncation", False, "truncation not measured: no pair was scored")
    text = f"{percent(truncated, pairs)} of {pairs:,} pairs cut to the token budget"
    figures = {"share": truncated / pairs}
    if measure is not None and values is not None and cut is not None and found is not None and cut.any():
        whole, lost = found & ~cut, int((~found).sum())
        figures |= {"cut_queries": float(cut.sum()), "cut": float(values[cut].mean())}
        text += f"; {measure} {figures['cut']:.3f} in {count_of(int(cut.sum()), 'query')} with a relevant "
        text += "passage cut"
        if whole.any():
            figures |= {"uncut_queries": float(whole.sum()), "uncut": float(values[whole].mean())}
            text += f", {figures['uncut']:.3f} in {int(whole.sum()):,} with none cut"
        if lost:
            figures["not_found_queries"] = float(lost)
            text += f" ({lost:,} without a relevant candidate left out)"
    return Audit("truncation", figures["share"] > TRUNCATED_SHARE, text, figures)


def judged(ranking: Ranking, measure: Measure) -> Audit | None:
    """Measure the judged share of the top: an unjudged document counts as not relevant.

    Queries without candidates have no top; None if no query has one.
    """
    depth, ranked = measure.cutoff or USUAL_CUTOFF, ranking.lengths > 0
    if not ranked.any():
        return None
    share = float(judged_share(ranking, depth)[ranked].mean())
    # With one judgment a query, as in MS MARCO, one in ten is all that can be expected.
    top = np.minimum(ranking.lengths, depth)
    known = np.minimum(ranking.num_relevant() + ranking.num_nonrelevant(), top)
    most = float((known[ranked] / top[ranked]).mean())
    text = (
        f"{percent(share)} of the top {depth} judged, of at most {percent(most)}; others count not relevant"
    )
    return Audit("judged", share < JUDGED_SHARE and share < most / 2, text, {"share": share, "most": most})


def clean(measures: Mapping[str, Floats], leaked: np.ndarray, seed: int) -> Audit:
    """Measure a system without the queries that are in its training data.

    Args:
        measures: name to (Q,) values of the system; the first one is in the sentence.
        leaked: (Q,) true if the query is in the training data.
        seed: seed of the intervals.
    """
    if leaked.all():
        return Audit("leak", True, "no query is left that is not in data.train", {"queries": 0.0})
    figures = {"queries": float((~leaked).sum())}
    rows = estimates([values[~leaked] for values in measures.values()], seed)
    for name, estimate in zip(measures, rows, strict=True):
        figures |= {name: estimate.mean, f"{name} low": estimate.low, f"{name} high": estimate.high}
    first, values = next(iter(measures.items()))
    text = f"{first} {format_estimate(rows[0])} on the {count_of(int((~leaked).sum()), 'query')} "
    return Audit("leak", True, f"{text}not in data.train, {float(values.mean()):.3f} on all", figures)


def calibrated(calibration: Calibration) -> Audit:
    """Check that sigmoid scores may be read as probabilities; the ranking does not depend on it."""
    over = "judged candidates" if calibration.over == "judged" else "all candidates, unjudged as not relevant"
    loud = calibration.error > CALIBRATION_ERROR
    words = "sigmoid scores are no probabilities" if loud else "sigmoid scores are near probabilities"
    text = f"{words}: expected calibration error {calibration.error:.3f} over {over}"
    return Audit("calibration", loud, text + ("; the ranking is not affected" if loud else ""),
                 {"error": calibration.error})  # fmt: skip


def speed(pairs: int, cached: int, seconds: float, queries: int, machine: str) -> Audit:
    """Measure throughput over the pairs that were scored now, and name the machine."""
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
    rel: int = 1,
) -> np.ndarray:
    """Return (Q,) true if a relevant candidate of the query was cut.

    Args:
        queries: Q ids, in the order of the ranking.
        run: query -> document -> score, in the order in which the pairs were scored.
        qrels: judgments.
        cut: (N,) true if the pair was cut, query after query.
        rel: least grade that is relevant.
    """
    affected = dict.fromkeys(queries, False)
    start = 0
    for query, row in run.items():
        flags = cut[start : start + len(row)]
        start += len(row)
        if query in affected and flags.any():
            docs = list(row)
            grades = qrels[query]
            affected[query] = any(grades.get(docs[place], 0) >= rel for place in np.flatnonzero(flags))
    return np.fromiter(affected.values(), bool, len(affected))


def stated_of(system: System, queries: int) -> list[Audit]:
    """Audit a system by its counts, for reports of older versions without audits."""
    checks = []
    if system.pairs and system.kind == "model":
        checks.append(truncation(system.pairs, system.truncated_pairs))
    if system.tied_queries:
        text = _tied_text(system.tied_queries, queries, USUAL_CUTOFF)
        if system.tied_queries >= COLLAPSED_SHARE * queries:
            text += "; it hardly tells the documents apart"
        checks.append(Audit("ties", True, text, {"queries": float(system.tied_queries)}))
    return checks


def _tied_text(tied: int, queries: int, depth: int) -> str:
    return f"equal scores within the top {depth} in {count_of(tied, 'query')} ({percent(tied, queries)})"
