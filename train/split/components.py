"""Queries that must not be parted, and the split of each."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

SPLITS = ("test", "dev", "train")  # in the order in which they are filled


def components(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Return groups of indices that are connected by common keys, in the order of their first members.

    >>> components([["a"], ["b", "c"], ["c"], ["a"]])
    [[0, 3], [1, 2]]
    """
    parents = list(range(len(keys)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    owners: dict[Hashable, int] = {}
    for index, own in enumerate(keys):
        for key in own:
            one, other = sorted((root(index), root(owners.setdefault(key, index))))
            parents[other] = one
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(keys)):
        members[root(index)].append(index)
    return list(members.values())


def assign(
    parts: Sequence[Sequence[int]], names: Sequence[str], shares: Mapping[str, float], seed: int
) -> list[str]:
    """Return the split of each query.

    Components come in an order that hangs on the seed and their queries alone; one that does not fit into
    what is left of test or dev goes to train.

    Args:
        parts: components of indices.
        names: N texts of the queries.
        shares: `dev` and `test`, shares of the N queries.
        seed: seed of the order.
    """

    def place(part: Sequence[int]) -> bytes:
        first = min(names[index] for index in part)
        return hashlib.blake2b(f"{seed} {first}".encode("utf-8", "surrogatepass")).digest()

    left = {name: round(shares[name] * len(names)) for name in ("test", "dev")}
    splits = ["train"] * len(names)
    for part in sorted(parts, key=place):
        for name, room in left.items():
            if len(part) <= room:
                left[name] -= len(part)
                for index in part:
                    splits[index] = name
                break
    return splits
