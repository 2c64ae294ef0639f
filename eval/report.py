"""What an evaluation found: typed values that are `report.json` and are read back from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..configs.errors import UserError


@dataclass(frozen=True)
class Estimate:
    """A mean over queries with its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class System:
    """One ranking of the candidates: the first stage or a model.

    Attributes:
        name: short name, unique in the report (`bm25`, `base`, `tuned`…).
        kind: `first_stage` or `model`.
        path: hub id or folder; empty for a first stage.
        weights: `sha256:…` of the weights that produced the scores; empty for a first stage.
        results: measure name to estimate.
        pairs: query-passage pairs scored.
        truncated_pairs: pairs that had to be cut to the token budget.
        tied_queries: queries in which two scores within the top 10 are equal.
        seconds: wall time of scoring.
        precision: `fp32`, `bf16`; empty for a first stage.
        query_tokens: token budget of the query; 0 for a first stage.
        max_tokens: token budget of the pair; 0 for a first stage.
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


@dataclass(frozen=True)
class Comparison:
    """Paired difference of one system to the baseline on one measure.

    Attributes:
        difference: mean of (system - baseline) over queries.
        low: lower end of its bootstrap 95 % interval.
        high: upper end of it.
        p: two-sided paired randomisation test; never 0.
        wins: queries on which the system is better.
        ties: queries on which both are equal.
        losses: queries on which it is worse.
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


@dataclass(frozen=True)
class Report:
    """The content of `report.json`.

    Attributes:
        data: path of the judged queries.
        fingerprint: `sha256:…` over queries, judgments and candidate texts.
        queries: judged queries; every one of them counts in every mean.
        missing_queries: ids of judged queries without candidates (each counts 0).
        unanswerable_queries: ids of queries without any relevant document (each counts 0).
        candidates: where the candidates come from: `bm25`, `groups`, `judged` or a run file.
        depth: most candidates a query.
        recall: mean share of relevant documents among the candidates: the ceiling of any reranker.
        baseline: name of the system the others are compared with.
        seed: of intervals and tests; with it everything can be computed again from `per_query`.
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
    per_query: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict, repr=False)

    def system(self, name: str) -> System:
        """The system of that name."""
        return next(system for system in self.systems if system.name == name)

    def comparison(self, name: str, measure: str) -> Comparison | None:
        """The comparison of a system with the baseline on a measure, if one was made."""
        found = (c for c in self.comparisons if c.system == name and c.measure == measure)
        return next(found, None)

    def save(self, folder: Path) -> None:
        """Write `report.json` and `per_query.jsonl` (one line a query: id and every value)."""
        folder.mkdir(parents=True, exist_ok=True)
        values = asdict(self)
        per_query = values.pop("per_query")
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        rows: dict[str, dict[str, Any]] = {}
        for measure, systems in per_query.items():
            for system, by_query in systems.items():
                for query, value in by_query.items():
                    rows.setdefault(query, {}).setdefault(measure, {})[system] = value
        with (folder / "per_query.jsonl").open("w", encoding="utf-8") as stream:
            for query, measured in rows.items():
                stream.write(json.dumps({"query_id": query, **measured}, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read `report.json` (a file, or the folder that holds it) and its `per_query.jsonl`.

        Raises:
            UserError: the file is missing or is not a report.
        """
        path = path / "report.json" if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"{path}: no report here", advice="Give a folder that `uprank eval` wrote.")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["systems"] = [
                System(**{**s, "results": {m: Estimate(**e) for m, e in s["results"].items()}})
                for s in values["systems"]
            ]
            values["comparisons"] = [Comparison(**c) for c in values["comparisons"]]
            per_query = _read_per_query(path.with_name("per_query.jsonl"))
            return cls(**values, per_query=per_query)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not an Uprank report ({error})") from error


def _read_per_query(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    per_query: dict[str, dict[str, dict[str, float]]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            query = row.pop("query_id")
            for measure, systems in row.items():
                for system, value in systems.items():
                    per_query.setdefault(measure, {}).setdefault(system, {})[query] = value
    return per_query
