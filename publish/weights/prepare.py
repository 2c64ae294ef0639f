"""The last changes of the weights before they are written: calibrated, then rounded; each with its proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError
from ...configs.schema_publish import PublishCommand
from ...eval.measures import rank
from ..evidence import DevScores, Refuted, Source, read_scores, tuned_system
from ..parity import Pair
from . import lineage as chain
from .calibrate import Calibrated, calibrate
from .lineage import Change, compare_scores

if TYPE_CHECKING:
    import torch

    from ...model.reranker import Reranker

OUT_OF_REACH = "the dev queries, or the scores on them, were out of reach"


@dataclass(frozen=True)
class Prepared:
    """The published weights and how they came from the measured ones.

    Attributes:
        measured: hash of the weights that the reports are about.
        weights: hash of the published weights, as loaded in fp32.
        kind: type of the written weights: `fp32`, `fp16` or `bf16`.
        calibrated: what was fitted.
        calibration_change: proof that scores are scale * old + shift; None when nothing was folded.
        folded: hash after folding and before rounding; `measured` when nothing was folded.
        head: the last layer as it was measured; None when nothing was folded.
        rounding: what rounding did to the scores; None for fp32.
        dev: scores of the first report; None when they are out of reach.
        unread: why they are, with the paths of this machine; for the terminal only.
    """

    measured: str
    weights: str
    kind: str
    calibrated: Calibrated
    calibration_change: Change | None
    folded: str
    head: dict[str, torch.Tensor] | None
    rounding: Change | None
    dev: DevScores | None
    unread: str = ""

    @property
    def tolerance(self) -> float:
        """Largest difference of a library's score, for each 1 of the largest score."""
        return chain.TOLERANCES[self.kind]

    @property
    def record(self) -> dict[str, Any]:
        """What `uprank.json` says of it."""
        calibration: dict[str, Any] = asdict(self.calibrated)
        if self.head is not None and self.calibration_change is not None:
            calibration |= {"weights_before": self.measured, "weights_after": self.folded, "head": chain.HEAD}
            calibration["proof"] = asdict(self.calibration_change)
        return {
            "weights": self.weights,
            "dtype": self.kind,
            "measured_weights": self.measured,
            "calibration": calibration,
            "rounding": asdict(self.rounding) if self.rounding else None,
        }


def prepare_weights(
    settings: PublishCommand, source: Source, reranker: Reranker, measured: str, pairs: Sequence[Pair]
) -> Prepared:
    """Calibrate and round the weights of the reranker, in this order.

    What cannot be calibrated stays as it is, with the reason; a change that does something else is refused.

    Args:
        settings: of the command.
        source: what is published.
        reranker: its weights are changed.
        measured: their hash.
        pairs: on which scores before and after are compared.

    Raises:
        UserError: scores after a change are further from what they should be than allowed.
    """
    dev, unread = _read(source)
    calibrated = Calibrated(reason=OUT_OF_REACH)
    if dev is not None:
        calibrated = _fit(dev, source, measured, wanted=settings.calibrate)
    head = change = None
    scores = reranker.score(pairs)
    if calibrated.form != "none":
        try:
            head = chain.fold(reranker, calibrated.scale, calibrated.shift)
        except UserError as error:
            assert dev is not None, "something was fitted on it"
            calibrated = replace(_fit(dev, source, measured, wanted=False), reason=str(error))
        else:
            expected = scores.astype(float) * calibrated.scale + calibrated.shift
            scores = reranker.score(pairs)
            change = compare_scores(expected, scores, "fp32", what="folding the calibration into the head")
    folded, rounding = reranker.weights_hash(), None
    if settings.weights != "fp32":
        chain.round_weights(reranker, settings.weights)
        what = f"weights={settings.weights}: rounding"
        rounding = compare_scores(scores, reranker.score(pairs), settings.weights, what=what)
    return Prepared(
        measured=measured,
        weights=reranker.weights_hash(),
        kind=settings.weights,
        calibrated=calibrated,
        calibration_change=change,
        folded=folded,
        head=head,
        rounding=rounding,
        dev=dev,
        unread=unread,
    )


def _read(source: Source) -> tuple[DevScores | None, str]:
    try:
        return read_scores(source.evidence[0]), ""
    except Refuted:
        raise
    except UserError as error:
        return None, "; ".join(error.problems[:3])


def _fit(dev: DevScores, source: Source, measured: str, *, wanted: bool) -> Calibrated:
    report = source.evidence[0].report
    system = tuned_system(report, measured)
    assert system is not None, "gate.check_evidence comes first"
    return calibrate(rank(dev.collection.qrels, dev.runs[system.name]), seed=report.seed, wanted=wanted)
