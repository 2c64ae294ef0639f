"""The gate: refuse damaged files, evidence about other weights, and models that are not better."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...configs.errors import UserError
from ...data.prompts import NO_PROMPTS, Prompts
from ...eval.results import Comparison, Report, System
from ...eval.statistics import compare_systems, contradictions, outcome
from .source import Evidence, Source

if TYPE_CHECKING:
    from ...model.reranker import Reranker


@dataclass(frozen=True)
class Ruling:
    """The decision on a model by its first report.

    Attributes:
        comparison: the paired difference on the first measure; None if there is nothing to compare with.
        from_first_stage: the base had a random head, so the first stage is the baseline.
        passed: better than its base (interval above 0 and p below 0.05). From a random head it must also be
            better than the first stage, in the same sense.
        reason: why it did not pass; empty if it did.
        system: the model's name in the report.
    """

    comparison: Comparison | None
    from_first_stage: bool
    passed: bool
    reason: str
    system: str


def load_undamaged(source: Source) -> Reranker:
    """Load the reranker on the CPU in fp32 after reading all of its files once.

    Raises:
        UserError: a file is missing, truncated or not the one the run wrote; weights are not finite.
    """
    import torch

    from ...model.reranker import Reranker
    from ...model.weights import hash_weights

    problems = damaged_files(source.model)
    if problems:
        raise UserError(
            problems, advice="The model files are damaged or not complete; evaluate and publish another copy."
        )
    reranker = Reranker.load(
        source.model, query_tokens=source.query_tokens, max_tokens=source.max_tokens, device="cpu"
    )
    if reranker.new_head:
        raise UserError(f"{source.model}: an encoder without a trained head; there is nothing to publish")
    state = reranker.model.state_dict()
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UserError(f"{source.model}: weights that are not finite numbers: {', '.join(broken[:5])}")
    recorded = source.manifest.get("best_weights")
    if recorded and recorded != (found := hash_weights(state)):
        raise UserError(
            f"{source.model}: not the weights that the run wrote: {found} here, {recorded} in manifest.json",
            advice="The file was changed or damaged after training; restore it, or train again.",
        )
    return reranker


def damaged_files(folder: Path) -> list[str]:
    """Return the files of a model folder that are missing or cannot be read, with the reason."""
    from safetensors import SafetensorError, safe_open

    problems = []
    weights = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return [f"{index}: damaged ({type(error).__name__}: {error})"]
        shards = {folder / name for name in names}
        problems += [f"{path}: missing, the index names it" for path in sorted(shards - set(weights))]
    if not weights:
        problems.append(f"{folder}: no *.safetensors; weights in pickle files are not loaded")
    for path in weights:
        try:
            with safe_open(str(path), framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  # not a dict
                    tensors.get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            problems.append(f"{path}: damaged ({error})")
    return problems


def check_evidence(
    source: Source, weights: str, budgets: tuple[int, int], prompts: Prompts = NO_PROMPTS
) -> None:
    """Refuse reports that contradict themselves or are about other weights, token budgets or prompts.

    Raises:
        UserError: all problems of all reports.
    """
    problems = []
    for evidence in source.evidence:
        wrong = contradictions(evidence.report)
        if wrong:
            problems.append(
                f"{evidence.folder}: report.json does not follow from per_query.jsonl: {'; '.join(wrong[:5])}"
            )
        system = tuned_system(evidence.report, weights)
        if system is not None and system.max_tokens and (system.query_tokens, system.max_tokens) != budgets:
            problems.append(
                f"{evidence.folder}: {system.name} was measured with query_tokens={system.query_tokens} and "
                f"max_tokens={system.max_tokens}, and is published with query_tokens={budgets[0]} and "
                f"max_tokens={budgets[1]}; these weights gave other scores there. Evaluate them with the "
                f"latter, or publish with model.path=, report=, model.query_tokens={system.query_tokens} and "
                f"model.max_tokens={system.max_tokens}"
            )
        if system is not None and Prompts(system.query_prompt, system.passage_prompt) != prompts:
            problems.append(
                f"{evidence.folder}: measured with the prompts {system.query_prompt!r} and "
                f"{system.passage_prompt!r}, the model is published with {prompts.query!r} and "
                f"{prompts.passage!r}"
            )
        if system is None:
            known = ", ".join(f"{s.name} {s.weights}" for s in evidence.report.systems if s.weights) or "none"
            problems.append(
                f"{evidence.folder}: the report is about other weights; "
                f"the model has {weights}, the report names {known}"
            )
    if problems:
        advice = f"Evaluate these weights first: uprank eval model.path={source.model} data.test=… output=…"
        raise UserError(problems, advice=advice)


def judge(source: Source, weights: str) -> Ruling:
    """Decide by the first measure of the first report if the model may be published."""
    evidence = source.evidence[0]
    system = tuned_system(evidence.report, weights)
    assert system is not None, "check_evidence comes first"
    measure = evidence.report.measures[0]
    from_first_stage = source.base.new_head and first_stage_system(evidence.report) is not None
    comparison = compared(evidence, system.name, measure, from_first_stage=from_first_stage)
    if comparison is None:
        reason = f"the report on {evidence.name} compares the model with nothing on {measure}"
    elif not from_first_stage:
        reason = "" if outcome(comparison) == "better" else _why_not(comparison, evidence)
    else:
        # To beat a random head is easy; the model must also beat the first stage, or reranking is no use.
        base = _paired(evidence.report, system.name, "base", measure)  # a run's name of the untuned model
        failed = next((c for c in (comparison, base) if c is not None and outcome(c) != "better"), None)
        reason = _why_not(failed, evidence) if failed else ""
    return Ruling(comparison, from_first_stage, passed=not reason, reason=reason, system=system.name)


def require_better(ruling: Ruling, *, force: bool) -> None:
    """Refuse a model that is not better, unless forced.

    Raises:
        UserError: the difference and what to do.
    """
    if ruling.passed or force:
        return
    raise UserError(
        f"not published: {ruling.reason}",
        advice="Train longer or on more data, or set force=true: the card then says that it was forced.",
    )


def tuned_system(report: Report, weights: str) -> System | None:
    """Return the system with these weights; of two (nothing was learned) not the baseline."""
    same = [system for system in report.systems if system.weights == weights]
    return min(same, key=lambda system: system.name == report.baseline, default=None)


def first_stage_system(report: Report) -> System | None:
    """Return the first stage whose ranking gave the candidates, if the report has it."""
    return next((system for system in report.systems if system.kind == "first_stage"), None)


def compared(evidence: Evidence, system: str, measure: str, *, from_first_stage: bool) -> Comparison | None:
    """Return the comparison with the baseline or the first stage.

    If the report lacks it, compute it from the values per query.
    """
    report = evidence.report
    stage = first_stage_system(report)
    return _paired(report, system, stage.name if from_first_stage and stage else report.baseline, measure)


def _paired(report: Report, system: str, baseline: str, measure: str) -> Comparison | None:
    if baseline == system:
        return None
    for found in report.comparisons:
        if (found.system, found.baseline, found.measure) == (system, baseline, measure):
            return found
    values, others = (report.per_query.get(measure, {}).get(name, {}) for name in (system, baseline))
    if not values or values.keys() != others.keys():
        return None
    return compare_systems(
        list(values.values()),
        [others[query] for query in values],
        system=system,
        baseline=baseline,
        measure=measure,
        seed=report.seed,
    )


def _why_not(comparison: Comparison, evidence: Evidence) -> str:
    c = comparison
    words = "worse than" if outcome(c) == "worse" else "not shown to be better than"
    return (
        f"on {evidence.name} ({evidence.split}) {c.system} is {words} {c.baseline}: "
        f"{c.measure} {c.difference:+.4f}, 95 % interval [{c.low:+.4f}, {c.high:+.4f}], p = {c.p:.4f} "
        "(a difference counts when its interval excludes 0 and p < 0.05)"
    )
