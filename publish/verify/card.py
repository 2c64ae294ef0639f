"""Comparison of a published folder's card with its report files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ...eval.results import Report
from ...eval.statistics import contradictions
from ...eval.words import format_estimate
from ..card import eval_results
from ..evidence import Evidence, tuned_system


def card_problems(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the contradictions between README.md, `uprank.json` and the reports.

    Args:
        folder: the published folder.
        record: its `uprank.json`.
    """
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    problems: list[str] = []
    evidence = _evidence(folder, record, problems)
    try:
        card = ModelCard.load(folder / "README.md")
    except (OSError, ValueError, YAMLError) as error:
        return [*problems, f"README.md: cannot be read ({str(error).splitlines()[0]})"]
    if problems:
        return problems
    weights = record.get("measured_weights", record["weights"])
    expected = {_key(result): _value(result) for result in eval_results(evidence, weights)}
    stated = {_key(result): _value(result) for result in card.data.eval_results or []}
    problems += [f"README.md: metadata lacks {' '.join(key)}" for key in expected.keys() - stated.keys()]
    problems += [f"README.md: no report has {' '.join(key)}" for key in stated.keys() - expected.keys()]
    problems += [
        f"README.md: {' '.join(key)} is {stated[key][0]} there and {value[0]} in the report"
        for key, value in expected.items()
        if key in stated and stated[key] != value
    ]
    for entry in evidence:
        for system in entry.report.systems:
            problems += [
                f"README.md: lacks {words}, {measure} of {system.name} on {entry.name} ({entry.split})"
                for measure, value in system.results.items()
                if (words := format_estimate(value)) not in card.text
            ]
    return sorted(problems)


def _evidence(folder: Path, record: Mapping[str, Any], problems: list[str]) -> list[Evidence]:
    """Return the reports of the folder; append to `problems` what is wrong with them."""
    weights = record.get("measured_weights", record["weights"])
    evidence = []
    for entry in record.get("evaluation") or []:
        place = entry["folder"]
        try:
            report = Report.load(folder / place)
        except UserError as error:
            problems += error.problems
            continue
        if report.fingerprint != entry["fingerprint"]:
            problems.append(f"{place}: the report is about other data than uprank.json states")
        if tuned_system(report, weights) is None:
            problems.append(f"{place}: the report is not about the measured weights {weights}")
        wrong = contradictions(report)
        if wrong:
            problems.append(f"{place}: does not follow from per_query.jsonl: {'; '.join(wrong[:5])}")
        evidence.append(Evidence(folder / place, report, entry["split"]))
    if not evidence and not problems:
        problems.append("uprank.json names no report")
    return evidence


def _key(result: Any) -> tuple[str, str]:
    return result.dataset_name, result.metric_name


def _value(result: Any) -> tuple[float, Any]:
    return result.metric_value, (result.metric_args or {}).get("interval")
