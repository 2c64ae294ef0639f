"""Read the run files and judgments behind a report, and check that its values follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...configs.errors import UserError
from ...data.groups import Collection, collection_fingerprint
from ...data.judged import TrecRun, read_run, run_file_names
from ...data.problems import Problems
from ...data.read import read_judged
from ...eval.measures import evaluate_measures, parse_measures, rank
from ...eval.results import Report
from ...eval.retrieval import Candidates, first_stage_name
from .source import Evidence

SAME = 1e-9  # versions of numpy may differ in the order of sums


class Refuted(UserError):
    """The run files of a report contradict its values."""


@dataclass(frozen=True)
class DevScores:
    """The data and the scores of an evaluation.

    Attributes:
        collection: the judged queries that were measured.
        candidates: the ranked passages with the scores of the first stage, 0 without one.
        runs: system -> query id -> document id -> raw score.
    """

    collection: Collection
    candidates: Candidates
    runs: dict[str, TrecRun]


def read_scores(evidence: Evidence) -> DevScores:
    """Read judgments and run files of a report, and check that they are its own.

    Raises:
        UserError: the data or a run file cannot be read, or the data differ from those of the report.
        Refuted: a run file exists, but the report does not follow from it.
    """
    report = evidence.report
    collection = _collection(evidence)
    runs: dict[str, TrecRun] = {}
    problems, refuted = list[str](), list[str]()
    for name, file in run_file_names(s.name for s in report.systems if s.kind != "run").items():
        path = evidence.folder / "runs" / f"{file}.run"
        if not path.is_file():
            problems.append(f"{path}: missing; `uprank train` and `uprank eval` write it beside report.json")
            continue
        try:
            found = read_run(path)
        except UserError as error:
            refuted += error.problems[:3]
            continue
        runs[name] = {query: found.get(query, {}) for query in collection.queries}
        refuted += _contradicted(report, name, runs[name], collection, path)
    if refuted:
        raise Refuted(refuted, advice="Evaluate the model again with `uprank eval`, and publish that report.")
    if problems:
        raise UserError(problems)
    stage = first_stage_name(report.candidates)
    ranked = runs.get(stage) or {q: dict.fromkeys(row, 0.0) for q, row in next(iter(runs.values())).items()}
    candidates = Candidates(report.candidates, report.depth, ranked, stage if stage in runs else "")
    return DevScores(collection, candidates, runs)


def restricted(collection: Collection, queries: set[str]) -> Collection:
    """Return the collection with only these queries, in its own order."""
    return replace(
        collection,
        queries={query: text for query, text in collection.queries.items() if query in queries},
        qrels={query: row for query, row in collection.qrels.items() if query in queries},
        pools={query: row for query, row in collection.pools.items() if query in queries},
    )


def _collection(evidence: Evidence) -> Collection:
    report, problems = evidence.report, Problems()
    whole = read_judged(report.data, problems, split=evidence.split)
    if whole is None or problems:
        raise UserError(
            f"{report.data}: the judged queries of the report cannot be read here: "
            + ("; ".join(problems[:3]) or "nothing found")
        )
    measured = {query for rows in report.per_query[report.measures[0]].values() for query in rows}
    collection = restricted(whole, measured)
    if collection_fingerprint(collection) != report.fingerprint:
        raise UserError(f"{report.data}: not the data that {evidence.folder} was measured on; it has changed")
    return collection


def _contradicted(
    report: Report, name: str, run: Mapping[str, Mapping[str, float]], collection: Collection, path: Path
) -> list[str]:
    ranking = rank(collection.qrels, run)
    for measure in parse_measures(report.measures):
        stated = report.per_query[str(measure)][name]
        values = [stated.get(query, np.nan) for query in ranking.queries]
        if not np.allclose(evaluate_measures(measure, ranking), values, rtol=0.0, atol=SAME):
            return [f"{path}: gives other values of {measure} than report.json states"]
    return []
