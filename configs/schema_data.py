"""Settings of `uprank check` and `uprank mine`."""

from dataclasses import dataclass, field
from typing import Any

from .schema import MISSING, DenseSettings, EvalModelSettings, ModelSettings


@dataclass
class CheckDataSettings:
    """The splits to check; at least one of the three."""

    train: Any = None
    """Training groups, in any form that `uprank train` takes; several as `[A, B]`."""
    dev: Any = None
    """Held-out queries; several as `[A, B]`."""
    test: Any = None
    """Test queries; several as `[A, B]`."""
    on_error: str = "stop"
    """`stop`: a row with problems is an error. `skip`: such rows of `data.train` are listed as skipped, as in
    training."""


@dataclass
class CheckCommand:
    """`uprank check`."""

    data: CheckDataSettings = field(default_factory=CheckDataSettings)
    model: EvalModelSettings = field(default_factory=EvalModelSettings)
    """With `model.path`: token lengths, the share of truncated pairs, and label noise."""
    examples: int | None = 5
    """Problems printed of each kind; null prints all."""
    noise_queries: int = 50
    """With `model.path`: number of random groups of `data.train` in which the model compares negatives with
    positives. A negative ranked above a positive may be relevant. 0 skips this."""
    json: bool = False
    """Print JSON instead of tables; same as the flag `--json`."""
    seed: int = 0
    """Selects the groups that the model looks at."""
    threads: int | None = None
    """CPU threads. Default: PyTorch's choice."""


@dataclass
class SplitCommand:
    """`uprank split`."""

    data: Any = MISSING
    """Rows of any format that training reads (several files as `[A, B]`), a BEIR folder (its `train` split),
    one file of its `qrels/`, or files by role `{qrels: Q, queries: QS, corpus: C}`."""
    output: str = MISSING
    """New folder: train.jsonl, dev.jsonl and test.jsonl, or a BEIR folder with these three in `qrels/`."""
    dev: float = 0.1
    """Share of the queries for choosing a checkpoint."""
    test: float = 0.1
    """Share of the queries for the result; 0 for none."""
    by: str = "query"
    """`query` keeps equal queries together; `passage` also queries that share a relevant passage, so that no
    split has seen another's passages."""
    seed: int = 0
    """Selects the queries; the order of the rows does not matter."""
    on_error: str = "stop"
    """`stop` at rows with problems, or `skip` them and say how many."""


@dataclass
class MineDataSettings:
    """Queries with their relevant passages."""

    train: Any = MISSING
    """BEIR folder (its `train` split), one file of its `qrels/`, files by role `{qrels: Q, queries: QS,
    corpus: C}`, or JSONL groups (with `corpus`; several files as `[A, B]`)."""
    on_error: str = "stop"
    """`stop` at rows with problems, or `skip` them and say how many."""


@dataclass
class TeacherSettings(ModelSettings):
    """A reranker that inspects each negative before it is taken."""

    path: str | None = None  # type: ignore[assignment]
    """Hub id, folder or `package:NAME`. Default: no teacher."""
    margin: float = 0.0
    """Reject a negative unless its raw score is lower than the lowest positive's by more than this."""
    scores: bool = False
    """Write the teacher's raw scores as `pos_scores` and `neg_scores`, for distillation."""
    tokens_per_batch: int | None = None
    """Tokens per forward pass. Affects memory and speed; results differ only by rounding. Default: 2,048 on a
    CPU, 16,384 elsewhere."""


@dataclass
class MineCommand:
    """`uprank mine`."""

    data: MineDataSettings = field(default_factory=MineDataSettings)
    corpus: str | None = None
    """Passages to search: JSONL with `text` (and `_id`, `title`), or a BEIR folder. Default: the corpus of
    the BEIR folder in `data.train`."""
    retriever: str = "bm25"
    """First stage that finds the negatives: `bm25`, `dense`, `hybrid` (both, by reciprocal rank fusion),
    `random`, or a TREC run file of your own search engine."""
    dense: DenseSettings = field(default_factory=DenseSettings)
    depth: int = 100
    """Draw negatives from the best `depth` passages of the first stage."""
    skip: int = 0
    """Skip this many of the best passages not judged relevant: the likeliest false negatives."""
    sampling: str = "random"
    """How to draw from ranks `skip` to `depth`: `random` (uniform), `top` (the best) or `log_random` (rank r
    with weight 1/r)."""
    negatives: int = 15
    """Most negatives per query."""
    near_duplicates: float | None = 0.8
    """Reject a passage whose 5-character pieces overlap with a positive's by at least this much (Jaccard);
    null turns this off. Copies that differ only in case, whitespace or punctuation are always rejected."""
    absolute_margin: float | None = None
    """Reject a negative unless it scores lower than the lowest positive by more than this. `bm25` compares
    BM25 scores, `dense` and `hybrid` similarities of the bi-encoder."""
    relative_margin: float | None = None
    """Reject a negative unless it scores lower than the lowest positive by more than this share of the
    positive's score: 0.05 allows less than 95 %."""
    max_score: float | None = None
    """Reject a negative unless it scores below this, on the scale of the margins."""
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    output: str = MISSING
    """JSONL file to write."""
    seed: int = 0
    """Selects the passages that are drawn."""
    threads: int | None = None
    """CPU threads per process. Default: PyTorch's choice."""
