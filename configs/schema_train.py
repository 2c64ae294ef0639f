"""Settings of `uprank train` and `uprank runs`."""

from dataclasses import dataclass, field
from typing import Any

from .schema import MISSING, DenseSettings, ModelSettings


@dataclass
class LoraSettings:
    """Low-rank adapters in place of the weights of the layers; saved models have them folded in."""

    rank: int | None = None
    """Rank of the adapters; all weights are trained when not set. Adapters want a learning rate about ten
    times as high."""
    alpha: float | None = None
    """The product of an adapter's two matrices is multiplied by alpha / rank; twice the rank when not set."""
    targets: list[str] = field(default_factory=lambda: ["query", "key", "value", "dense"])
    """Linear layers that get one, by the last part of their names; those of the head are trained whole."""


@dataclass
class TrainedModelSettings(ModelSettings):
    """A model that is trained."""

    lora: LoraSettings = field(default_factory=LoraSettings)

    freeze: Any = field(default_factory=list)
    """Parts that are not trained, by parameter name: `embeddings` (192 M of the 278 M parameters of
    bge-reranker-base), or `[embeddings, layer.0]`."""


@dataclass
class TrainDataSettings:
    """The rows to learn from and the held-out rows that decide which checkpoint is best."""

    train: Any = MISSING
    """Groups to learn from: FlagEmbedding JSONL with `query`, `pos`, `neg`, a table of pairs, triplets or
    labels, a BEIR folder, `hf://DATASET`, or files by role `{qrels: Q, run: R, queries: QS, corpus: C}`;
    several as `[A, B]`."""
    mix: Any = None
    """Of several data sets: the groups of each in an epoch, `[1000, 3000]`, or their weights, `[0.25, 0.75]`,
    in an epoch as long as all of them together; every group once an epoch when not set."""
    streaming: bool = False
    """Read rows from start to end as they are needed, without a cache, for what does not fit a disk; needs
    `train.max_steps`. Resuming reads again up to where the run was."""
    stream_block: int = 8192
    """Groups that are shuffled together, and held in memory, when streaming."""
    on_error: str = "stop"
    """`stop` at rows with problems, or `skip` them: leave them out, count them and say so in the manifest."""
    dev: str = MISSING
    """Held-out queries: JSONL groups, a BEIR folder, a file of its `qrels/`, `hf://DATASET`, `mteb://TASK`."""


@dataclass
class TrainSettings:
    """How much is learned at a time (what decides the result) and what fits (what does not)."""

    epochs: float = 2.0
    """Passes over the training groups; the last may be a part of one."""
    max_steps: int | None = None
    """Optimiser steps; when set it replaces `epochs`."""
    queries_per_step: int = 32
    """Groups in one optimiser step, over all processes together."""
    group_size: int = 8
    """Passages a group at most: its positives and the hard negatives drawn for this epoch."""
    positives_per_group: int = 1
    """Positives drawn at most from each group; each is set against the group's negatives."""
    in_batch_negatives: int = 0
    """Further negatives of each group, beyond `group_size`: positives of other queries of the step, but none
    that a row with the same query has as a positive (of a stream: a row of the step). Rows need negatives of
    their own."""
    tokens_per_batch: int | None = None
    """Tokens in one forward pass on one process: memory and speed, never the result; 2,048 on a CPU
    and 8,192 elsewhere when not set. A group that is larger (by default than four times as large) has its
    gradient computed in parts, exactly, for one more forward pass."""
    gradient_checkpointing: bool = False
    """Keep only what enters a layer for the backward pass and compute the rest again: much less memory,
    about a third more time, the same gradient."""
    ema: float | None = None
    """Share that a moving average of the weights keeps at each step, 0.999 say, with a warm-up; evaluated and
    saved are then the averaged weights. None are averaged when not set."""
    eval_every: int = 50
    """Steps between two evaluations on the dev queries; the last step is always evaluated."""
    patience: int | None = None
    """Stop after so many evaluations without a better dev measure; never when not set."""
    log_every: int = 1
    """Steps between two lines of metrics.jsonl."""
    keep_checkpoints: int = 2
    """Most recent complete checkpoints kept for resuming; the best model is kept apart."""


