"""The dev queries: measured before the first step and while training, on the same candidates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..configs.errors import UserError
from ..configs.schema_train import DevSettings
from ..data.groups import Collection
from ..eval.candidates import Candidates, find_candidates
from ..eval.evaluate import mean_values
from ..eval.measure import Measure, parse_measures
from ..eval.scoring import Scored, Share, score_candidates
from ..model.reranker import Reranker


@dataclass
class Dev:
    """The dev collection with its candidates.

    Attributes:
        collection: judged queries.
        candidates: what is ranked.
        measures: what is measured; the first one chooses the best checkpoint.
        folder: `eval/` of the run folder; one folder for the base and each evaluated step.
    """

    collection: Collection
    candidates: Candidates
    measures: list[Measure]
    folder: Path

    def evaluate(self, reranker: Reranker, share: Share, name: str) -> dict[str, float]:
        """Measure a model and keep its scores as `NAME/`; the means by measure."""
        scored = score_candidates(reranker, self.collection, self.candidates, share=share)
        values = mean_values(self.collection, scored, self.measures)
        if share.index == 0:
            self._keep(name, scored, values)
        return values

    def has(self, name: str) -> bool:
        """Whether an evaluation of that name was kept."""
        return all((self.folder / name / file).is_file() for file in ("scores.npy", "measures.json"))

    def values(self, name: str) -> dict[str, float]:
        """Means of an earlier evaluation, by measure."""
        means: dict[str, float] = json.loads((self.folder / name / "measures.json").read_text())["measures"]
        return means

    def kept(self, name: str) -> Scored:
        """Scores of an earlier evaluation."""
        folder = self.folder / name
        about = json.loads((folder / "measures.json").read_text())
        scores = np.load(folder / "scores.npy", allow_pickle=False)
        run: dict[str, dict[str, float]] = {query: {} for query in self.candidates.run}
        for (query, doc), score in zip(self.candidates.pairs, scores.tolist(), strict=True):
            run[query][doc] = score
        return Scored(run, about["pairs"], about["truncated"], about["seconds"])

    def _keep(self, name: str, scored: Scored, values: dict[str, float]) -> None:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        flat = [score for row in scored.run.values() for score in row.values()]
        np.save(folder / "scores.npy", np.asarray(flat, dtype=np.float32))
        about = {
            "measures": values,
            "pairs": scored.pairs,
            "truncated": scored.truncated,
            "seconds": scored.seconds,
        }
        (folder / "measures.json").write_text(json.dumps(about, indent=2) + "\n")


def make_dev(collection: Collection, settings: DevSettings, folder: Path, *, seed: int) -> Dev:
    """Find the candidates of the dev queries, all of them or a seeded sample.

    Raises:
        UserError: the measures or the candidates are not possible.
    """
    measures = parse_measures(settings.measures)
    if settings.max_queries is not None and settings.max_queries < len(collection.queries):
        collection = _sample(collection, settings.max_queries, seed)
    candidates = find_candidates(collection, settings.candidates, settings.depth, dense=settings.dense)
    if all(collection.qrels[query].get(doc, 0) > 0 for query, doc in candidates.pairs):
        raise UserError(
            f"{collection.path}: every dev candidate is relevant, so that every model would score 1",
            advice="Give negatives (`neg`), or candidates from a first stage: bm25 or a TREC run file.",
        )
    return Dev(collection, candidates, measures, folder)


def _sample(collection: Collection, count: int, seed: int) -> Collection:
    chosen = np.random.default_rng(seed).choice(len(collection.queries), size=count, replace=False)
    names = list(collection.queries)
    keep = {names[i] for i in chosen}
    return Collection(
        collection.path,
        {query: text for query, text in collection.queries.items() if query in keep},
        collection.passages,
        {query: row for query, row in collection.qrels.items() if query in keep},
        {query: row for query, row in collection.pools.items() if query in keep},
    )
