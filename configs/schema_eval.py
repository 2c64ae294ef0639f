"""Settings of `uprank eval` and `uprank score`."""

from dataclasses import dataclass, field
from typing import Any

from .schema import MISSING, DenseSettings, EvalModelSettings, ScoredModelSettings


@dataclass
class EvalDataSettings:
    """Judged queries."""

    test: Any = MISSING
    """JSONL groups, a BEIR folder (its `test` split), one file of its `qrels/`, `hf://DATASET:CONFIG:SPLIT`,
    `mteb://TASK:SUBSET:SPLIT`, files by role `{qrels: Q, queries: QS, corpus: C}` (with `run: R` its
    candidates), or TREC qrels (with `candidates` or `runs`). Several as `[A, B]` or by name
    `{in_domain: A, guard: B}`."""
    train: Any = None
    """Training data of the models. Test queries that occur in it are reported as leaks, together with the
    result on all other queries."""
    on_error: str = "stop"
    """`stop` at rows with problems, or `skip` them; the report states how many."""


@dataclass
class GateSettings:
    """Exit with code 1 on a regression, for continuous integration."""

    measure: str | None = None
    """Measure that decides. Default: no gate."""
    min_delta: float = 0.0
    """Smallest allowed difference from the baseline, for every other model and run."""
    alpha: float = 0.05
    """Level of the paired test below which a shortfall counts; 1 counts every shortfall."""


@dataclass
class EvalCommand:
    """`uprank eval`."""

    model: EvalModelSettings = field(default_factory=EvalModelSettings)
    models: Any = None
    """Several models, `models=[ID, FOLDER]`, or by name `models={base: ID, tuned: FOLDER}`. The first is the
    baseline."""
    data: EvalDataSettings = field(default_factory=EvalDataSettings)
    runs: Any = None
    """TREC run files to measure beside the models: `[A, B]`, or by name `{dense: A, hybrid: B}`."""
    candidates: str = "auto"
    """`bm25`, `dense`, `hybrid` (BEIR data), `groups` (JSONL), `judged`, or the path of a TREC run file.
    `auto` means `groups` if the data brings its own candidates (JSONL, hf://), else `bm25`."""
    depth: int = 100
    """Candidates per query: the best `depth` of the first stage."""
    max_queries: int | None = None
    """Measure a seeded sample of so many queries of each collection, for a quick look. Every report says so;
    `uprank publish` refuses it. Default: all."""
    add_missing_positives: bool = False
    """Add relevant passages that the first stage did not find; every table says so."""
    dense: DenseSettings = field(default_factory=DenseSettings)
    measures: Any = field(default_factory=lambda: ["nDCG@10", "MRR@10"])
    """List of measures: `nDCG@10`, `MRR@10`, `R@100`, `MAP`. A name with brackets is quoted twice:
    `'measures=[nDCG@10,"P@5(rel=2)"]'`."""
    baseline: str | None = None
    """System that all others are compared with. Default: the first model, or the first stage if there is only
    one model."""
    tokens_per_batch: int | None = None
    """Tokens per forward pass. Affects memory and speed, not the result. Default: 2,048 on a CPU, 16,384
    elsewhere."""
    gate: GateSettings = field(default_factory=GateSettings)
    cache: bool = True
    """Store every score under the hash of weights, settings and texts, and reuse stored scores."""
    output: str = MISSING
    """Folder for report.json, per_query.jsonl, the TREC runs, the tables and report.html."""
    seed: int = 0
    """Seed of the bootstrap, the randomisation test and a new head."""
    threads: int | None = None
    """CPU threads. Default: PyTorch's choice."""


@dataclass
class ScoreCommand:
    """`uprank score`."""

    model: ScoredModelSettings = field(default_factory=ScoredModelSettings)
    input: str = "-"
    """JSONL file, or `-` for stdin. Rows hold `query, passage`, or `query, documents`, or a group `query,
    pos, neg`, which gets `pos_scores` and `neg_scores` for distillation."""
    output: str | None = None
    """JSONL file to write. Default: stdout. A killed command continues its file."""
    top_k: int | None = None
    """For rows with `documents`: keep only this many, best first. Default: all."""
    tokens_per_batch: int | None = None
    """Tokens per forward pass. Affects memory and speed, not the result. Default: 2,048 on a CPU, 16,384
    elsewhere."""
    threads: int | None = None
    """CPU threads. Default: PyTorch's choice."""
