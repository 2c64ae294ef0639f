"""The dev queries, evaluated before and during training on the same candidates."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.errors import UserError
from ..configs.schema_train import DevSettings
from ..data.groups import Collection, sample_queries
from ..data.store import hash_file, hash_text, write_folder
from ..eval.evaluate import mean_intervals, mean_values
from ..eval.measures import Measure, parse_measures
from ..eval.processes import Share
from ..eval.records import read_record
from ..eval.retrieval import Candidates, find_candidates
from ..eval.scoring import Scored, Watch, score_candidates
from ..model.reranker import Reranker
from .run_folder import on_first

log = logging.getLogger(__name__)
SCORES, MEASURES = "scores.npy", "measures.json"


@dataclass(frozen=True)
class Kept:
    """What is kept of an evaluation beside its scores.

    Attributes:
        measures: mean of each measure.
        pairs: number of candidate pairs.
        truncated: pairs that were cut to the token budget.
        seconds: wall time of scoring.
        intervals: 95 % interval of each measure; empty in older runs.
        scores: hash of the file of scores; empty in older runs.
        hash: hash of all this; empty in older runs.
    """

    measures: dict[str, float]
    pairs: int
    truncated: int
    seconds: float
    intervals: dict[str, list[float]] = field(default_factory=dict)
    scores: str = ""
    hash: str = ""

    def digest(self) -> str:
        """Return the hash of all other fields."""
        return hash_text(json.dumps(asdict(replace(self, hash="")), sort_keys=True)).hex()


@dataclass
class Dev:
    """The dev collection with its candidates.

    Attributes:
        collection: judged queries.
        candidates: the documents to rank.
        measures: the measures; the first one chooses the best checkpoint.
        folder: `eval/` of the run folder; one folder for the base and each evaluated step.
        seed: seed of the intervals.
    """

    collection: Collection
    candidates: Candidates
    measures: list[Measure]
    folder: Path
    seed: int = 0

    def evaluate(
        self, reranker: Reranker, share: Share, name: str, *, stop: Callable[[], int] = int
    ) -> dict[str, float]:
        """Evaluate a model, keep its scores in `NAME/`, and return the means by measure.

        Args:
            reranker: the model.
            share: share of this rank.
            name: name of the folder.
            stop: called now and then; anything but 0 ends the evaluation.

        Raises:
            LeftEarly: `stop` ended it; nothing is kept.
            UserError: the scores cannot be written.
        """
        scored = score_candidates(
            reranker, self.collection, self.candidates, share=share, watch=Watch(stop=stop)
        )
        values = mean_values(self.collection, scored, self.measures)
        on_first(share, lambda: write_folder(self.folder / name, partial(self._keep, scored, values)))
        return values

    def has(self, name: str) -> bool:
        """Return True if an evaluation of that name was kept; one that is damaged counts as none."""
        if not (self.folder / name).is_dir():
            return False
        try:
            self._read(name)
        except UserError as error:
            log.warning("%s", error)
            return False
        return True

    def row(self, name: str) -> dict[str, dict[str, Any]]:
        """Return means and 95 % intervals of an earlier evaluation, as a row of metrics.jsonl."""
        kept, _ = self._read(name)
        return {"dev": kept.measures, "intervals": kept.intervals}

    def kept(self, name: str) -> Scored:
        """Load the scores of an earlier evaluation.

        Raises:
            UserError: they are damaged.
        """
        kept, scores = self._read(name)
        run: dict[str, dict[str, float]] = {query: {} for query in self.candidates.run}
        for (query, doc), score in zip(self.candidates.pairs, scores.tolist(), strict=True):
            run[query][doc] = score
        return Scored(run, kept.pairs, kept.truncated, kept.seconds)

    def _keep(self, scored: Scored, values: dict[str, float], folder: Path) -> None:
        flat = [score for row in scored.run.values() for score in row.values()]
        np.save(folder / SCORES, np.asarray(flat, dtype=np.float32))
        intervals = mean_intervals(self.collection, scored, self.measures, seed=self.seed)
        kept = Kept(
            measures=values,
            intervals={measure: list(ends) for measure, ends in intervals.items()},
            pairs=scored.pairs,
            truncated=scored.truncated,
            seconds=scored.seconds,
            scores=hash_file(folder / SCORES),
        )
        text = json.dumps(asdict(replace(kept, hash=kept.digest())), indent=2)
        (folder / MEASURES).write_text(text + "\n", encoding="utf-8")

    def _read(self, name: str) -> tuple[Kept, np.ndarray]:
        """Return an evaluation that was kept, with its (N,) scores; check their hashes."""
        folder, advice = self.folder / name, "Stored scores of the run are damaged; restore the file."
        try:
            kept = read_record(Kept, folder / MEASURES, "the measures of an evaluation")
            if kept.hash and kept.hash != kept.digest():
                raise UserError(f"{folder / MEASURES}: has changed since it was written")
            if kept.scores and kept.scores != hash_file(folder / SCORES):
                raise UserError(f"{folder / SCORES}: has changed since it was written")
            scores = np.load(folder / SCORES, allow_pickle=False)
            if scores.shape != (len(self.candidates.pairs),) or scores.dtype != np.float32:
                raise ValueError(f"not one float32 for each of {len(self.candidates.pairs)} pairs")
        except UserError as error:
            raise UserError(error.problems, advice=advice) from error
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{folder / SCORES}: cannot be read ({error})", advice=advice) from error
        return kept, scores


def make_dev(collection: Collection, settings: DevSettings, folder: Path, *, seed: int) -> Dev:
    """Find the candidates of the dev queries, or of a seeded sample of them.

    Raises:
        UserError: the measures or the candidates are not possible.
    """
    measures = parse_measures(settings.measures)
    collection = sample_queries(collection, settings.max_queries, seed)
    candidates = find_candidates(collection, settings.candidates, settings.depth, dense=settings.dense)
    relevant = {collection.qrels[query].get(doc, 0) > 0 for query, doc in candidates.pairs}
    if True not in relevant:
        raise UserError(
            f"{collection.path}: no dev candidate is relevant, so that every model would score 0 and no step "
            "could be chosen",
            advice="Judge some passages as relevant, or find more of them: dev.candidates, dev.depth.",
        )
    if False not in relevant:
        raise UserError(
            f"{collection.path}: every dev candidate is relevant, so that every model would score 1",
            advice="Give negatives (`neg`), or candidates from a first stage: bm25 or a TREC run file.",
        )
    return Dev(collection, candidates, measures, folder, seed)
