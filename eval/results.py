"""Results of an evaluation: typed values, written to `report.json` and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..configs.errors import UserError
from ..data.store import write_file
from .records import parse_json, read_record, require_valid, typed

SLACK = 1e-9  # of rounding beyond 0 and 1
RunScores = Mapping[str, Mapping[str, float]]  # query id -> document id -> score


@dataclass(frozen=True)
class Estimate:
    """A mean over queries with its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Audit:
    """A check of how far the figures can be trusted.

    Attributes:
        name: `ties`, `spread`, `recall`, `truncation`, `judged`, `leak`, `calibration`, `speed`…
        loud: true if it limits the result; a healthy check is one quiet line.
        text: result of the check, one sentence.
        values: figures by name.
    """

    name: str
    loud: bool
    text: str
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DepthPoint:
    """The result when only the best `depth` of the first stage are reranked and the rest follow.

    Attributes:
        depth: reranked candidates a query.
        results: measure name to estimate.
        pairs: pairs to score.
        seconds: time to score them, at the speed of the pairs scored now; None if all came from the cache.
    """

    depth: int
    results: dict[str, Estimate]
    pairs: int
    seconds: float | None = None


@dataclass(frozen=True)
class Histogram:
    """Scores of all candidates in equal bins.

    Attributes:
        edges: B + 1 ends of the bins, raw logits.
        relevant: B counts of the candidates judged relevant.
        other: B counts of all others, unjudged ones included.
    """

    edges: list[float]
    relevant: list[int]
    other: list[int]


@dataclass(frozen=True)
class Calibration:
    """How far sigmoid scores are probabilities of relevance, in equal bins from 0 to 1.

    Attributes:
        over: `judged` candidates; or `all`, unjudged ones counted as not relevant, if the judgments hold only
            relevant documents, which would make every score look too low.
        counts: B counts of candidates.
        scores: B mean sigmoid scores; 0 for an empty bin.
        relevant: B shares of relevant candidates; 0 for an empty bin.
        error: expected calibration error, the mean over candidates of |score - share| of their bin.
    """

    over: str
    counts: list[int]
    scores: list[float]
    relevant: list[float]
    error: float


@dataclass(frozen=True)
class System:
    """One ranking of the candidates: a first stage, a run or a model.

    Attributes:
        name: short name, unique in the report (`bm25`, `base`, `tuned`…).
        kind: `first_stage`, `run` (a TREC file) or `model`.
        path: hub id or folder; empty for a first stage.
        weights: hash of the weights that produced the scores, `sha256:…`; empty for a first stage.
        results: measure name to estimate.
        pairs: query-passage pairs scored.
        truncated_pairs: pairs cut to the token budget.
        tied_queries: queries with equal scores within the top 10.
        seconds: wall time of scoring.
        precision: `fp32`, `bf16`; empty for a first stage.
        query_tokens: token budget of the query; 0 for a first stage.
        max_tokens: token budget of the pair; 0 for a first stage.
        query_prompt: text before every query; mostly empty.
        passage_prompt: text before every passage; mostly empty.
        backend: backend that scored: `uprank`, `onnx`…; empty for a first stage.
        cached_pairs: pairs whose score came from the cache.
        audits: checks of this system's scores.
        depths: depth curve; empty without a first stage that orders the candidates.
        histogram: distribution of the scores; None for a first stage or a run.
        calibration: calibration of the sigmoid scores; None for a first stage or a run.
    """

    name: str
    kind: str
    path: str
    weights: str
    results: dict[str, Estimate]
    pairs: int = 0
    truncated_pairs: int = 0
    tied_queries: int = 0
    seconds: float = 0.0
    precision: str = ""
    query_tokens: int = 0
    max_tokens: int = 0
    backend: str = ""
    cached_pairs: int = 0
    audits: list[Audit] = field(default_factory=list)
    depths: list[DepthPoint] = field(default_factory=list)
    histogram: Histogram | None = None
    calibration: Calibration | None = None
    query_prompt: str = ""
    passage_prompt: str = ""


@dataclass(frozen=True)
class Comparison:
    """Paired difference of one system to the baseline on one measure.

    Attributes:
        difference: mean of (system - baseline) over queries.
        low: lower end of its bootstrap 95 % interval.
        high: upper end of this interval.
        p: two-sided paired randomisation test; never 0.
        wins: queries on which the system is better.
        ties: queries on which both are equal.
        losses: queries on which the system is worse.
        p_holm: p after Holm's correction over the systems compared on this measure; None in old reports.
        detectable: smallest true difference that a test at 0.05 finds with a probability of 0.8 with so
            many queries and this spread of differences; None in old reports.
    """

    system: str
    baseline: str
    measure: str
    difference: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int
    p_holm: float | None = None
    detectable: float | None = None


class Compared:
    """A result that holds comparisons with its baseline."""

    comparisons: list[Comparison]

    def comparison(self, system: str, measure: str) -> Comparison | None:
        """Return the comparison of a system with the baseline on a measure, if there is one."""
        same = (c for c in self.comparisons if (c.system, c.measure) == (system, measure))
        return next(same, None)


