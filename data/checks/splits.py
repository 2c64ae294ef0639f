"""One pass over the groups of a split: counts, what is odd about texts and rows, queries of other splits."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import xxhash

from ..encoding import PairEncoder
from ..groups import Group
from ..problems import Findings
from ..prompts import Prompts
from ..store import chunks
from .characters import text_problems
from .duplicates import find_contradictions, find_repeated_passages, find_repeated_rows, row_keys
from .leaks import Match, QueryIndex
from .lengths import Lengths, measure_lengths
from .similarity import near_negatives, pieces_of

CHARACTERS = 1 << 21  # of a chunk at most (a row may be larger): what a pass holds in memory
SHARED = {
    "leak": "is also in",
    "misspelt leak": "is, spelt differently, also in",
    "similar query": "is similar to one of",
}


@dataclass(frozen=True)
class CheckedSource:
    """One of the paths of a split.

    Attributes:
        name: as the user gave it.
        groups: what was read.
    """

    name: str
    groups: Sequence[Group]


@dataclass
class Split:
    """A split, and what a pass over it leaves: 8 bytes a text, and the queries where others are looked up.

    Attributes:
        name: `train`, `dev` or `test`.
        sources: all its paths.
        queries: hash of each query without case, blanks and punctuation.
        rows: hash of each group likewise.
        passages: hash of each passage as it is; empty where there is nothing to compare with.
        texts: of the queries, where those of other splits are looked up among them; else empty.
    """

    name: str
    sources: list[CheckedSource]
    queries: array[int] = field(default_factory=lambda: array("Q"))
    rows: array[int] = field(default_factory=lambda: array("Q"))
    passages: array[int] = field(default_factory=lambda: array("Q"))
    texts: list[str] = field(default_factory=list)

    def group(self, place: int) -> Group:
        """A group by its place in all sources together."""
        for source in self.sources:
            if place < len(source.groups):
                return source.groups[place]
            place -= len(source.groups)
        raise IndexError(place)


@dataclass(frozen=True)
class SourceCounts:
    """Counts of one source.

    Attributes:
        split: `train`, `dev` or `test`.
        path: where it was read.
        groups: queries with at least one relevant passage.
        positives: relevant passages, over all groups.
        negatives: negatives, over all groups.
        positives_per_group: least, median and most of a group.
        negatives_per_group: least, median and most of a group.
        without_negatives: groups that have none.
        repeated: groups whose query stood before in the split, but for case, blanks and punctuation.
        lengths: in tokens; None without a tokenizer.
    """

    split: str
    path: str
    groups: int
    positives: int
    negatives: int
    positives_per_group: tuple[int, int, int]
    negatives_per_group: tuple[int, int, int]
    without_negatives: int
    repeated: int
    lengths: Lengths | None


@dataclass(frozen=True)
class Shared:
    """What two splits share.

    Attributes:
        first: one split.
        second: the other.
        queries: of the first that are in the second, too: equal, or spelt differently.
        similar: further queries of the first that are similar to one of the second.
        passages: distinct ones that are in both: normal where both search one corpus.
    """

    first: str
    second: str
    queries: int
    similar: int
    passages: int


def check_splits(
    splits: Mapping[str, Sequence[CheckedSource]],
    findings: Findings,
    encoder: PairEncoder | None = None,
    prompts: Prompts | None = None,
) -> tuple[list[SourceCounts], list[Shared]]:
    """Look at everything once, and compare each two splits; what is wrong is added to the findings.

    Args:
        splits: name to sources, in the order in which they are to be compared.
        findings: receives what is wrong.
        encoder: measures lengths in tokens; None leaves them out.
        prompts: of the model, which count in the lengths.
    """
    done: list[tuple[Split, QueryIndex]] = []
    summaries: list[SourceCounts] = []
    shared: list[Shared] = []
    for name, sources in reversed(list(splits.items())):
        split = Split(name, list(sources))
        counts: dict[str, Counter[str]] = {other.name: Counter() for other, _ in done}
        own = [
            _check_source(split, source, done, counts, findings, encoder, prompts, of=len(splits))
            for source in sources
        ]
        find_repeated_rows(split.rows, split.group, findings)
        find_contradictions(split.queries, split.group, findings)
        found = [_shared(split, other, counts[other.name]) for other, _ in reversed(done)]
        summaries, shared = own + summaries, found + shared
        if len(done) + 1 < len(splits):  # nothing is looked up in the last one, the largest
            split.passages = array("Q", np.unique(np.frombuffer(split.passages, np.uint64)).tobytes())
            done.append((split, QueryIndex(split.texts)))
            split.texts = []
    return summaries, shared


def report_match(match: Match, group: Group, other: str, findings: Findings) -> None:
    """Add a query that another split has, too."""
    words = f"query {SHARED[match.kind]} {other}: {group.query!r:.100}"
    findings.add(match.kind, f"{group.where}: {words}")


def _check_source(
    split: Split,
    source: CheckedSource,
    others: Sequence[tuple[Split, QueryIndex]],
    counts: Mapping[str, Counter[str]],
    findings: Findings,
    encoder: PairEncoder | None,
    prompts: Prompts | None,
    *,
    of: int,
) -> SourceCounts:
    before = np.unique(np.frombuffer(split.queries, np.uint64))
    start, sizes = len(split.queries), (Counter[int](), Counter[int]())
    for chunk in chunks(source.groups, CHARACTERS):
        starts = np.concatenate(([0], np.cumsum([len(group.texts) for group in chunk])))
        pieces = pieces_of([text for group in chunk for text in group.texts])
        for place, name in enumerate(("positives", "negatives")):
            sizes[place].update(len(getattr(group, name)) for group in chunk)
        _check_texts(chunk, findings)
        find_repeated_passages(chunk, pieces, starts, findings)
        for group, positive, negative, value in near_negatives(chunk, pieces, starts):
            words = f"{value:.2f} similar: negative {negative!r:.60} and positive {positive!r:.60}"
            findings.add("near-duplicate", f"{group.where}: {words}")
        _compare_queries(chunk, others, counts, findings)
        split.queries.frombytes(pieces.keys[starts[:-1]].tobytes())
        split.rows.frombytes(row_keys(chunk, pieces.keys, starts).tobytes())
        if len(others) + 1 < of:
            split.texts += [group.query for group in chunk]
        if of > 1:
            split.passages.extend(_hash(text) for group in chunk for text in group.texts[1:])
    new = np.frombuffer(split.queries, np.uint64)[start:]
    repeated = len(new) - len(np.setdiff1d(np.unique(new), before, assume_unique=True))
    positives, negatives = sizes
    return SourceCounts(
        split.name,
        source.name,
        len(source.groups),
        sum(size * count for size, count in positives.items()),
        sum(size * count for size, count in negatives.items()),
        _spread(positives),
        _spread(negatives),
        negatives[0],
        repeated,
        measure_lengths(source.groups, encoder, prompts) if encoder else None,
    )


def _check_texts(groups: Sequence[Group], findings: Findings) -> None:
    for group in groups:
        roles = chain(("query",), ("passage",) * (len(group.texts) - 1))
        for text, role in zip(group.texts, roles, strict=True):
            for kind, words in text_problems(text, role):
                findings.add(kind, f"{group.where}: {words}")


def _compare_queries(
    groups: Sequence[Group],
    others: Sequence[tuple[Split, QueryIndex]],
    counts: Mapping[str, Counter[str]],
    findings: Findings,
) -> None:
    """Look each query up in the other splits."""
    for other, index in others:
        for match in index.matches([group.query for group in groups]):
            known = other.group(match.known)
            report_match(match, groups[match.place], f"{other.name}, {known.where}", findings)
            counts[other.name][match.kind] += 1


def _shared(first: Split, second: Split, found: Counter[str]) -> Shared:
    both = np.intersect1d(np.frombuffer(first.passages, np.uint64), np.frombuffer(second.passages, np.uint64))
    certain = found["leak"] + found["misspelt leak"]
    return Shared(first.name, second.name, certain, found["similar query"], len(both))


def _spread(sizes: Counter[int]) -> tuple[int, int, int]:
    """Least, median (of an even number the lower one) and most."""
    if not sizes:
        return 0, 0, 0
    ordered = sorted(sizes)
    ends = np.cumsum([sizes[size] for size in ordered])
    return ordered[0], ordered[int(np.searchsorted(ends, (ends[-1] + 1) // 2))], ordered[-1]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
