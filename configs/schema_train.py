"""Settings of `uprank train` and `uprank runs`."""

from dataclasses import dataclass, field
from typing import Any

from .schema import MISSING, DenseSettings, ModelSettings


@dataclass
class LoraSettings:
    """Low-rank adapters on the layers; saved models have them merged in."""

    rank: int | None = None
    """Rank of the adapters. Default: no adapters, all weights are trained. Adapters need a learning rate
    about ten times higher."""
    alpha: float | None = None
    """Adapters are scaled by alpha / rank. Default: twice the rank."""
    targets: list[str] = field(default_factory=lambda: ["query", "key", "value", "dense"])
    """Linear layers that get an adapter, by the last part of their names. Layers of the head are trained in
    full."""


@dataclass
class TrainedModelSettings(ModelSettings):
    """A model that is trained."""

    lora: LoraSettings = field(default_factory=LoraSettings)

    freeze: Any = field(default_factory=list)
    """Parts that are not trained, by parameter name: `embeddings` (192 M of the 278 M parameters of
    bge-reranker-base), or `[embeddings, layer.0]`."""


@dataclass
class TrainDataSettings:
    """Training rows, and held-out rows that select the best checkpoint."""

    train: Any = MISSING
    """Training groups: FlagEmbedding JSONL with `query`, `pos`, `neg`; a table of pairs, triplets or labels;
    a BEIR folder; `hf://DATASET`; or files by role, `{qrels: Q, run: R, queries: QS, corpus: C}`. Several
    as `[A, B]`."""
    mix: Any = None
    """For several data sets: groups of each per epoch, `[1000, 3000]`; or weights, `[0.25, 0.75]`, for an
    epoch as long as all data sets together. Default: every group once per epoch."""
    streaming: bool = False
    """Read rows from start to end as they are needed, without a cache, for data that does not fit the disk.
    Needs `train.max_steps`. Resuming reads again up to the point reached."""
    stream_block: int = 8192
    """Groups shuffled together, and held in memory, when streaming."""
    on_error: str = "stop"
    """`stop` at rows with problems, or `skip` them; skipped rows are counted in the manifest."""
    dev: Any = MISSING
    """Held-out queries: JSONL groups, a BEIR folder, a file of its `qrels/`, `hf://DATASET`,
    `mteb://TASK`, or files by role, `{qrels: Q, queries: QS, corpus: C}`."""


@dataclass
class TrainSettings:
    """How much is learned per step (this decides the result), and how much fits in memory (this does not)."""

    epochs: float = 2.0
    """Passes over the training groups; may be fractional."""
    max_steps: int | None = None
    """Number of optimizer steps; overrides `epochs`."""
    queries_per_step: int = 32
    """Groups per optimizer step, summed over all processes."""
    group_size: int = 8
    """Most passages per group: positives, and hard negatives drawn anew each epoch."""
    positives_per_group: int = 1
    """Most positives drawn per group; each is ranked against the group's negatives."""
    in_batch_negatives: int = 0
    """Positives of other queries in the step, added as negatives beyond `group_size`. Known positives of the
    same query, from any row (when streaming: from any row in the step), are skipped. Rows still need
    negatives of their own."""
    tokens_per_batch: int | None = None
    """Tokens per forward pass and process. Affects memory and speed, not the result. Default: 2,048 on a CPU,
    8,192 elsewhere. A larger group (by default: over four times this) is computed in parts,
    exactly, with one more forward pass."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of each layer for the backward pass and recompute the rest: much less memory,
    about a third more time, the same gradient."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, for example 0.999, with warm-up. The averaged
    weights are evaluated and saved. Default: no average."""
    eval_every: int = 50
    """Steps between evaluations on the dev queries; the last step is always evaluated."""
    patience: int | None = None
    """Stop after this many evaluations without a better dev measure. Default: never."""
    log_every: int = 1
    """Steps between lines of metrics.jsonl."""
    keep_checkpoints: int = 2
    """Most recent checkpoints kept for resuming; the best model is kept in addition."""
    timeout: int = 1800
    """Seconds that a process waits for another one before it ends with a message."""


