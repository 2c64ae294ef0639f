"""Settings of `uprank eval` and `uprank score`."""

from dataclasses import dataclass, field
from typing import Any

from .schema import MISSING, DenseSettings, EvalModelSettings, ScoredModelSettings


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
class ScoreCommand:
    """`uprank score`."""

    model: ScoredModelSettings = field(default_factory=ScoredModelSettings)
    input: str = "-"
    """JSONL file, `-` for stdin: rows `query, passage`, `query, documents`, or groups `query, pos, neg`, to
    which a teacher's `pos_scores` and `neg_scores` are added."""
    output: str | None = None
    """JSONL file to write; stdout when not set. A command that was killed continues its file."""
    top_k: int | None = None
    """Rows with `documents`: only the best so many, best first; all when not set."""
    tokens_per_batch: int | None = None
    """Tokens in one forward pass: memory and speed, never the result; 2,048 on a CPU and 16,384
    elsewhere when not set."""
    threads: int | None = None
    """CPU threads; PyTorch's choice when not set."""
