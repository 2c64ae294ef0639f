"""Score candidates with a model: each distinct pair once, on one rank or sharded over several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..configs.errors import UserError
from ..data.groups import Collection
from ..data.prompts import NO_PROMPTS, Pair
from .processes import Share
from .retrieval import Candidates
from .score_cache import ScoreCache

REGION = 200_000  # pairs sorted by length together: enough for equal lengths, bounded memory
NAMED = 5  # pairs named in an error


class LeftEarly(Exception):
    """Scoring ended early because some rank was asked to stop; raised on every rank."""


@dataclass(frozen=True)
class Watch:
    """How one scoring is named, watched and interrupted, block by block.

    Attributes:
        name: the model in messages.
        block_tokens: tokens of a block, after which scores are committed to the cache: what a kill may cost.
        progress: called with the pairs done and the pairs there are for this rank.
        stop: asked after each block; a value other than 0 ends the scoring.
    """

    name: str = "the model"
    block_tokens: int = 16_384
    progress: Callable[[int, int], object] = lambda done, total: None
    stop: Callable[[], int] = int


@dataclass(frozen=True)
class Scored:
    """Scores of one model on the candidates.

    Attributes:
        run: query id -> document id -> raw float32 logit.
        pairs: number of candidate pairs.
        truncated: pairs that were cut to the token budget.
        seconds: wall time of scoring on the slowest rank; 0 if all was in the cache.
        cached: pairs whose score came from the cache.
        cut: whether each pair was cut, query after query, shape (pairs,), bool; None if unknown.
    """

    run: dict[str, dict[str, float]]
    pairs: int
    truncated: int
    seconds: float
    cached: int = 0
    cut: np.ndarray | None = None


def score_candidates(
    model: Any,
    collection: Collection,
    candidates: Candidates,
    *,
    share: Share | None = None,
    cache: ScoreCache | None = None,
    watch: Watch | None = None,
) -> Scored:
    """Score every distinct pair of texts once.

    Each rank fills its own cells of one array, every count-th pair, then the arrays are summed: there are no
    rows to trim or to reorder, whatever the number of ranks.

    Args:
        model: a `Reranker`, or a `Peer` of model/backends.
        collection: the texts.
        candidates: the pairs.
        share: share of this rank; all pairs if None.
        cache: where scores are looked up first and kept after each block.
        watch: name, block size, progress and stop; defaults if None.

    Raises:
        LeftEarly: `watch.stop` ended the scoring.
        UserError: a score is NaN or infinite; raised on every rank.
    """
    share, watch = share or Share(), watch or Watch()
    prompts = getattr(model, "prompts", None)
    if prompts:  # cache, lengths and model see the texts with their prompts
        collection, model = prompts.collection(collection), replace(model, prompts=NO_PROMPTS)
    ids = candidates.pairs
    texts, where = _distinct(collection, ids)
    mine = np.arange(share.index, len(texts), share.count)
    cells = _Cells(np.zeros((4, len(texts))), cache, watch, len(mine))
    seconds, left = np.zeros(share.count), np.zeros(1)
    for start in range(0, len(mine), REGION):
        region = mine[start : start + REGION]
        seconds[share.index] += cells.fill(model, region, texts.pairs(region))
        left[0] = cells.left and cells.done < len(mine)
        if cells.broken or left[0]:
            break
    summed = share.total(np.concatenate((cells.values.ravel(), seconds, left)))
    values, seconds = summed[: cells.values.size].reshape(cells.values.shape), summed[cells.values.size : -1]
    scores, cut, cached = values[[0, 2, 3]][:, where]
    _require_finite(watch.name, ids, scores)
    if summed[-1]:
        raise LeftEarly
    wrong = int((values[1] != 1).sum())
    if wrong:
        raise AssertionError(f"{wrong} of {len(texts)} pairs not scored exactly once")
    run: dict[str, dict[str, float]] = {query: {} for query in candidates.run}
    for (query, doc), score in zip(ids, scores.tolist(), strict=True):
        run[query][doc] = score
    slowest = float(seconds.max(initial=0.0))
    return Scored(run, len(ids), int(cut.sum()), slowest, int(cached.sum()), cut.astype(bool))


@dataclass
class _Cells:
    """Results of this rank: four rows of score, times scored or found in the cache, cut, cached.

    Attributes:
        values: shape (4, P) for P distinct pairs; float64, which represents every float32.
        total: pairs of this rank.
        done: pairs that have a score.
        broken: whether a score was not finite; the rest is not scored then.
        left: whether scoring was asked to stop; the rest is not scored either.
    """

    values: np.ndarray
    cache: ScoreCache | None
    watch: Watch
    total: int
    done: int = 0
    broken: bool = False
    left: bool = False

    def fill(self, model: Any, cells: np.ndarray, texts: Sequence[Pair]) -> float:
        """Look up or score the pairs of these cells; return the seconds of scoring."""
        rest = np.arange(len(cells))
        if self.cache:
            scores, cut, found = self.cache.read(texts)
            self._put(cells[found], scores[found], cut[found], cached=True)
            rest = np.flatnonzero(~found)
        if not len(rest):
            return 0.0
        start = time.perf_counter()
        full = model.pairs.full_lengths([texts[i] for i in rest.tolist()])
        lengths = np.minimum(full, model.pairs.max_tokens)
        for block in _blocks(lengths, self.watch.block_tokens):
            chosen = rest[block]
            given, cut = [texts[i] for i in chosen.tolist()], full[block] > model.pairs.max_tokens
            scores = np.asarray(model.score(given), dtype=np.float32)
            self._put(cells[chosen], scores, cut, cached=False)
            if self.cache:
                self.cache.write(given, scores, cut)
            self.left = bool(self.watch.stop())
            if self.broken or self.left:
                break
        return time.perf_counter() - start

    def _put(self, cells: np.ndarray, scores: np.ndarray, cut: np.ndarray, *, cached: bool) -> None:
        self.values[0, cells] = scores
        self.values[1, cells] += 1
        self.values[2, cells] = cut
        self.values[3, cells] = cached
        self.done += len(cells)
        self.broken |= not np.isfinite(scores).all()
        self.watch.progress(self.done, self.total)


def _blocks(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Yield places of the pairs, the longest first, in blocks of at most `tokens` tokens.

    After a kill, the pairs left are the end of this order, starting at a block. So the next run forms the
    same blocks: the same batches, the same scores to the bit.
    """
    order = np.argsort(-lengths, kind="stable")
    start, held = 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        if place > start and held + length > tokens:
            yield order[start:place]
            start, held = place, 0
        held += length
    if start < len(order):
        yield order[start:]


