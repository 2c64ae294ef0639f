"""Write everything an evaluation leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...configs.validate import output_problems
from ...data.groups import Collection
from ...data.judged import trec_order, write_run
from ..results import Report, RunScores
from . import tables
from .page import QueryExample, headline_system, moved_queries, render_report
from .schema import schema_of
from .summary import Summary
from .tables import loud_sentences, summary_tables

EXAMPLES, DOCUMENTS = 10, 8  # queries shown in full, and documents of each
UNRANKED = 10**9


def require_new(output: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        UserError: it has.
    """
    problems = output_problems(output)
    if problems:
        raise UserError(problems)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"output={output}: exists", advice="Give a new folder; nothing was overwritten.")


def write_report(
    report: Report,
    folder: Path,
    *,
    title: str,
    runs: Mapping[str, RunScores],
    collection: Collection,
    steps: list[dict[str, Any]] | None = None,
    page: Path | None = None,
) -> Path:
    """Write report.json with its schema, per_query.jsonl, `runs/SYSTEM.run`, the tables and report.html.

    Args:
        report: what was measured.
        folder: where to write.
        title: heading of the page.
        runs: scores of each system, query -> document -> score; a TREC run of the user is not written again.
        collection: texts and judgments, for the examples.
        steps: rows of metrics.jsonl, for the curves of a training run.
        page: where the page goes; into the folder when not given.

    Returns:
        Path of the page.
    """
    report.save(folder)
    write_schema(Report, folder / "report.schema.json", without=frozenset({"per_query"}))
    found = tables.report_tables(report)
    text = tables.markdown(title, found, tables.audit_sentences(report))
    (folder / "table.md").write_text(text, encoding="utf-8")
    (folder / "table.tex").write_text(tables.latex(found), encoding="utf-8")
    (folder / "runs").mkdir(exist_ok=True)
    taken: set[str] = set()
    given = {system.name for system in report.systems if system.kind == "run"}
    for name, run in runs.items():
        if name in given:
            continue
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
        while safe in taken:  # `a/b` beside `a_b`
            safe += "_"
        taken.add(safe)
        write_run(folder / "runs" / f"{safe}.run", run, tag=safe)
    page = page or folder / "report.html"
    page.write_text(
        render_report(report, title=title, steps=steps, examples=_examples(report, runs, collection)),
        encoding="utf-8",
    )
    return page


def write_schema(kind: type[Any], file: Path, *, without: frozenset[str] = frozenset()) -> None:
    """The JSON schema of what stands beside it."""
    text = json.dumps(schema_of(kind, without=without), indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


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
    """Relevant documents and those that either system put first, by their new rank; rank 0: not ranked."""
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


def write_summary(summary: Summary, reports: Mapping[str, Report], folder: Path) -> None:
    """Write summary.json with its schema, and summary.md and summary.tex.

    Args:
        summary: of the reports.
        reports: by name of the collection; each is already written to `folder / name`.
        folder: where to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(summary), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")
    write_schema(Summary, folder / "summary.schema.json")
    found = summary_tables(summary)
    page = tables.markdown("Summary", found, loud_sentences(reports))
    (folder / "summary.md").write_text(page, encoding="utf-8")
    (folder / "summary.tex").write_text(tables.latex(found), encoding="utf-8")
