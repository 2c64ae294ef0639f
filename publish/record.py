"""`uprank.json`: what a program needs to know about a published folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .gate import Ruling
from .sources import Source
from .verify import Proof

if TYPE_CHECKING:
    from ..model.reranker import Reranker


def make_record(
    source: Source,
    reranker: Reranker,
    weights: str,
    ruling: Ruling,
    proofs: Sequence[Proof],
    places: Sequence[str],
    *,
    version: str,
) -> dict[str, Any]:
    """Weights, base, data, settings, evidence and proofs as one JSON object.

    Args:
        source: what was read.
        reranker: the published model.
        weights: its hash.
        ruling: whether it is better than its baseline.
        proofs: the scores of the other libraries.
        places: folders of the reports inside the published folder.
        version: of Uprank.
    """
    return {
        "uprank": version,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "weights": weights,
        "base": asdict(source.base) if source.base.path else None,
        "licence": asdict(source.licence) if source.licence else None,
        "pairs": {"query_tokens": reranker.pairs.query_tokens, "max_tokens": reranker.pairs.max_tokens},
        "data": source.manifest.get("data"),
        "run": {key: source.manifest.get(key) for key in ("uprank", "commit", "seed", "versions", "hardware")}
        if source.manifest
        else None,
        "settings": source.config or None,
        "evaluation": [
            {
                "folder": place,
                "data": found.name,
                "split": found.split,
                "fingerprint": found.report.fingerprint,
            }
            for place, found in zip(places, source.evidence, strict=True)
        ],
        "better": ruling.passed,
        "forced": ruling.reason or None,
        "verification": [asdict(proof) for proof in proofs],
    }
