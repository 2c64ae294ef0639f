"""Score candidates with a model: each distinct pair once, on one process or shared out over several."""

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
BLOCK_TOKENS = 16_384  # tokens scored between two commits: seconds of work that a kill may cost
NAMED = 5  # pairs named in an error


class LeftEarly(Exception):
    """Scoring was left before its end, as some process was asked to stop; raised on every process."""


@dataclass(frozen=True)
class Scored:
    """Scores of one model on the candidates.

    Attributes:
        run: query id -> document id -> raw float32 logit.
        pairs: candidate pairs, each of which has its score.
        truncated: pairs that were cut to the token budget.
        seconds: wall time of scoring what was scored, of the slowest process; 0 if all was in the cache.
        cached: pairs whose score came from the cache.
        cut: whether each pair was cut, query after query, shape (pairs,), bool; None where unknown.
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
    progress: Callable[[int, int], object] | None = None,
    cache: ScoreCache | None = None,
    name: str = "the model",
    block_tokens: int = BLOCK_TOKENS,
    stop: Callable[[], int] = int,
) -> Scored:
    """Score every distinct pair of texts once.

    Each process fills its own cells of one array, every count-th pair, then the arrays are
    added: no rows to trim or to reorder, whatever the number of processes.

    Args:
        model: a `Reranker`, or a `Peer` of model/backends.py.
        collection: the texts.
        candidates: the pairs.
        share: of this process; all pairs when None.
        progress: called with the pairs done and the pairs there are for this process.
        cache: where scores are looked up first and kept after each block.
        name: of the model, for messages.
        block_tokens: tokens between two commits to the cache.
        stop: asked after each block; scoring is left when it gives anything but 0.

    Raises:
        LeftEarly: it was left.
        UserError: a score is NaN or infinite; on every process alike.
    """
    share = share or Share()
    prompts = getattr(model, "prompts", None)
    if prompts:  # the cache, the lengths and the model see the texts as they are read
        collection, model = prompts.collection(collection), replace(model, prompts=NO_PROMPTS)
    ids = candidates.pairs
    texts, where = _distinct(collection, ids)
    mine = np.arange(share.index, len(texts), share.count)
    progress = progress or (lambda done, total: None)
    cells = _Cells(np.zeros((4, len(texts))), cache, progress, stop, len(mine))
    seconds, left = np.zeros(share.count), np.zeros(1)
    for start in range(0, len(mine), REGION):
        region = mine[start : start + REGION]
        seconds[share.index] += cells.fill(model, region, texts.pairs(region), block_tokens)
        left[0] = cells.left and cells.done < len(mine)
        if cells.broken or left[0]:
            break
    summed = share.total(np.concatenate((cells.values.ravel(), seconds, left)))
    values, seconds = summed[: cells.values.size].reshape(cells.values.shape), summed[cells.values.size : -1]
    scores, cut, cached = values[[0, 2, 3]][:, where]
    _require_finite(name, ids, scores)
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
    """What this process found: four rows of score, times scored or found, cut, cached.

    Attributes:
        values: shape (4, P) of P distinct pairs, float64, which holds every float32.
        broken: whether a score was not finite: the rest is not scored then.
        left: whether it was asked to stop: neither is it then.
    """

    values: np.ndarray
    cache: ScoreCache | None
    progress: Callable[[int, int], object]
    stop: Callable[[], int]
    total: int
    done: int = 0
    broken: bool = False
    left: bool = False

    def fill(self, model: Any, cells: np.ndarray, texts: Sequence[Pair], block_tokens: int) -> float:
        """Look up or score the pairs of these cells; seconds of scoring."""
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
        for block in _blocks(lengths, block_tokens):
            chosen = rest[block]
            given, cut = [texts[i] for i in chosen.tolist()], full[block] > model.pairs.max_tokens
            scores = np.asarray(model.score(given), dtype=np.float32)
            self._put(cells[chosen], scores, cut, cached=False)
            if self.cache:
                self.cache.write(given, scores, cut)
            self.left = bool(self.stop())
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
        self.progress(self.done, self.total)


def _blocks(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Places of the pairs, the longest first, in blocks of so many tokens.

    What a killed process leaves is the end of this order from the beginning of a block on, so
    that the next one makes the same blocks of it: the same batches, the same scores to the bit.
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
    """The distinct pairs of texts, each as query number * passages + passage number."""

    queries: list[str]
    passages: list[str]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def pairs(self, cells: np.ndarray) -> list[Pair]:
        """The texts of some of them."""
        numbers = np.divmod(self.codes[cells], max(len(self.passages), 1))
        chosen = zip(*(row.tolist() for row in numbers), strict=True)
        return [(self.queries[query], self.passages[passage]) for query, passage in chosen]


def _distinct(collection: Collection, ids: Sequence[Pair]) -> tuple[_Texts, np.ndarray]:
    """The distinct pairs of texts, the pairs of a query together, and which of them each pair of ids is."""
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
