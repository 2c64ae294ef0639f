"""Settings of `uprank check` and `uprank mine`."""

from dataclasses import dataclass, field
from typing import Any

from .schema import MISSING, DenseSettings, EvalModelSettings, ModelSettings


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
