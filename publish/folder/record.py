"""`uprank.json`, the record of a published folder for programs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..card import Content

if TYPE_CHECKING:
    from ...model.reranker import Reranker

# Keys of the run's manifest that say how the model was made.
RUN = ("uprank", "commit", "seed", "versions", "hardware", "steps", "stopped_at", "best_step", "seconds")


def make_record(content: Content, reranker: Reranker, *, version: str) -> dict[str, Any]:
    """Return weights, base, data, settings, evidence and proofs as one JSON object.

    Args:
        content: facts about the published model.
        reranker: the published model.
        version: version of Uprank.
    """
    source, ruling = content.source, content.ruling
    manifest = source.manifest
    return {
        "uprank": version,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **content.prepared.record,
        "merge": asdict(content.merged) if content.merged else None,
        "base": asdict(source.base) if source.base.path else None,
        "licence": asdict(source.licence) if source.licence else None,
        "data_licence": asdict(source.data_licence) if source.data_licence else None,
        "pairs": {
            "query_tokens": reranker.pairs.query_tokens,
            "max_tokens": reranker.pairs.max_tokens,
            **reranker.prompts.stated(),
        },
        "data": manifest.get("data"),
        "statistics": asdict(content.statistics) if content.statistics else None,
        "samples": [
            {"relevant_score": sample.relevant_score, "other_score": sample.other_score}
            for sample in content.samples
        ],
        "run": {key: manifest.get(key) for key in RUN} if manifest else None,
        "settings": source.config or None,
        "evaluation": [
            {
                "folder": place,
                "data": entry.name,
                "split": entry.split,
                "fingerprint": entry.report.fingerprint,
            }
            for place, entry in content.places.items()
        ],
        "better": ruling.passed,
        "forced": ruling.reason or None,
        "verification": [asdict(proof) for proof in content.proofs],
        "onnx": content.graphs.record,
    }
