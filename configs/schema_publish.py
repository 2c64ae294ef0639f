"""Settings of `uprank publish` and `uprank verify`."""

from dataclasses import dataclass, field
from typing import Any

from .schema import MISSING, EvalModelSettings


@dataclass
class PushSettings:
    """Upload to the hub."""

    repo: str | None = None
    """`organisation/name`. Default: no upload, and no network access."""
    private: bool = True
    """Make a repository that the upload creates private."""
    revision: str | None = None
    """Branch to commit to; created if it does not exist. Default: the main branch."""
    pr: bool = False
    """Open a pull request instead of committing."""


@dataclass
class CardSettings:
    """Facts that the model card cannot find out by itself."""

    name: str | None = None
    """Title of the model. Default: name of the output folder."""
    license: str | None = None
    """SPDX id. Default: that of the base model's card; never assumed."""
    language: list[str] = field(default_factory=list)
    """Language codes, `[en, zh]`. Default: those of the base model's card."""
    datasets: list[str] = field(default_factory=list)
    """Hub names of the data sets. Default: folder names of the data."""
    data_license: str | None = None
    """SPDX id of the training data's licence. Default: that of README.md in the data's folder; never
    assumed."""
    samples: bool = True
    """Show three dev queries with passages in the card, and publish `report.html` with its examples. `false`
    keeps texts of the data out of the folder."""


@dataclass
class MergeSettings:
    """Interpolation between base and tuned weights, and averages of checkpoints."""

    weights: Any = None
    """Shares of the tuned model to try; the rest is the base: `[0.4, 0.6, 0.8]`, or `auto` for 0.2 to 0.8.
    The tuned model itself is always tried. Default: no merging."""
    average: int | None = None
    """Also try the average of the last this many checkpoints in place of the best one. The run must have kept
    them (`train.keep_checkpoints`)."""
    guard: list[str] = field(default_factory=list)
    """Judged data of other domains, in the form of `data.test`. It influences the choice, so it should not be
    a test set: among the mixtures within one standard error of the best on dev, the best on these is
    published."""
    guard_queries: int | None = 200
    """Size of a seeded sample of each guard's queries; null takes all."""
    guard_depth: int | None = None
    """Candidates per guard query. Default: as for the dev queries."""


@dataclass
class OnnxSettings:
    """Graphs for ONNX Runtime, each proven against the published model."""

    graphs: list[str] | None = None
    """`fp32` (onnx/model.onnx), `int8` for CPUs (onnx/model_int8.onnx), `fp16` for GPUs
    (onnx/model_fp16.onnx), `openvino` (openvino/openvino_model.xml, fp32; extra `openvino`); `[]` for
    none. Default: `[fp32]` if the extra `onnx` is installed."""
    pairs: int = 2500
    """Dev pairs, in whole queries, on which int8 and fp16 are compared. More pairs narrow the interval and
    slow the proof. fp32 is compared on 500 of them."""
    min_tau: float = 0.95
    """Refuse int8 and fp16 if Kendall's tau with the fp32 order, averaged over queries, is below this."""
    max_loss: float = 0.01
    """Refuse int8 and fp16 if the report's first measure falls by more than this."""


@dataclass
class PublishCommand:
    """`uprank publish`."""

    run: str | None = None
    """Run folder: its best model, manifest and dev report."""
    model: EvalModelSettings = field(default_factory=EvalModelSettings)
    report: str | None = None
    """With `model.path` instead of `run`: the evaluation that proves the model."""
    reports: list[str] = field(default_factory=list)
    """Further evaluations of the same weights to show in the card, for example on a test set."""
    merge: MergeSettings = field(default_factory=MergeSettings)
    calibrate: bool = True
    """Fit a scale and a shift on the dev queries and fold them into the head, so that the sigmoid of a score
    is a probability of relevance. The ranking does not change."""
    weights: str = "fp32"
    """Type of the published weights: `fp32`, `fp16` or `bf16` (the last two are rounded)."""
    card: CardSettings = field(default_factory=CardSettings)
    onnx: OnnxSettings = field(default_factory=OnnxSettings)
    push: PushSettings = field(default_factory=PushSettings)
    output: str = MISSING
    """Folder to create."""
    force: bool = False
    """Publish although the model is not shown to be better than its base (with a new head: than the first
    stage); the card says so."""


@dataclass
class VerifyCommand:
    """`uprank verify`."""

    folder: str = MISSING
    """A folder made by `uprank publish`, or a copy of it."""
    measured: str | None = None
    """The measured model folder, `RUN/best`, if you have it. Calibration and rounding are repeated on its
    weights and must give the published ones."""
    threads: int | None = None
    """CPU threads. Default: PyTorch's choice."""
