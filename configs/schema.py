"""Every setting of every command: its type, its default, and a sentence on what it decides.

Plain dataclasses and no other imports: YAML and the command line choose values,
this file says which names exist. `MISSING` marks what the user has to give.
"""

from dataclasses import dataclass, field
from typing import Any

MISSING: Any = "???"  # OmegaConf's own mark for a mandatory value


@dataclass
class ModelSettings:
    """Which reranker, and how a pair becomes token ids."""

    path: str = MISSING
    """Hub id, folder, or `package:NAME` for a model inside an installed Python package."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; its main branch when not set."""
    precision: str = "fp32"
    """`fp32`, or `bf16`: matrix products in bfloat16; weights, softmax and loss stay fp32."""
    query_tokens: int | None = None
    """Tokens of the query that are kept when a pair is too long (the passage is cut first);
    128 when not set."""
    max_tokens: int | None = None
    """Longest pair in tokens, special tokens included, never above the model's positions;
    when not set, the length that the model's tokenizer states, 512 at most."""
    attention_dropout: float | None = None
    """Dropout on attention weights while training; the model's own value when not set."""
    hidden_dropout: float | None = None
    """Dropout on hidden states while training; the model's own value when not set."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`; the fastest one present when not set."""


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
    """Further negatives of each group, beyond `group_size`: positives of other queries of the step which are
    not known as positives of its query."""
    tokens_per_batch: int | None = None
    """Tokens in one forward pass on one process: memory and speed, never the result; 2,048 on a CPU
    and 8,192 elsewhere when not set."""
    eval_every: int = 50
    """Steps between two evaluations on the dev queries; the last step is always evaluated."""
    patience: int | None = None
    """Stop after so many evaluations without a better dev measure; never when not set."""
    log_every: int = 1
    """Steps between two lines of metrics.jsonl."""
    keep_checkpoints: int = 2
    """Most recent complete checkpoints kept for resuming; the best model is kept apart."""


@dataclass
class DenseSettings:
    """The bi-encoder behind the first stages `dense` and `hybrid`."""

    path: str | None = None
    """Hub id, folder or `package:NAME` of a sentence-transformers model."""
    query_prompt: str = ""
    """Put before every query, `query: ` for models of the E5 family; what the model itself states when
    not set."""
    passage_prompt: str = ""
    """Put before every passage, `passage: ` for models of the E5 family; what the model itself states
    when not set."""
    batch_size: int = 32
    """Texts encoded at a time: memory and speed, never the result but for rounding."""


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
    """AdamW with linear warm-up and linear decay to zero."""

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
    """Decay rates of AdamW's first and second moment."""
    eps: float = 1e-8
    """AdamW's term against division by zero."""


@dataclass
class TrackerSettings:
    """Where the metrics go besides metrics.jsonl, which is always written."""

    name: str = "none"
    """`none`, or `wandb` (with WANDB_MODE=offline it needs no account)."""
    project: str = "uprank"
    """Project of the tracker."""


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


@dataclass
class EvalDataSettings:
    """The judged queries."""

    test: Any = MISSING
    """JSONL groups, a BEIR folder (its `test` split), one file of its `qrels/`,
    `hf://DATASET:CONFIG:SPLIT`, `mteb://TASK:SUBSET:SPLIT`, or TREC qrels (with `candidates` or
    `runs`); several as `[A, B]` or by name `{in_domain: A, guard: B}`."""
    train: Any = None
    """What the models were trained on: queries of it among the test queries are reported as leaks, with
    the result on the queries that are not."""


@dataclass
class ScoredModelSettings(ModelSettings):
    """A model that is only scored with, not trained."""

    backend: str = "uprank"
    """What scores: `uprank`, or to compare libraries `sentence_transformers`, `flag_embedding`, `onnx`
    (a folder with model.onnx and tokenizer.json; a dynamically quantised graph, whose scores would
    depend on the batch, is given one pair at a time)."""


@dataclass
class EvalModelSettings(ScoredModelSettings):
    """The one model to evaluate, and the budgets that every model is given."""

    path: str | None = None  # type: ignore[assignment]
    """Hub id or folder of the one model to evaluate; `models` takes several."""