@dataclass(frozen=True)
class _Texts:
    """Distinct pairs of texts, each coded as query number * passages + passage number."""

    queries: list[str]
    passages: list[str]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def pairs(self, cells: np.ndarray) -> list[Pair]:
        """Return the texts of some of the pairs."""
        numbers = np.divmod(self.codes[cells], max(len(self.passages), 1))
        chosen = zip(*(row.tolist() for row in numbers), strict=True)
        return [(self.queries[query], self.passages[passage]) for query, passage in chosen]


def _distinct(collection: Collection, ids: Sequence[Pair]) -> tuple[_Texts, np.ndarray]:
    """Return the distinct pairs of texts, grouped by query, and the place among them of each pair of ids."""
    queries: dict[str, int] = {}
    passages: dict[str, int] = {}
    numbers = np.empty((2, len(ids)), dtype=np.int64)
    for place, (query, doc) in enumerate(ids):
        numbers[0, place] = queries.setdefault(collection.queries[query], len(queries))
        numbers[1, place] = passages.setdefault(collection.passages[doc], len(passages))
    codes, where = np.unique(numbers[0] * len(passages) + numbers[1], return_inverse=True)
    return _Texts(list(queries), list(passages), codes), where


def _require_finite(name: str, ids: Sequence[Pair], scores: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(scores)).tolist()
    if wrong:
        named = [
            f"{name}: score {scores[i]} for query {ids[i][0]!r}, document {ids[i][1]!r}"
            for i in wrong[:NAMED]
        ]
        more = [f"… and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
        raise UserError(
            named + more,
            advice="NaN and infinite scores cannot be ranked: the weights are damaged, or overflow in this "
            "precision (try model.precision=fp32).",
        )
