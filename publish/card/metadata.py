"""The YAML header of the card, which the hub reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...configs.schema_publish import CardSettings
from ...eval.results import Report
from ..evidence import Evidence, Source, distinct_names, tuned_system


def metadata_yaml(card: CardSettings, source: Source, weights: str, title: str, model_type: str) -> str:
    """Return the YAML block at the head of README.md, without its `---` lines.

    Unknown values are left out: the hub would take a guess for a statement.

    Args:
        card: what the user states.
        source: what was read.
        weights: hash of the measured weights.
        title: name of the model.
        model_type: architecture, `xlm-roberta`.
    """
    from huggingface_hub import ModelCardData

    base = source.base.hub_id
    extra: dict[str, Any] = {"base_model_relation": "finetune"} if base else {}
    data = ModelCardData(
        model_name=title,
        base_model=base,
        license=source.licence.id if source.licence else None,
        language=list(source.languages) or None,
        # Only what the user names: the hub links these, and a folder's name is not an id there.
        datasets=list(card.datasets) or None,
        pipeline_tag="text-ranking",
        # Not transformers: the hub's snippet for text-ranking is CrossEncoder, which knows
        # pairs, lengths and the activation; with transformers it would offer a text classifier.
        library_name="sentence-transformers",
        tags=["reranker", "cross-encoder", "sentence-transformers", "transformers", model_type, "uprank"],
        eval_results=eval_results(source.evidence, weights),
        **extra,
    )
    return data.to_yaml()


def eval_results(evidence: Sequence[Evidence], weights: str) -> list[Any]:
    """Return every measured value of these weights with its interval, for `model-index`."""
    from huggingface_hub import EvalResult

    results = []
    for found, name in zip(evidence, evidence_names(evidence), strict=True):
        report = found.report
        system = tuned_system(report, weights)
        assert system is not None, "gate.check_evidence comes first"
        results += [
            EvalResult(
                task_type="text-ranking",
                task_name="Reranking",
                dataset_type=name,
                dataset_name=f"{name} ({found.split})",
                dataset_split=found.split,
                dataset_config=candidates_words(report),
                dataset_args={"queries": report.queries, "fingerprint": report.fingerprint},
                metric_type=measure.lower(),
                metric_name=measure,
                metric_value=estimate.mean,
                metric_args={"interval": [estimate.low, estimate.high], "level": 0.95},
            )
            for measure, estimate in system.results.items()
        ]
    return results


def evidence_names(evidence: Sequence[Evidence]) -> list[str]:
    """Return the name of the data of each evaluation, made distinct where the hub would merge two of them."""
    keys = [(found.name, found.split, candidates_words(found.report)) for found in evidence]
    names = [found.name for found in evidence]
    for key in dict.fromkeys(keys):
        places = [place for place, other in enumerate(keys) if other == key]
        distinct = distinct_names([evidence[place].report.data for place in places])
        for place, name in zip(places, distinct, strict=True):
            names[place] = name
    return names


def candidates_words(report: Report) -> str:
    """Return what was ranked, such as `bm25 top 100`; a run file is named without its folders."""
    source = report.candidates.replace("\\", "/").rpartition("/")[2]
    return f"{source} top {report.depth}"
