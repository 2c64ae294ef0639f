"""Mix several data sets: the number of groups of each in an epoch, and the order of turns.

Everything is a function of (seed, position): nothing is remembered between steps (contract 2).
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
from ..origin import find_origin
from ..prompts import Prompts
from .draws import Visit, epoch_order, ring
from .stream import EXAMPLES, Stream

STREAM_EPOCH = 10_000  # groups of an epoch that weights share out if lengths are unknown


@dataclass(frozen=True)
class DataSource:
    """One training data set.

    Attributes:
        given: the path, or the files by role, as given.
        groups: the groups, or the stream of them.
        fingerprint: hash of the content.
        skipped: problems of the rows that were skipped before training.
    """

    given: str | Mapping[str, Any]
    groups: Sequence[Group] | Stream
    fingerprint: str
    skipped: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Path, or files by role in one line, for messages."""
        return describe_files(self.given)

    @property
    def length(self) -> int | None:
        """Number of groups; None for a stream, which nobody has counted."""
        return None if isinstance(self.groups, Stream) else len(self.groups)

    def facts(self, share: int) -> dict[str, Any]:
        """Return its entry in the manifest; `share` is its number of groups in an epoch."""
        stream = self.groups if isinstance(self.groups, Stream) else None
        return {
            "path": self.given,
            "origin": find_origin(self.given),
            "fingerprint": self.fingerprint,
            "groups": self.length,
            "share": share,
            "skipped": stream.skipped if stream else len(self.skipped),
            "skipped_examples": stream.examples if stream else self.skipped[:EXAMPLES],
        }


def sources_of(given: Any) -> list[Any]:
    """Return the entries of `data.train`: one, or those of a list.

    >>> sources_of("a.jsonl"), sources_of(["a.jsonl", {"qrels": "q"}])
    (['a.jsonl'], ['a.jsonl', {'qrels': 'q'}])
    """
    return list(given) if isinstance(given, (list, tuple)) else [given]


def share_groups(lengths: Sequence[int | None], mix: Sequence[float] | None) -> list[int]:
    """Return the number of groups of each data set in an epoch.

    Args:
        lengths: length of each data set; None for a stream.
        mix: whole numbers are the numbers of groups. Decimals are weights of an epoch as long as all data
            sets together (`STREAM_EPOCH` groups with streams), rounded to whole groups with an error below
            one. None takes every group once.

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
    """Order of turns of the groups of one or several data sets.

    An epoch has a fixed number of groups of each data set, in an order of its own. A data set goes on where
    the last epoch left it, so that its groups have their turns equally often: at the end of an epoch, their
    numbers of turns differ by one at most.

    Args:
        sources: the data sets.
        shares: groups of each in an epoch, at least 1.
        seed: the run's seed.
    """

    def __init__(self, sources: Sequence[DataSource], shares: Sequence[int], *, seed: int) -> None:
        self.sources = list(sources)
        self.shares = list(shares)
        self.seed = seed
        self.prompts = Prompts()  # the model's, for groups without their own
        self.per_epoch = sum(shares)
        self._starts = np.cumsum([0, *shares])
        self._rings: dict[int, np.ndarray] = {}

    @property
    def length(self) -> int | None:
        """Number of groups of all data sets together; None with a stream."""
        lengths = [source.length for source in self.sources]
        known = [length for length in lengths if length is not None]
        return sum(known) if len(known) == len(lengths) else None

    @property
    def fingerprint(self) -> str:
        """Hash of the content of all data sets; the data set's own if there is one."""
        prints = [source.fingerprint for source in self.sources]
        return prints[0] if len(prints) == 1 else fingerprint(prints)

    def __iter__(self) -> Iterator[Group]:
        """Yield the groups of all data sets but streams once, in the order of the files."""
        for source in self.sources:
            if not isinstance(source.groups, Stream):
                yield from source.groups

    def visits(self, start: int, count: int) -> Iterator[Visit]:
        """Yield the turns at the positions `start` to `start + count`.

        Raises:
            UserError: a row of a stream is wrong, see `Stream`.
        """
        for position in range(start, start + count):
            epoch, offset = divmod(position, self.per_epoch)
            order = epoch_order(self.per_epoch, seed=self.seed, epoch=epoch)
            place = int(order[offset])  # index in the unshuffled epoch: one data set after the other
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
        """Return the epochs before a position; None with a stream, whose end is unknown."""
        return None if self.length is None else position / self.per_epoch

    def facts(self) -> dict[str, Any]:
        """Return the manifest's entry: content, sizes, proportions, and skipped rows."""
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
        """Return the row of a data set at the `turn`-th turn of its pass.

        An epoch of whole passes is shuffled by its own order. If an epoch takes only part of the data set, a
        fixed ring sets the order; otherwise rows would come in file order.
        """
        length = self.sources[number].length or 0
        if self.shares[number] % length == 0:
            return turn
        if number not in self._rings:
            self._rings[number] = ring(length, seed=self.seed, number=number)
        return int(self._rings[number][turn])


@lru_cache(maxsize=2)
def _ranks(per_epoch: int, shares: tuple[int, ...], *, seed: int, epoch: int) -> np.ndarray:
    """Return, for each offset of an epoch, the number of groups of the same data set before it."""
    starts = np.cumsum([0, *shares])
    order = epoch_order(per_epoch, seed=seed, epoch=epoch)
    owner = np.searchsorted(starts, order, side="right") - 1
    by_owner = np.argsort(owner, kind="stable")
    ranks = np.empty(per_epoch, dtype=np.int64)
    ranks[by_owner] = np.arange(per_epoch) - starts[owner[by_owner]]
    return ranks
