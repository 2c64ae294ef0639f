"""Stream groups from start to end, without a cache or an index, for data larger than a disk or read once.

Groups come in blocks, each shuffled by itself. The group of the n-th turn depends only on the data, the block
size, the seed and n: a turn far ahead gives the same group as going there turn by turn, at the cost of
reading up to it (`Stream.at`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from ...configs.errors import UserError
from ..groups import Group, fingerprint, groups_fingerprint
from ..problems import SHOWN, Problems, require
from .draws import block_order

log = logging.getLogger(__name__)

HEAD = 1000  # groups that are hashed for a stream's fingerprint
EXAMPLES = 5  # skipped rows kept for the manifest
ADVICE = (
    "Nothing was learned from these rows. The same command with data.on_error=skip continues after the last "
    "checkpoint without them; or mend them and give a new output folder."
)

Reader = Callable[[Problems], Iterator[Group]]


class Stream:
    """An endless sequence of turns over data that is read again from its start after each pass.

    Memory holds one block of groups.

    Args:
        name: name for messages.
        read: reads from the start, and adds the problems of a row when it comes to it.
        number: number of the data set in the run, below 2**16.
        block: groups that are shuffled together.
        seed: the run's seed.
        refuse: returns why a group cannot be used in this run, or nothing.
        skip: True skips and counts rows with problems; False makes them an error.
    """

    def __init__(
        self,
        name: str,
        read: Reader,
        *,
        number: int,
        block: int,
        seed: int,
        refuse: Callable[[Group], str],
        skip: bool,
    ) -> None:
        self.name = name
        self.skipped = 0  # rows skipped so far, counted in the first pass only
        self.examples: list[str] = []
        self._read, self._number, self._size, self._seed = read, number, block, seed
        self._refuse, self._skip = refuse, skip
        self._length: int | None = None  # groups of a pass, known after the first
        self._pass = self._first = 0  # `_first` is the turn of the block's first group
        self._block: list[Group] = []
        self._order: list[int] | None = None
        self._problems = Problems()
        self._groups = read(self._problems)

    def at(self, turn: int) -> tuple[Group, int, int]:
        """Return the group of a turn, its row in the data (from 0), and the number of passes before.

        Turns in order cost the reading. A turn ahead costs reading up to it; one beyond the end of the data
        costs a pass to count the groups, and reading from the start.

        Raises:
            UserError: a row has problems and `skip` is False, a file cannot be read, or the data has
                changed since it was read before.
        """
        if turn < self._first:
            self._begin(0 if self._length is None else turn // self._length)
        while turn >= self._first + len(self._block):
            self._first += len(self._block)
            self._block = self._next_block()
            if not self._block:
                self._end()
                assert self._length is not None
                self._begin(turn // self._length)
        if self._order is None:
            self._order = block_order(
                len(self._block), seed=self._seed, number=self._number, turn=self._first
            ).tolist()
        place = self._order[turn - self._first]
        start = self._first - self._pass * (self._length or 0)
        return self._block[place], start + place, self._pass

    def _begin(self, number: int) -> None:
        """Go to the start of a pass."""
        self._pass, self._first = number, number * (self._length or 0)
        self._block, self._order, self._problems = [], None, Problems()
        self._groups = self._read(self._problems)

    def _end(self) -> None:
        length = self._first - self._pass * (self._length or 0)
        if not length:
            raise UserError(f"{self.name}: no group can be used")
        if self._length not in (None, length):
            raise UserError(
                f"{self.name}: has changed while it was read: {self._length:,} groups, now {length:,}"
            )
        self._length = length

    def _next_block(self) -> list[Group]:
        self._order = None
        block: list[Group] = []
        wrong = Problems()
        for group in self._groups:
            problem = self._refuse(group)
            if problem:
                wrong.add("row", problem)
            else:
                block.append(group)
            if len(block) == self._size or (not self._skip and len(wrong) + len(self._problems) >= SHOWN):
                break
        wrong += self._problems
        self._problems.clear()
        self._judge(wrong)
        return block

    def _judge(self, wrong: Problems) -> None:
        require(wrong.of("file"))
        if not wrong:
            return
        if not self._skip:
            require(wrong, advice=ADVICE)
        if self._length is None:  # later passes meet the same rows
            self.skipped += len(wrong)
            self.examples += wrong[: EXAMPLES - len(self.examples)]
            log.warning(
                "%s: %d rows left out by data.on_error=skip so far; %s",
                self.name,
                self.skipped,
                "; ".join(wrong[:EXAMPLES]),
            )


def look_ahead(
    path: str, read: Reader, refuse: Callable[[Group], str], problems: Problems, *, skip: bool
) -> str:
    """Read the first `HEAD` groups of a stream before training; return their fingerprint with file sizes.

    The rest is not read before training: a change behind the head that keeps the size goes unseen.
    """
    wrong = Problems()
    head = list(islice(read(wrong), HEAD))
    if not skip:
        wrong += filter(None, map(refuse, head))
    files = wrong.of("file")
    if skip and not head and not files:
        why = f": every row has problems, the first is {wrong[0]}" if wrong else ""
        problems.add("row", f"{path}: no groups{why}")
    problems += files if skip else wrong
    return fingerprint(["head", groups_fingerprint(head), *map(str, _sizes(Path(path)))])


def _sizes(path: Path) -> list[int]:
    """Return the size of a file, or of each file of a folder; nothing for what is on no disk."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file.stat().st_size for file in files if file.is_file()]
