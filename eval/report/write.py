"""Write the output folder of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...data.groups import Collection
from ...data.judged import run_file_names, trec_order, write_run
from ...data.store import write_file
from ..results import Report, RunScores
from .page import QueryExample, moved_queries, render_report, write_summary_page
from .schema import schema_of
from .sentences import audit_sentences, headline_system, loud_sentences
from .summary import Summary
from .table import Table, latex, markdown
from .tables import report_tables, summary_tables

EXAMPLES, DOCUMENTS = 10, 8  # queries shown in full, and documents of each
UNRANKED = 10**9


def write_report(
    report: Report,
    folder: Path,
    *,
    title: str,
    runs: Mapping[str, RunScores],
    collection: Collection,
    steps: list[dict[str, Any]] | None = None,
) -> Path:
    """Write per_query.jsonl, `runs/SYSTEM.run`, the tables and report.html; last report.json with its schema.

    Args:
        report: results to write.
        folder: where to write.
        title: heading of the page.
        runs: scores of each system, query -> document -> score; a TREC run of the user is not written again.
        collection: texts and judgments, for the examples.
        steps: rows of metrics.jsonl, for the curves of a training run.

    Returns:
        Path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_tables(folder / "table", title, report_tables(report), audit_sentences(report))
    (folder / "runs").mkdir(exist_ok=True)
    given = {system.name for system in report.systems if system.kind == "run"}
    for system, name in run_file_names(name for name in runs if name not in given).items():
        write_run(folder / "runs" / f"{name}.run", runs[system], tag=name)
    page = folder / "report.html"
    examples = _examples(report, runs, collection)
    page.write_text(render_report(report, title=title, steps=steps, examples=examples), encoding="utf-8")
    _write_json(folder / "report.schema.json", schema_of(Report, without=frozenset({"per_query"})))
    report.save(folder)
    return page


def write_summary(summary: Summary, reports: Mapping[str, Report], folder: Path) -> None:
    """Write summary.md, summary.tex and the page; last summary.json with its schema.

    Args:
        summary: summary of the reports.
        reports: by name of the collection; each is already written to `folder / name`.
        folder: where to write.
    """
    _write_tables(folder / "summary", "Summary", summary_tables(summary), loud_sentences(reports))
    write_summary_page(summary, reports, folder)
    _write_json(folder / "summary.schema.json", schema_of(Summary))
    _write_json(folder / "summary.json", asdict(summary))


def _write_json(file: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    write_file(file, text + "\n")


def _write_tables(stem: Path, title: str, tables: list[Table], sentences: list[str]) -> None:
    stem.with_suffix(".md").write_text(markdown(title, tables, sentences), encoding="utf-8")
    stem.with_suffix(".tex").write_text(latex(tables), encoding="utf-8")


def _examples(report: Report, runs: Mapping[str, RunScores], collection: Collection) -> list[QueryExample]:
    system = headline_system(report)
    if not system:
        return []
    values = report.per_query[report.measures[0]]
    return [
        QueryExample(
            query,
            collection.queries[query],
            values[report.baseline][query],
            values[system][query],
            _documents(
                runs[report.baseline].get(query, {}),
                runs[system].get(query, {}),
                collection.qrels[query],
                collection.passages,
            ),
        )
        for query in moved_queries(report, EXAMPLES)
    ]


def _documents(
    before: Mapping[str, float],
    after: Mapping[str, float],
    judged: Mapping[str, int],
    passages: Mapping[str, str],
) -> list[tuple[int, int, float, float, bool | None, str]]:
    """Choose relevant documents and those that either system ranked first, by new rank; 0 if not ranked."""
    rank_before, rank_after = _ranks(before), _ranks(after)
    best = sorted(
        rank_before | rank_after,
        key=lambda doc: min(ranks.get(doc, UNRANKED) for ranks in (rank_after, rank_before)),
    )
    relevant = [doc for doc in best if judged.get(doc, -1) > 0][: DOCUMENTS // 2]
    chosen = list(dict.fromkeys([*relevant, *best]))[:DOCUMENTS]
    return [
        (
            rank_before.get(doc, 0),
            rank_after.get(doc, 0),
            before.get(doc, 0.0),
            after.get(doc, 0.0),
            judged[doc] > 0 if judged.get(doc, -1) >= 0 else None,
            passages.get(doc, doc),  # TREC qrels come without texts
        )
        for doc in sorted(chosen, key=lambda doc: rank_after.get(doc, UNRANKED))
    ]


def _ranks(run: Mapping[str, float]) -> dict[str, int]:
    docs: Sequence[str] = list(run)
    order = trec_order(docs, list(run.values())).tolist()
    return {docs[place]: rank for rank, place in enumerate(order, 1)}
