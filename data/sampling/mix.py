"""Several data sets as one: how many groups of each an epoch has, and whose turn is when.

All of it is a function of (seed, position): nothing is remembered from one step to the next (contract 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from ..groups import Group, fingerprint
from ..judged import describe_files
from ..prompts import Prompts
from .draws import Visit, epoch_order, ring
from .stream import EXAMPLES, Stream

STREAM_EPOCH = 10_000  # groups, for weights of data sets whose lengths are not known
MOST_SOURCES = 2**16  # so that a group's number fits the key of a generator, see `Mix.visits`


@dataclass(frozen=True)
class DataSource:
    """One data set to learn from.

    Attributes:
        given: its path, or its files by role, as the user gave it.
        groups: its groups, or how to read them one after another.
        fingerprint: names its content.
        skipped: what was wrong with the rows that were left out before training.
    """

    given: str | Mapping[str, Any]
    groups: Sequence[Group] | Stream
    fingerprint: str
    skipped: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The path, or the files by role in one line, for messages."""
        return describe_files(self.given)

    @property
    def length(self) -> int | None:
        """Number of groups; None of a stream, which nobody has counted."""
        return None if isinstance(self.groups, Stream) else len(self.groups)

    def facts(self, share: int) -> dict[str, Any]:
        """What the manifest says of it; `share` is its groups in an epoch."""
        stream = self.groups if isinstance(self.groups, Stream) else None
        return {
            "path": self.given,
            "fingerprint": self.fingerprint,
            "groups": self.length,
            "share": share,
            "skipped": stream.skipped if stream else len(self.skipped),
            "skipped_examples": stream.examples if stream else self.skipped[:EXAMPLES],
        }


def sources_of(given: Any) -> list[Any]:
    """The entries of `data.train`: one, or those of a list.

    >>> sources_of("a.jsonl"), sources_of(["a.jsonl", {"qrels": "q"}])
    (['a.jsonl'], ['a.jsonl', {'qrels': 'q'}])
    """
    return list(given) if isinstance(given, (list, tuple)) else [given]


def share_groups(lengths: Sequence[int | None], mix: Sequence[float] | None) -> list[int]:
    """Groups of each data set in an epoch.

    Args:
        lengths: of the data sets; None of a stream.
        mix: whole numbers: the groups of each themselves. Decimals: weights of an epoch as long as all data
            sets together (of `STREAM_EPOCH` groups for streams), shares rounded to whole groups so that none
            is a whole group off. None: every group once.

    >>> share_groups([70, 30], [0.5, 0.5]), share_groups([70, 30], [10, 200]), share_groups([70, 30], None)
    ([50, 50], [10, 200], [70, 30])
    """
    known = [STREAM_EPOCH if length is None else length for length in lengths]
    if mix is None:
        return known
    if all(isinstance(size, int) for size in mix):
        return [int(size) for size in mix]
    weights = [Fraction(weight) for weight in mix]
    total = STREAM_EPOCH if None in lengths else sum(known)
    exact = [weight * total / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    nearest = sorted(range(len(exact)), key=lambda place: shares[place] - exact[place])  # stable
    for place in nearest[: total - sum(shares)]:
        shares[place] += 1
    return shares


class Mix:
    """The order in which the groups of one or several data sets are learned from.

    An epoch has a fixed number of groups of each data set, in an order of its own. Data sets go on where
    the last epoch left them, so that over the epochs every group of one has its turn equally often: at no
    end of an epoch had one of them two turns more than another.

    Args:
        sources: the data sets.
        shares: groups of each in an epoch, at least 1.
        seed: the run's seed.
    """

    def __init__(self, sources: Sequence[DataSource], shares: Sequence[int], *, seed: int) -> None:
        self.sources = list(sources)
        self.shares = list(shares)
        self.seed = seed
        self.prompts = Prompts()  # of the model, for groups without their own
        self.per_epoch = sum(shares)
        self._starts = np.cumsum([0, *shares])
        self._rings: dict[int, np.ndarray] = {}

    @property
    def length(self) -> int | None:
        """Groups of all data sets together; None of streams."""
        lengths = [source.length for source in self.sources]
        known = [length for length in lengths if length is not None]
        return sum(known) if len(known) == len(lengths) else None

    @property
    def fingerprint(self) -> str:
        """Names the content of all data sets; of one it is its own."""
        prints = [source.fingerprint for source in self.sources]
        return prints[0] if len(prints) == 1 else fingerprint(prints)

    def __iter__(self) -> Iterator[Group]:
        """The groups of all data sets in the order of the files, each once."""
        for source in self.sources:
            if not isinstance(source.groups, Stream):
                yield from source.groups

    def visits(self, start: int, count: int) -> Iterator[Visit]:
        """The groups whose turn is at the positions `start` to `start + count`.

        Raises:
            UserError: a row of a stream is wrong, see `Stream`.
        """
        for position in range(start, start + count):
            epoch, offset = divmod(position, self.per_epoch)
            order = epoch_order(self.per_epoch, seed=self.seed, epoch=epoch)
            place = int(order[offset])  # in an epoch that is not shuffled: one data set after the other
            number = int(np.searchsorted(self._starts, place, side="right")) - 1
            groups, share = self.sources[number].groups, self.shares[number]
            if isinstance(groups, Stream):
                # The stream shuffles; the epoch only decides which data set is next.
                ranks = _ranks(self.per_epoch, tuple(self.shares), seed=self.seed, epoch=epoch)
                group, row, turn = groups.at(epoch * share + int(ranks[offset]))
            else:
                turn, row = divmod(epoch * share + place - int(self._starts[number]), len(groups))
                row = self._row(number, row)
                group = groups[row]
            yield Visit(self.prompts.group(group), number * 2**40 + row, position, turn)

    def epoch(self, position: int) -> float | None:
        """Epochs before a position; None of streams, whose ends nobody knows."""
        return None if self.length is None else position / self.per_epoch

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the data: content, sizes, proportions, and what was left out."""
        sources = [source.facts(share) for source, share in zip(self.sources, self.shares, strict=True)]
        given = [source.given for source in self.sources]
        return {
            "path": given[0] if len(given) == 1 else given,
            "fingerprint": self.fingerprint,
            "groups": self.length,
            "groups_per_epoch": None if self.length is None else self.per_epoch,
            "sources": sources,
        }

    def _row(self, number: int, turn: int) -> int:
        """Which row of a data set is the `turn`-th of its pass.

        Where an epoch holds whole passes, its own order shuffles them. Where it holds a part, a fixed ring
        decides which: the rows of a file would come in the order in which somebody wrote them.
        """
        length = self.sources[number].length or 0
        if self.shares[number] % length == 0:
            return turn
        if number not in self._rings:
            self._rings[number] = ring(length, seed=self.seed, number=number)
        return int(self._rings[number][turn])


@lru_cache(maxsize=2)
def _ranks(per_epoch: int, shares: tuple[int, ...], *, seed: int, epoch: int) -> np.ndarray:
    """For each offset of an epoch: how many groups of the same data set come before it in the epoch."""
    starts = np.cumsum([0, *shares])
    order = epoch_order(per_epoch, seed=seed, epoch=epoch)
    owner = np.searchsorted(starts, order, side="right") - 1
    by_owner = np.argsort(owner, kind="stable")
    ranks = np.empty(per_epoch, dtype=np.int64)
    ranks[by_owner] = np.arange(per_epoch) - starts[owner[by_owner]]
    return ranks
