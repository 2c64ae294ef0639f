"""`uprank eval`: models, runs and first stage side by side on the same candidates."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
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


CHECK = "; `uprank check` prints all"  # which reads JSONL and BEIR, not runs or TREC qrels


def evaluate(settings: EvalCommand) -> None:
    """Measure, compare and audit on every collection; write the reports and judge by the gate.

    Raises:
        UserError: anything the user can mend; checked before a model is loaded where possible.
        SystemExit: with 1 when the gate finds a regression; the reports are written.
    """
    from .processes import ending_together, is_main, join

    with ending_together():
        processes = join(settings.model.device)
        problems: list[str] = []
        plan = _plan(settings, problems)
        processes.agree(problems)
        assert plan is not None  # without a plan there was a problem
        inputs = _load(plan, problems)
        processes.agree(problems)
        candidates = _find_candidates(settings, plan, inputs, problems)
        processes.agree(problems)
        scored = _score(settings, plan, inputs, candidates)
        if is_main():  # the others have scored their share
            reports = {
                part.name: _report(
                    settings, plan, part, inputs, candidates.get(part.name), scored.get(part.name, [])
                )
                for part in plan.collections
            }
            _finish(settings, plan, reports)


@dataclass(frozen=True)
class EvalInputs:
    """What was read.

    Attributes:
        collections: by name.
        runs: TREC runs by path.
        train_queries: queries of the training data; None where none were given.
    """

    collections: dict[str, Collection]
    runs: dict[str, TrecRun]
    train_queries: list[str] | None


def _plan(settings: EvalCommand, problems: list[str]) -> Request | None:
    from .command import check_model, make_request, parse_models
    from .processes import is_main
    from .report import require_new

    models = collect(problems, parse_models, settings) or {}
    plan = make_request(settings, models, problems)
    if is_main():  # the first process may have made it when the others look
        collect(problems, require_new, Path(settings.output))
    for name, choice in models.items():
        collect(problems, check_model, name, choice)
    return plan


def _load(plan: Request, problems: list[str]) -> EvalInputs:
    """Read data and runs; what is wrong with any of them is added to `problems`."""
    from ..data.judged import read_run, trec_collection
    from ..data.problems import Problems
    from ..data.read import read_groups, read_judged

    collections: dict[str, Collection] = {}
    for part in plan.collections:
        own = Problems()
        if part.texts:
            found = read_judged(part.path, own, split="test")
        else:
            found = collect(own, trec_collection, part.path)
        problems += _shown(own, CHECK if part.texts else "")
        if found is not None:
            collections[part.name] = found
    runs: dict[str, TrecRun] = {}
    for path in plan.runs.values():
        own = Problems()
        given = collect(own, read_run, path)
        problems += _shown(own)
        for part in plan.collections:
            if given is not None and part.name in collections:
                problems += _foreign(path, given, collections[part.name])
        runs[path] = given or {}
    queries: list[str] = []
    for path in plan.train:
        own = Problems()
        queries += [group.query for group in read_groups(path, own, need_negatives=False)]
        problems += _shown(own, CHECK)
    return EvalInputs(collections, runs, queries if plan.train else None)


def _shown(problems: Sequence[str], advice: str = "") -> list[str]:
    """The problems of one file or folder, cut so that it does not hide the others."""
    from ..data.problems import SHOWN

    more = len(problems) - SHOWN
    return list(problems) if more < 1 else [*problems[:SHOWN], f"… and {more} more{advice}"]


def _foreign(path: str, given: TrecRun, collection: Collection) -> list[str]:
    """A problem if a run has nothing to do with a collection."""
    # An empty collection is a problem of its own.
    if not collection.qrels or given.keys() & collection.qrels.keys():
        return []
    return [f"{path}: none of its {len(given)} queries is judged in {collection.path}"]


def _find_candidates(
    settings: EvalCommand, plan: Request, inputs: EvalInputs, problems: list[str]
) -> dict[str, Candidates]:
    """Of every collection by name, before anything is scored; what is wrong is added to `problems`."""
    from .retrieval import find_candidates

    found = {}
    for part in plan.collections:
        if part.candidates:
            own: list[str] = []
            candidates = collect(
                own,
                find_candidates,
                inputs.collections[part.name],
                part.candidates,
                settings.depth,
                add_missing_positives=settings.add_missing_positives,
                dense=settings.dense,
            )
            problems += _shown(own)
            if candidates is not None:
                found[part.name] = candidates
    return found


def _score(
    settings: EvalCommand, plan: Request, inputs: EvalInputs, candidates: dict[str, Candidates]
) -> dict[str, list[Entry]]:
    """Every model on every collection, by name of the collection; each model is loaded once."""
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
    """One collection: measure what was scored and write it."""
    from .evaluate import first_stage_entry, make_report, run_entry
    from .report import write_report

    collection = inputs.collections[part.name]
    entries = [first_stage_entry(candidates)] if candidates and part.first_stage else []
    entries += [run_entry(name, path, inputs.runs[path]) for name, path in part.runs.items()]
    entries += scored
    report = make_report(
        collection,
        candidates,
        entries,
        measures=plan.measures,
        baseline=part.baseline,
        seed=settings.seed,
        command=f"uprank eval {shlex.join(sys.argv[1:])}",
        train_queries=inputs.train_queries,
        device=settings.model.device,
    )
    write_report(
        report,
        _folder(settings, plan, part),
        title=f"{' and '.join([*plan.models, *part.runs]) or part.first_stage} on {Path(part.path).name}",
        runs={entry.name: entry.scored.run for entry in entries},
        collection=collection,
    )
    return report


def _folder(settings: EvalCommand, plan: Request, part: CollectionPlan) -> Path:
    """One collection fills the output, several have a folder each."""
    output = Path(settings.output)
    return output if len(plan.collections) == 1 else output / part.name


def _finish(settings: EvalCommand, plan: Request, reports: dict[str, Report]) -> None:
    """The summary of several collections, the terminal, and the gate."""
    from rich.console import Console

    from .command import gate_findings
    from .report import make_summary, print_report, print_summary, write_summary, write_summary_page

    output = Path(settings.output)
    if len(reports) == 1:
        print_report(next(iter(reports.values())), Console(), output / "report.html")
    else:
        summary = make_summary(reports, seed=settings.seed)
        write_summary(summary, reports, output)
        write_summary_page(summary, reports, output)
        print_summary(summary, reports, Console(), output)
    if plan.gate is None:
        return
    found = [
        line
        for name, report in reports.items()
        for line in gate_findings(report, name, plan.gate, settings.gate)
    ]
    if found:
        sys.stderr.write("\n".join([f"uprank eval: regression on {plan.gate}", *found]) + "\n")
        raise SystemExit(1)


def main() -> None:
    """Run the command."""
    run("eval", EvalCommand, evaluate)


if __name__ == "__main__":
    main()
