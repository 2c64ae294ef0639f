"""The end of a run: compare the best model with the base on the dev queries, and write the verdict."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..configs.errors import UserError
from ..data.store import write_folder, writing
from ..eval.evaluate import Entry, ReportOptions, first_stage_entry, make_report
from ..eval.report import print_report, write_report
from ..eval.results import Report
from ..eval.statistics import verdict
from ..model.load import load
from ..model.weights import hash_weights
from .monitor import report_end
from .run_folder import (
    Progress,
    changed_best,
    now,
    on_first,
    read_manifest,
    read_metrics,
    write_manifest,
)

if TYPE_CHECKING:
    from .state import Run

log = logging.getLogger(__name__)


def end(run: Run, progress: Progress) -> None:
    """Write the last model, then finish the run on rank 0."""
    run.optimizer.zero_grad()  # the best model is loaded beside this one
    with run.averaged():
        on_first(run.share, partial(write_folder, run.output / "last", run.reranker.save))
    on_first(run.share, partial(finish, run, progress))


def finish(run: Run, progress: Progress) -> None:
    """Write the dev report of the best model and close the manifest.

    Raises:
        UserError: the best model has changed since it was written.
    """
    output, manifest = run.output, read_manifest(run.output)
    if changed := changed_best(output, progress.best_step, progress.step):
        problems = [f"{file}: is not as it was written for step {progress.best_step}" for file in changed]
        raise UserError(problems, advice=f"The model of the last step is sound: {output / 'last'}")
    best = hash_weights(load(str((output / "best").resolve())).model.state_dict())
    entries = _entries(run, progress, manifest["base"]["weights"], best)
    new_head = manifest["base"]["new_head"]
    options = ReportOptions(
        measures=run.dev.measures,
        baseline=_baseline(run, new_head),
        seed=run.settings.seed,
        command=manifest["command"],
    )
    report = make_report(run.dev.collection, run.dev.candidates, entries, options)
    with writing(output / "eval" / "final"):
        page = write_report(
            report,
            output / "eval" / "final",
            title=_title(run),
            runs={entry.name: entry.scored.run for entry in entries},
            collection=run.dev.collection,
            steps=read_metrics(output / "metrics.jsonl"),
        ).replace(output / "report.html")
    sentence = _verdict(report, new_head)
    outcome = {"best_step": progress.best_step, "best_weights": best, "stopped_at": progress.step}
    closing = {"seconds": round(progress.seconds, 1), "verdict": sentence, "finished": now()}
    if progress.scale:
        outcome["skipped_steps"] = progress.scale.skipped
        log.info("steps skipped because their gradients overflowed fp16: %d", progress.scale.skipped)
    data = {"data": manifest["data"] | {"train": run.mix.facts()}}  # a stream now knows its skipped rows
    report_end(run, progress.step, _summary(report, progress, sentence))
    write_manifest(output, manifest | data | outcome | closing)
    print_report(report, Console(), page)
    log.info("best model: step %d of %d, in %s", progress.best_step, progress.step, output / "best")
    log.info("verdict on the dev queries: %s", sentence)
    if progress.step > run.settings.train.eval_every:
        log.info("the best step was chosen on these queries: prove the gain on others with `uprank eval`")


def _title(run: Run) -> str:
    base, dev = (Path(path).name for path in (run.settings.model.path, run.dev.collection.path))
    return f"{base.removeprefix('package:')} tuned in {run.output.name}, on the dev queries of {dev}"


def _summary(report: Report, progress: Progress, sentence: str) -> dict[str, Any]:
    """Return the tracker's summary: best step, dev measures with intervals, verdict."""
    summary: dict[str, Any] = {"best_step": progress.best_step, "verdict": sentence}
    for name in ("base", "tuned"):
        for measure, estimate in report.system(name).results.items():
            ends = {"": estimate.mean, "/low": estimate.low, "/high": estimate.high}
            summary |= {f"{name}/{measure}{end}": value for end, value in ends.items()}
    return summary


def _entries(run: Run, progress: Progress, base: str, best: str) -> list[Entry]:
    """Return first stage, base and best model with the scores that the evaluations kept."""
    precision, path, budgets = run.settings.model.precision, run.settings.model.path, run.reranker.budgets
    entries = [first_stage_entry(run.dev.candidates)] if run.dev.candidates.first_stage else []
    read = run.reranker.prompts
    entries.append(Entry("base", run.dev.kept("base"), path, base, precision, budgets, prompts=read))
    tuned = run.dev.kept(f"step-{progress.best_step:06d}")
    place = str(run.output / "best")
    return [*entries, Entry("tuned", tuned, place, best, precision, budgets, prompts=read)]


def _baseline(run: Run, new_head: bool) -> str:
    """Return the base, or the first stage if the base's head was random and beating it proves nothing."""
    return run.dev.candidates.first_stage if new_head and run.dev.candidates.first_stage else "base"


def _verdict(report: Report, new_head: bool) -> str:
    comparison = report.comparison("tuned", report.measures[0])
    assert comparison is not None  # the report has this measure
    sentence = verdict(
        comparison, baseline_mean=report.system(report.baseline).results[report.measures[0]].mean
    )
    if new_head and report.baseline == "base":
        sentence += " (the base's head was random: this comparison says little)"
    elif new_head:
        sentence += f" (the base's head was random, so {report.baseline} is the baseline)"
    return sentence
