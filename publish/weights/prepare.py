"""Calibrate, then round the weights before they are written, and prove each change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ...configs.errors import UserError
from ...configs.schema_publish import PublishCommand
from ...eval.measures import rank
from ..evidence import DevScores, Refuted, Source, read_scores, tuned_system
from ..parity import Pair
from .calibrate import Calibrated, calibrate
from .lineage import HEAD, TOLERANCES, Change, compare_scores, fold, round_weights

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
        calibrated: the fit.
        calibration_change: proof that scores are scale * old + shift; None if nothing was folded.
        folded: hash after folding and before rounding; `measured` if nothing was folded.
        head: the measured last layer; None if nothing was folded.
        rounding: effect of rounding on the scores; None for fp32.
        dev: scores of the first report; None if they cannot be read.
        unread: the reason, with paths of this machine; for the terminal only.
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
        """Return the allowed difference of a library's score, relative to the largest score."""
        return TOLERANCES[self.kind]

    @property
    def record(self) -> dict[str, Any]:
        """Return its entries in `uprank.json`."""
        calibration: dict[str, Any] = asdict(self.calibrated)
        if self.head is not None and self.calibration_change is not None:
            calibration |= {
                "weights_before": self.measured,
                "weights_after": self.folded,
                "head": HEAD,
            }
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

    A model that cannot be calibrated stays as it is, with the reason.

    Args:
        settings: settings of the command.
        source: the model to publish.
        reranker: its weights are changed.
        measured: hash of its weights.
        pairs: pairs whose scores before and after are compared.

    Raises:
        UserError: scores after a change differ from the expected ones by more than allowed.
    """
    dev: DevScores | None = None
    unread = ""
    try:
        dev = read_scores(source.evidence[0])
    except Refuted:
        raise
    except UserError as error:
        unread = "; ".join(error.problems[:3])
    calibrated = Calibrated(reason=OUT_OF_REACH)
    if dev is not None:
        calibrated = _fit(dev, source, measured, wanted=settings.calibrate)
    head = change = None
    scores = reranker.score(pairs)
    if calibrated.form != "none":
        try:
            head = fold(reranker, calibrated.scale, calibrated.shift)
        except UserError as error:
            assert dev is not None, "something was fitted on it"
            calibrated = replace(_fit(dev, source, measured, wanted=False), reason=str(error))
        else:
            expected = scores.astype(float) * calibrated.scale + calibrated.shift
            scores = reranker.score(pairs)
            change = compare_scores(expected, scores, "fp32", what="folding the calibration into the head")
    folded, rounding = reranker.weights_hash(), None
    if settings.weights != "fp32":
        round_weights(reranker, settings.weights)
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


def _fit(dev: DevScores, source: Source, measured: str, *, wanted: bool) -> Calibrated:
    report = source.evidence[0].report
    system = tuned_system(report, measured)
    assert system is not None, "gate.check_evidence comes first"
    return calibrate(rank(dev.collection.qrels, dev.runs[system.name]), seed=report.seed, wanted=wanted)