@dataclass(frozen=True)
class Report(Compared):
    """The content of `report.json`.

    Attributes:
        data: path of the judged queries.
        fingerprint: `sha256:…` over queries, judgments and candidate texts.
        queries: judged queries that were measured; every one of them counts in every mean.
        missing_queries: ids of judged queries without candidates (each counts 0).
        unanswerable_queries: ids of queries without any relevant document (each counts 0).
        candidates: source of the candidates: `bm25`, `groups`, `judged` or a run file; empty if runs were
            measured, each on its own documents.
        depth: most candidates a query; 0 without candidates.
        recall: mean share of relevant documents among the candidates, the ceiling of any reranker; without
            candidates that of the baseline's own documents.
        baseline: name of the system the others are compared with.
        added_positives: relevant passages that the first stage missed and the evaluation added.
        sampled_from: judged queries of which a seeded sample was measured; 0 if all were.
        hardware: processor, threads and device of the run, in words.
        audits: checks of the data and the candidates.
        seed: seed of intervals and tests, which can be computed again from it and `per_query`.
        per_query: measure -> system -> query id -> value; saved apart as `per_query.jsonl`.
    """

    created: str
    version: str
    command: str
    data: str
    fingerprint: str
    queries: int
    missing_queries: list[str]
    unanswerable_queries: list[str]
    candidates: str
    depth: int
    recall: float
    measures: list[str]
    baseline: str
    systems: list[System]
    comparisons: list[Comparison]
    seed: int = 0
    added_positives: int = 0
    sampled_from: int = 0
    hardware: str = ""
    audits: list[Audit] = field(default_factory=list)
    per_query: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict, repr=False)

    def system(self, name: str) -> System:
        """Return the system of that name."""
        return next(system for system in self.systems if system.name == name)

    def save(self, folder: Path) -> None:
        """Write `per_query.jsonl` (one line a query: id and every value), then `report.json`.

        Raises:
            UserError: they cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        values = asdict(self)
        per_query = values.pop("per_query")
        rows: dict[str, dict[str, Any]] = {}
        for measure, systems in per_query.items():
            for system, by_query in systems.items():
                for query, value in by_query.items():
                    rows.setdefault(query, {}).setdefault(measure, {})[system] = value
        lines = [json.dumps({"query_id": query, **row}, ensure_ascii=False) for query, row in rows.items()]
        write_file(folder / "per_query.jsonl", "".join(f"{line}\n" for line in lines))
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        write_file(folder / "report.json", text + "\n")

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read `report.json` (a file, or the folder that holds it) and its `per_query.jsonl`.

        Raises:
            UserError: the file is missing or is not a report.
        """
        path = path / "report.json" if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"{path}: no report here", advice="Give a folder that `uprank eval` wrote.")
        report = read_record(cls, path, "an Uprank report")
        if not report.per_query:
            report = replace(report, per_query=_read_per_query(path.with_name("per_query.jsonl")))
        require_valid(_contradictions(report), path, "an Uprank report")
        return report


def _read_per_query(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    per_query: dict[str, dict[str, dict[str, float]]] = {}
    if not path.is_file():
        return per_query
    problems: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # ids may hold U+2028
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not an Uprank report ({error})") from error
    for number, line in enumerate(lines, 1):
        if line:
            problems += _read_line(line, f"line {number}", per_query)
    require_valid(problems, path, "an Uprank report")
    return per_query


def _read_line(line: str, where: str, per_query: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Add the values of one query; return what is wrong with them."""
    problems: list[str] = []
    try:
        row = typed(dict[str, Any], parse_json(line), where, problems) or {}
    except ValueError as error:
        return [f"{where}: {error}"]
    query = typed(str, row.pop("query_id", None), f"{where}, query_id", problems)
    values = typed(dict[str, dict[str, float]], row, where, problems)
    if problems:
        return problems
    for measure, systems in values.items():
        for system, value in systems.items():
            found = per_query.setdefault(measure, {}).setdefault(system, {})
            if query in found:
                return [f"{where}: query {query!r} stands there twice"]
            if not -SLACK <= value <= 1 + SLACK:
                return [f"{where}.{measure}.{system} must be between 0 and 1, not {value!r}"]
            found[query] = value
    return []


def _contradictions(report: Report) -> list[str]:
    """Return the names that a report uses and does not define, and values per query that are missing."""
    names, problems = [system.name for system in report.systems], []
    problems += [f"two systems are called {name!r}" for name in dict.fromkeys(names) if names.count(name) > 1]
    if names and report.baseline not in names:
        problems.append(f"baseline {report.baseline!r} is no system of it")
    for one in report.comparisons:
        problems += [
            f"comparison with {n!r}: no such system" for n in (one.system, one.baseline) if n not in names
        ]
    for measure in report.measures if report.per_query else ():
        rows = report.per_query.get(measure, {})
        queries = rows.get(report.baseline, {}).keys()
        problems += [
            f"per_query.jsonl: no {measure} of {name}, or of other queries"
            for name in names
            if rows.get(name, {}).keys() != queries or len(queries) != report.queries
        ]
    return problems