@dataclass
class DevSettings:
    """How the dev queries are evaluated while training."""

    measures: list[str] = field(default_factory=lambda: ["nDCG@10", "MRR@10"])
    """Measures on the dev queries; the first one chooses the best checkpoint."""
    candidates: str = "auto"
    """`bm25`, `dense`, `hybrid` (BEIR data), `groups` (JSONL), `judged`, or the path of a TREC run file;
    `auto` takes `groups` where the data has its own candidates (JSONL, hf://), else `bm25`."""
    depth: int = 100
    """Candidates a query: the best `depth` of the first stage."""
    dense: DenseSettings = field(default_factory=DenseSettings)
    max_queries: int | None = None
    """Evaluate a seeded sample of so many dev queries; all of them when not set."""


@dataclass
class LossSettings:
    """What is minimised."""

    name: str = "listwise"
    """`listwise`: softmax cross-entropy of each positive against the group's negatives; `softmax`: over the
    whole group, with the grades as target; `bce`: each passage by itself; `ranknet`: every pair alike;
    `lambdaloss`: every pair by its weight in nDCG; `listmle`, `p_listmle`: the order of the grades;
    `approx_ndcg`: nDCG with smooth ranks; `kl`, `margin_mse`: scores of a teacher (`pos_scores`,
    `neg_scores`)."""
    weights: Any = None
    """Several losses added up, each with a weight, in place of `name`: `loss.weights={kl: 1, listwise: 0.2}`;
    only `name` when not set."""
    temperature: float = 1.0
    """Scores are divided by it before every loss."""
    label_smoothing: float = 0.0
    """`listwise`, `softmax`, `bce`: share of the target that is spread evenly over the passages."""
    positive_share: float | None = None
    """`bce`: share of a group's loss that its positives have, 0.5 for balance; every passage counts alike
    when not set."""
    weighting: str = "ndcg_loss2++"
    """`lambdaloss`: weight of a pair: `ndcg_loss1`, `ndcg_loss2`, `lambdarank`, or `ndcg_loss2++`."""
    k: int | None = None
    """`lambdaloss`: only pairs of which one is among the first `k`; all when not set."""
    gain: str = "exponential"
    """`lambdaloss`, `approx_ndcg`: a grade y is worth 2^y - 1, or y with `linear`, as in the measure nDCG."""
    teacher_temperature: float = 1.0
    """`kl`: the teacher's scores are divided by it before the softmax."""


@dataclass
class OptimSettings:
    """The optimiser, with linear warm-up and linear decay to zero."""

    name: str = "adamw"
    """`adamw`; `adamw_8bit`: its moments in a quarter of the memory, by bitsandbytes; `adafactor`: nearly no
    memory, and a learning rate that is relative to the size of the weights, 1e-3 say."""
    learning_rate: float = 2e-5
    """Highest learning rate, reached at the end of the warm-up."""
    head_learning_rate: float | None = None
    """Learning rate of a newly made head; the same as the body's when not set."""
    layer_decay: float = 1.0
    """Each layer below the head learns at this share of the rate of the one above it; 1 for all alike."""
    weight_decay: float = 0.01
    """Decoupled weight decay; biases and layer norms have none."""
    warmup_ratio: float = 0.1
    """Share of the steps in which the learning rate rises from zero."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm over all parameters; 0 leaves them as they are."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """`adamw`, `adamw_8bit`: decay rates of the first and second moment."""
    eps: float = 1e-8
    """`adamw`, `adamw_8bit`: term against division by zero."""


@dataclass
class TrackerSettings:
    """Where the metrics go besides metrics.jsonl, which is always written."""

    name: str = "none"
    """`none`, `wandb` (with WANDB_MODE=offline it needs no account), `tensorboard` (in OUTPUT/tensorboard),
    or `trackio`."""
    project: str = "uprank"
    """Project of `wandb` or `trackio`."""


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
    """Run folder to make; an unfinished run of the same settings in it is continued."""
    seed: int = 0
    """Decides the new head, the order of the groups, the negatives drawn and the dropout."""
    threads: int | None = None
    """CPU threads a process; PyTorch's choice when not set."""
    plan: bool = False
    """Train nothing and write nothing: count tokens, measure a few steps, and say what time, memory and disk
    the run will take."""


@dataclass
class RunsCommand:
    """`uprank runs`."""

    folder: str = "runs"
    """Folder with run folders, at any depth: a sweep, or all that was trained."""