@dataclass
class DevSettings:
    """Evaluation of the dev queries during training."""

    measures: list[str] = field(default_factory=lambda: ["nDCG@10", "MRR@10"])
    """Measures on the dev queries; the first selects the best checkpoint."""
    candidates: str = "auto"
    """`bm25`, `dense`, `hybrid` (BEIR data), `groups` (JSONL), `judged`, or the path of a TREC run file.
    `auto` means `groups` if the data brings its own candidates (JSONL, hf://), else `bm25`."""
    depth: int = 100
    """Candidates per query: the best `depth` of the first stage."""
    dense: DenseSettings = field(default_factory=DenseSettings)
    max_queries: int | None = None
    """Size of a seeded sample of the dev queries. Default: all of them."""


@dataclass
class LossSettings:
    """The objective."""

    name: str = "listwise"
    """`listwise`: softmax cross-entropy of each positive against the group's negatives. `softmax`: over the
    whole group, with grades as target. `bce`: each passage by itself. `ranknet`: all pairs, equal weights.
    `lambdaloss`: all pairs, weighted by nDCG. `listmle`, `p_listmle`: the order of the grades.
    `approx_ndcg`: nDCG with smooth ranks. `kl`, `margin_mse`: a teacher's scores (`pos_scores`,
    `neg_scores`)."""
    weights: Any = None
    """Weighted sum of several losses instead of `name`: `loss.weights={kl: 1, listwise: 0.2}`. Default: only
    `name`."""
    temperature: float = 1.0
    """Scores are divided by this before every loss."""
    label_smoothing: float = 0.0
    """`listwise`, `softmax`, `bce`: share of the target spread evenly over the passages."""
    positive_share: float | None = None
    """`bce`: share of a group's loss that falls to its positives; 0.5 balances. Default: every passage counts
    the same."""
    weighting: str = "ndcg_loss2++"
    """`lambdaloss`: weight of a pair: `ndcg_loss1`, `ndcg_loss2`, `lambdarank` or `ndcg_loss2++`."""
    k: int | None = None
    """`lambdaloss`: only pairs with one passage among the first `k`. Default: all pairs."""
    gain: str = "exponential"
    """`lambdaloss`, `approx_ndcg`: gain of grade y: `exponential` for 2^y - 1, `linear` for y, as in the
    measure nDCG."""
    teacher_temperature: float = 1.0
    """`kl`: the teacher's scores are divided by this before the softmax."""


@dataclass
class OptimSettings:
    """The optimizer, with linear warm-up and linear decay to zero."""

    name: str = "adamw"
    """`adamw`; `adamw_8bit`: moments in a quarter of the memory (bitsandbytes); `adafactor`: almost no
    memory, and a learning rate relative to the size of the weights, for example 1e-3."""
    learning_rate: float = 2e-5
    """Peak learning rate, reached at the end of the warm-up."""
    head_learning_rate: float | None = None
    """Peak learning rate of a newly initialised head. Default: `learning_rate`."""
    layer_decay: float = 1.0
    """Each layer learns at this share of the rate of the layer above it; 1 means the same rate everywhere."""
    weight_decay: float = 0.01
    """Decoupled weight decay; none on biases and layer norms."""
    warmup_ratio: float = 0.1
    """Share of the steps in which the learning rate rises from zero."""
    max_grad_norm: float = 1.0
    """Clip the gradient to this norm over all parameters; 0 turns clipping off."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """`adamw`, `adamw_8bit`: decay rates of the first and second moment."""
    eps: float = 1e-8
    """`adamw`, `adamw_8bit`: term that prevents division by zero."""


@dataclass
class TrackerSettings:
    """Metric tracker besides metrics.jsonl, which is always written."""

    name: str = "none"
    """`none`, `wandb` (needs no account with WANDB_MODE=offline), `tensorboard` (in OUTPUT/tensorboard) or
    `trackio`."""
    project: str = "uprank"
    """Project in `wandb` or `trackio`."""


@dataclass
class TrainCommand:
    """`uprank train`."""

    model: TrainedModelSettings = field(default_factory=TrainedModelSettings)
    data: TrainDataSettings = field(default_factory=TrainDataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    dev: DevSettings = field(default_factory=DevSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    output: str = MISSING
    """Run folder to create. An unfinished run with the same settings is resumed."""
    seed: int = 0
    """Seed of the new head, the order of the groups, the negatives drawn and dropout."""
    threads: int | None = None
    """CPU threads per process. Default: PyTorch's choice."""
    plan: bool = False
    """Train and write nothing: count tokens, measure a few steps, and print the time, memory and disk space
    that the run will need."""


@dataclass
class RunsCommand:
    """`uprank runs`."""

    folder: str = "runs"
    """Folder with run folders at any depth: a sweep, or everything that was trained."""
