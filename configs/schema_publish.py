"""Settings of `uprank publish` and `uprank verify`."""

from dataclasses import dataclass, field
from typing import Any

from .schema import MISSING, EvalModelSettings


@dataclass
class PushSettings:
    """Upload to the hub."""

    repo: str | None = None
    """`organisation/name`; nothing touches a network when not set."""
    private: bool = True
    """Visibility of a repository that the upload creates."""
    revision: str | None = None
    """Branch to commit to; it is made if it is not there. The main branch when not set."""
    pr: bool = False
    """Open a pull request instead of committing."""


@dataclass
class CardSettings:
    """What the model card cannot find out by itself."""

    name: str | None = None
    """Title of the model; the name of the output folder when not set."""
    license: str | None = None
    """SPDX id; taken from the base model's card when not set, never assumed."""
    language: list[str] = field(default_factory=list)
    """Language codes, `[en, zh]`; taken from the base model's card when not set."""
    datasets: list[str] = field(default_factory=list)
    """Names of the data sets as the hub knows them; the folder names of the data when not set."""
    data_license: str | None = None
    """SPDX id of the training data's licence; taken from the card (README.md) in the data's folder when
    not set, never assumed."""
    samples: bool = True
    """Show three dev queries with passages in the card, and publish `report.html` with its examples; `false`
    keeps texts of the data out of the folder."""


@dataclass
class MergeSettings:
    """Weights between those of the base and of the tuned model, and means over checkpoints."""

    weights: Any = None
    """Shares of the tuned model to try, the rest is the base: `[0.4, 0.6, 0.8]`, or `auto` for 0.2 to 0.8;
    the tuned model itself is always tried. No merging when not set."""
    average: int | None = None
    """Try the mean of the weights of the last so many checkpoints in the place of the best one; the run
    has to have kept them (`train.keep_checkpoints`)."""
    guard: list[str] = field(default_factory=list)
    """Judged data of other domains, as in `data.test`, which chooses and so should not be a test set: of the
    mixtures within one standard error of the best on the dev queries, the one that is best on these is
    published."""
    guard_queries: int | None = 200
    """A seeded sample of so many queries of each guard; all of them when null."""
    guard_depth: int | None = None
    """Candidates a query of the guards; as many as of the dev queries when not set."""


@dataclass
class OnnxSettings:
    """Graphs for ONNX Runtime, each proven against the published model before it is kept."""

    graphs: list[str] | None = None
    """`fp32` (onnx/model.onnx), `int8` for CPUs (onnx/model_int8.onnx), `fp16` for GPUs
    (onnx/model_fp16.onnx), `openvino` (openvino/openvino_model.xml, fp32; extra `openvino`); `[]` for none;
    when not set `[fp32]` where the extra `onnx` is installed."""
    pairs: int = 2500
    """Dev pairs that int8 and fp16 are compared on, in whole queries; more make the interval of the change
    narrower and the proof slower. fp32 is compared on 500 of them."""
    min_tau: float = 0.95
    """int8 and fp16 are refused when Kendall's tau with the fp32 order of a query's passages, mean over
    queries, is below."""
    max_loss: float = 0.01
    """int8 and fp16 are refused when the report's first measure falls by more than this."""


@dataclass
class PublishCommand:
    """`uprank publish`."""

    run: str | None = None
    """Run folder: its best model, its manifest and its dev report."""
    model: EvalModelSettings = field(default_factory=EvalModelSettings)
    report: str | None = None
    """With `model.path` instead of `run`: the evaluation that proves the model."""
    reports: list[str] = field(default_factory=list)
    """Further evaluations of the same weights, a test set for example, that the card shows."""
    merge: MergeSettings = field(default_factory=MergeSettings)
    calibrate: bool = True
    """Fit a scale and a shift on the dev queries and fold them into the head, so that the sigmoid of a score
    is a probability of relevance; the order of passages stays."""
    weights: str = "fp32"
    """Type of the published weights: `fp32`, `fp16` or `bf16`; the last two are rounded."""
    card: CardSettings = field(default_factory=CardSettings)
    onnx: OnnxSettings = field(default_factory=OnnxSettings)
    push: PushSettings = field(default_factory=PushSettings)
    output: str = MISSING
    """Folder to make."""
    force: bool = False
    """Publish although the model is not better than its base; the card says so."""


@dataclass
class VerifyCommand:
    """`uprank verify`."""

    folder: str = MISSING
    """A folder that `uprank publish` made, or a copy of it."""
    measured: str | None = None
    """The model folder that was measured, `RUN/best`, if you have it: calibration and rounding are done anew
    on its weights and have to give the published ones."""
    threads: int | None = None
    """CPU threads; PyTorch's choice when not set."""