@dataclass
class GateSettings:
    """Exit code 1 on a regression, for continuous integration."""

    measure: str | None = None
    """Measure that decides; there is no gate when not set."""
    min_delta: float = 0.0
    """Least difference to the baseline that is asked of every other model and run."""
    alpha: float = 0.05
    """A shortfall counts when the paired test puts it below this level; 1 counts every shortfall."""


@dataclass
class EvalCommand:
    """`uprank eval`."""

    model: EvalModelSettings = field(default_factory=EvalModelSettings)
    models: Any = None
    """Several models, `models=[ID, FOLDER]` or by name `models={base: ID, tuned: FOLDER}`;
    the first is the baseline."""
    data: EvalDataSettings = field(default_factory=EvalDataSettings)
    runs: Any = None
    """TREC run files to measure beside the models: `[A, B]` or by name `{dense: A, hybrid: B}`."""
    candidates: str = "auto"
    """`bm25`, `dense`, `hybrid` (BEIR data), `groups` (JSONL), `judged`, or the path of a TREC run file;
    `auto` takes `groups` where the data has its own candidates (JSONL, hf://), else `bm25`."""
    depth: int = 100
    """Candidates a query: the best `depth` of the first stage."""
    add_missing_positives: bool = False
    """Add relevant passages that the first stage did not find; every table says so."""
    dense: DenseSettings = field(default_factory=DenseSettings)
    measures: Any = field(default_factory=lambda: ["nDCG@10", "MRR@10"])
    """Measures as strings: `nDCG@10`, `MRR@10`, `R@100`, `MAP`; what has brackets is quoted twice,
    `'measures=[nDCG@10,"P@5(rel=2)"]'`."""
    baseline: str | None = None
    """System the others are compared with; the first model (the first stage if there is one model)."""
    tokens_per_batch: int | None = None
    """Tokens in one forward pass: memory and speed, never the result; 2,048 on a CPU and 16,384
    elsewhere when not set."""
    gate: GateSettings = field(default_factory=GateSettings)
    cache: bool = True
    """Keep every score under the hash of weights, settings and texts, and read it when it is there."""
    output: str = MISSING
    """Folder for report.json, per_query.jsonl, the TREC runs, the tables and report.html."""
    seed: int = 0
    """Of the bootstrap, the randomisation test and a new head."""
    threads: int | None = None
    """CPU threads; PyTorch's choice when not set."""


@dataclass
class PushSettings:
    """Upload to the hub."""

    repo: str | None = None
    """`organisation/name`; nothing touches a network when not set."""
    private: bool = True
    """Visibility of a repository that the upload creates."""


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
    """Show three dev queries with passages in the card; `false` keeps texts of the data out of it."""


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
    """Judged data of other domains, as in `data.test`: of the models that are as good on the dev queries,
    the one that is best on these is published."""
    guard_queries: int | None = 200
    """A seeded sample of so many queries of each guard; all of them when null."""
    guard_depth: int | None = None
    """Candidates a query of the guards; as many as of the dev queries when not set."""


@dataclass
class OnnxSettings:
    """Graphs for ONNX Runtime, each proven against the published model before it is kept."""

    graphs: list[str] | None = None
    """`fp32` (onnx/model.onnx), `int8` for CPUs (onnx/model_int8.onnx), `fp16` for GPUs
    (onnx/model_fp16.onnx); `[]` for none; when not set `[fp32]` where the extra `onnx` is installed."""
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
class CheckDataSettings:
    """Any of the three."""

    train: Any = None
    """Groups to learn from: whatever `uprank train` takes, several as `[A, B]`."""
    dev: Any = None
    """Held-out queries; several as `[A, B]`."""
    test: Any = None
    """Test queries; several as `[A, B]`."""
    on_error: str = "stop"
    """`stop`: rows with problems are errors; `skip`: those of `data.train` are listed as left out, as by
    training."""


