"""`uprank eval`: compare models, runs and the first stage on the same candidates."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.command import run
from ..configs.errors import collect
from ..configs.schema_eval import EvalCommand

if TYPE_CHECKING:
    from ..data.groups import Collection
    from ..data.judged import TrecRun
    from .command import CollectionPlan, Request
    from .evaluate import Entry
    from .results import Report
    from .retrieval import Candidates


CHECK = "; `uprank check` prints all"  # only for JSONL and BEIR: it does not read runs or TREC qrels


def evaluate(settings: EvalCommand) -> None:
    """Measure, compare and audit on every collection; write the reports and judge by the gate.

    Raises:
        UserError: anything the user can mend, before a model is loaded if possible.
        SystemExit: with 1 if the gate finds a regression; the reports are written.
    """
    from .processes import ending_together, is_main, join
    from .report import reserved

    with ending_together(), ExitStack() as held:
        processes = join(settings.model.device)
        problems: list[str] = []
        plan = _plan(settings, problems)
        processes.agree(problems)
        assert plan is not None  # no plan only with a problem
        if is_main():
            collect(problems, held.enter_context, reserved(Path(settings.output)))
        processes.agree(problems)
        inputs = _load(plan, problems, skip=settings.data.on_error == "skip")
        processes.agree(problems)
        inputs = _sampled(settings, inputs)
        candidates = _find_candidates(settings, plan, inputs, problems)
        processes.agree(problems)
        scored = _score(settings, plan, inputs, candidates)
        if is_main():  # the other ranks have scored their share
            reports = {
                part.name: _report(
                    settings, plan, part, inputs, candidates.get(part.name), scored.get(part.name, [])
                )
                for part in plan.collections
            }
            _finish(settings, plan, reports)


@dataclass(frozen=True)
class EvalInputs:
    """Data of an evaluation.

    Attributes:
        collections: by name.
        runs: TREC runs by path.
        train_queries: queries of the training data; None if none were given.
        left_out: judged queries of each collection that are not in the sample of `max_queries`.
    """

    collections: dict[str, Collection]
    runs: dict[str, TrecRun]
    train_queries: list[str] | None
    left_out: dict[str, set[str]] = field(default_factory=dict)


def _plan(settings: EvalCommand, problems: list[str]) -> Request | None:
    from ..model.backends import backend_problems
    from .command import make_request, parse_models
    from .processes import is_main
    from .report import require_new

    models = collect(problems, parse_models, settings) or {}
    plan = make_request(settings, models, problems)
    if is_main():  # rank 0 may have created it when the others look
        collect(problems, require_new, Path(settings.output))
    for name, choice in models.items():
        problems += backend_problems(choice, name)
    return plan


def _load(plan: Request, problems: list[str], *, skip: bool) -> EvalInputs:
    """Read data and runs; add everything wrong with them to `problems`."""
    from ..data.judged import read_run, trec_collection
    from ..data.problems import Problems
    from ..data.read import read_groups, read_judged

    collections: dict[str, Collection] = {}
    for part in plan.collections:
        lines = Problems()
        if part.texts:
            collection = read_judged(part.path, lines, split="test", skip=skip)
        else:
            collection = collect(lines, trec_collection, part.path)
        problems += _shown(lines, CHECK if part.texts else "")
        if collection is not None:
            collections[part.name] = collection
    runs: dict[str, TrecRun] = {}
    for path in plan.runs.values():
        lines = Problems()
        given = collect(lines, read_run, path)
        problems += _shown(lines)
        for part in plan.collections:
            if given is not None and part.name in collections:
                problems += _foreign(path, given, collections[part.name])
        runs[path] = given or {}
    queries: list[str] = []
    for path in plan.train:
        lines = Problems()
        queries += [group.query for group in read_groups(path, lines, need_negatives=False)]
        problems += _shown(lines, CHECK)
    return EvalInputs(collections, runs, queries if plan.train else None)


def _sampled(settings: EvalCommand, inputs: EvalInputs) -> EvalInputs:
    """Return the inputs with a sample of the queries of each collection."""
    from ..data.groups import sample_queries

    chosen = {
        name: sample_queries(collection, settings.max_queries, settings.seed)
        for name, collection in inputs.collections.items()
    }
    left_out = {
        name: inputs.collections[name].qrels.keys() - one.qrels.keys() for name, one in chosen.items()
    }
    return replace(inputs, collections=chosen, left_out=left_out)


def _shown(problems: Sequence[str], advice: str = "") -> list[str]:
    """Return the problems of one file or folder, cut so that they do not hide the others."""
    from ..data.problems import SHOWN

    more = len(problems) - SHOWN
    return list(problems) if more < 1 else [*problems[:SHOWN], f"… and {more} more{advice}"]


def _foreign(path: str, given: TrecRun, collection: Collection) -> list[str]:
    """Return a problem if a run has no query of a collection; an empty collection is a problem of its own."""
    if not collection.qrels or given.keys() & collection.qrels.keys():
        return []
    return [f"{path}: none of its {len(given)} queries is judged in {collection.path}"]


def _find_candidates(
    settings: EvalCommand, plan: Request, inputs: EvalInputs, problems: list[str]
) -> dict[str, Candidates]:
    """Return the candidates of every collection by name; add everything wrong to `problems`."""
    from .retrieval import find_candidates

    found = {}
    for part in plan.collections:
        if part.candidates:
            lines: list[str] = []
            candidates = collect(
                lines,
                find_candidates,
                inputs.collections[part.name],
                part.candidates,
                settings.depth,
                add_missing_positives=settings.add_missing_positives,
                dense=settings.dense,
            )
            problems += _shown(lines)
            if candidates is not None:
                found[part.name] = candidates
    return found


def _score(
    settings: EvalCommand, plan: Request, inputs: EvalInputs, candidates: dict[str, Candidates]
) -> dict[str, list[Entry]]:
    """Score every collection with every model, by name of the collection; each model is loaded once."""
    if not plan.models:
        return {}
    from .command import score_collections

    pools = [(inputs.collections[name], found) for name, found in candidates.items()]
    return dict(zip(candidates, score_collections(settings, plan.models, pools), strict=True))


def _report(
    settings: EvalCommand,
    plan: Request,
    part: CollectionPlan,
    inputs: EvalInputs,
    candidates: Candidates | None,
    scored: list[Entry],
) -> Report:
    """Measure one collection and write its report."""
    from ..data.store import writing
    from .evaluate import ReportOptions, first_stage_entry, make_report, run_entry
    from .report import write_report
    from .retrieval import own_documents, without_own

    collection = inputs.collections[part.name]
    entries = [first_stage_entry(candidates)] if candidates and part.first_stage else []
    own = own_documents(collection) if part.texts else frozenset[str]()
    left_out = inputs.left_out[part.name]
    runs = {
        name: {q: row for q, row in without_own(inputs.runs[path], own).items() if q not in left_out}
        for name, path in part.runs.items()
    }
    entries += [run_entry(name, part.runs[name], run) for name, run in runs.items()]
    entries += scored
    options = ReportOptions(
        measures=plan.measures,
        baseline=part.baseline,
        seed=settings.seed,
        command=f"uprank eval {shlex.join(sys.argv[1:])}",
        train_queries=inputs.train_queries,
        device=settings.model.device,
    )
    report = make_report(collection, candidates, entries, options)
    folder = Path(settings.output) / ("" if len(plan.collections) == 1 else part.name)
    with writing(folder):
        write_report(
            report,
            folder,
            title=f"{' and '.join([*plan.models, *part.runs]) or part.first_stage} on {_place(part)}",
            runs={entry.name: entry.scored.run for entry in entries},
            collection=collection,
        )
    return report


def _place(part: CollectionPlan) -> str:
    return part.name if part.path.startswith("{") else Path(part.path).name


def _finish(settings: EvalCommand, plan: Request, reports: dict[str, Report]) -> None:
    """Write the summary of several collections, print the result, and judge by the gate."""
    from rich.console import Console

    from ..data.store import writing
    from .command import gate_findings
    from .report import make_summary, print_report, print_summary, write_summary

    output = Path(settings.output)
    if len(reports) == 1:
        print_report(next(iter(reports.values())), Console(), output / "report.html")
    else:
        summary = make_summary(reports, seed=settings.seed)
        with writing(output):
            write_summary(summary, reports, output)
        print_summary(summary, reports, Console(), output)
    if plan.gate is None:
        return
    lines = [
        line
        for name, report in reports.items()
        for line in gate_findings(report, name, plan.gate, settings.gate)
    ]
    if lines:
        sys.stderr.write("\n".join([f"uprank eval: regression on {plan.gate}", *lines]) + "\n")
        raise SystemExit(1)


def main() -> None:
    """Run the command."""
    run("eval", EvalCommand, evaluate)


if __name__ == "__main__":
    main()