@dataclass
class CheckCommand:
    """`uprank check`."""

    data: CheckDataSettings = field(default_factory=CheckDataSettings)
    model: EvalModelSettings = field(default_factory=EvalModelSettings)
    """With `model.path`: token lengths, the share of pairs that its budget cuts, and label noise."""
    examples: int | None = 5
    """Problems of each kind that are printed; all when null."""
    noise_queries: int = 50
    """With `model.path`: groups of `data.train`, drawn at random, whose negatives are compared with their
    positives; those that the model ranks higher may be relevant. 0 leaves it out."""
    json: bool = False
    """Print JSON in place of tables, also with the flag `--json`."""
    seed: int = 0
    """Decides which groups the model looks at."""
    threads: int | None = None
    """CPU threads; PyTorch's choice when not set."""


@dataclass
class MineDataSettings:
    """The queries with their relevant passages."""

    train: str = MISSING
    """BEIR folder (its `train` split), one file of its `qrels/`, or JSONL groups (with `corpus`)."""


@dataclass
class TeacherSettings(ModelSettings):
    """A reranker that looks at every negative before it is taken."""

    path: str | None = None  # type: ignore[assignment]
    """Hub id, folder or `package:NAME`; no teacher when not set."""
    margin: float = 0.0
    """A negative is vetoed unless its raw score is below the lowest positive's by more than this."""
    scores: bool = False
    """Write `pos_scores` and `neg_scores`, the teacher's raw scores, for distillation."""
    tokens_per_batch: int | None = None
    """Tokens in one forward pass: memory and speed, never the result but for rounding; 2,048 on a CPU and
    16,384 elsewhere when not set."""


@dataclass
class MineCommand:
    """`uprank mine`."""

    data: MineDataSettings = field(default_factory=MineDataSettings)
    corpus: str | None = None
    """Passages to search: JSONL with `text` (and `_id`, `title`), or a BEIR folder; the own corpus of a
    BEIR folder when not set."""
    retriever: str = "bm25"
    """First stage that finds the negatives: `bm25`, `dense`, `hybrid` (both, by reciprocal rank fusion),
    or `random` passages of the corpus."""
    dense: DenseSettings = field(default_factory=DenseSettings)
    depth: int = 100
    """Negatives are drawn among the best `depth` of the first stage."""
    skip: int = 0
    """So many of the best passages that are not judged relevant are passed over: the likeliest
    false negatives."""
    sampling: str = "random"
    """How negatives are drawn from the ranks `skip` to `depth`: `random` (all alike), `top` (the best),
    or `log_random` (rank r with a weight of 1/r)."""
    negatives: int = 15
    """Negatives a query at most."""
    near_duplicates: float | None = 0.8
    """A passage is no negative if it shares this much of its 5-character pieces with a positive (Jaccard);
    not looked at when null. Copies but for case, blanks and punctuation never are."""
    absolute_margin: float | None = None
    """A negative has to score below the lowest positive by more than this; `bm25` compares by BM25,
    `dense` and `hybrid` by the similarity of the bi-encoder."""
    relative_margin: float | None = None
    """A negative has to score below the lowest positive by more than this share of the positive's score:
    0.05 allows less than 95 %."""
    max_score: float | None = None
    """A negative has to score below this, on the scale of the margins."""
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    output: str = MISSING
    """JSONL file to write."""
    seed: int = 0
    """Decides which passages are drawn."""
    threads: int | None = None
    """CPU threads a process; PyTorch's choice when not set."""


@dataclass
class VerifyCommand:
    """`uprank verify`."""

    folder: str = MISSING
    """A folder that `uprank publish` made, or a copy of it."""
    threads: int | None = None
    """CPU threads; PyTorch's choice when not set."""


@dataclass
class ScoreCommand:
    """`uprank score`."""

    model: ScoredModelSettings = field(default_factory=ScoredModelSettings)
    input: str = "-"
    """JSONL file, `-` for stdin: rows `query, passage` or `query, documents`."""
    top_k: int | None = None
    """Rows with `documents`: only the best so many, best first; all when not set."""
    tokens_per_batch: int | None = None
    """Tokens in one forward pass: memory and speed, never the result; 2,048 on a CPU and 16,384
    elsewhere when not set."""
    threads: int | None = None
    """CPU threads; PyTorch's choice when not set."""


@dataclass
class RunsCommand:
    """`uprank runs`."""

    folder: str = "runs"
    """Folder with run folders, at any depth: a sweep, or all that was trained."""
