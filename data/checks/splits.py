"""One pass over the groups of each split: counts, defects of texts and rows, queries of other splits."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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

ANSWERED = 0.2  # share of a split's queries
CHARACTERS = 1 << 21  # in memory at a time (a row may be larger)
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
        groups: the groups read from it.
    """

    name: str
    groups: Sequence[Group]


@dataclass
class Split:
    """A split, and what a pass over it keeps: 8 bytes a text, and queries in which others are looked up.

    Attributes:
        name: `train`, `dev` or `test`.
        sources: all its paths.
        others: the splits in which its queries are looked up, each with its index and the matches by kind.
        to_come: number of splits whose queries are looked up in this one.
        queries: hash of each query without case, blanks and punctuation.
        rows: hash of each group likewise.
        passages: hash of each passage as it is; empty if this is the only split.
        relevant: hash of each relevant passage likewise.
        owners: number of the query of each of these.
        texts: the queries; empty if no split is to come.
    """

    name: str
    sources: list[CheckedSource]
    others: list[tuple[Split, QueryIndex, Counter[str]]]
    to_come: int
    queries: array[int] = field(default_factory=lambda: array("Q"))
    rows: array[int] = field(default_factory=lambda: array("Q"))
    passages: array[int] = field(default_factory=lambda: array("Q"))
    relevant: array[int] = field(default_factory=lambda: array("Q"))
    owners: array[int] = field(default_factory=lambda: array("Q"))
    texts: list[str] = field(default_factory=list)

    def group(self, place: int) -> Group:
        """Return a group by its index in all sources together."""
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
        path: the path as given.
        groups: queries with at least one relevant passage.
        positives: relevant passages, over all groups.
        negatives: negatives, over all groups.
        positives_per_group: minimum, median and maximum.
        negatives_per_group: minimum, median and maximum.
        without_negatives: groups without any.
        repeated: groups whose query stood before in the split, ignoring case, blanks and punctuation.
        lengths: lengths in tokens; None without a tokenizer.
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
    """Overlap of two splits.

    Attributes:
        first: one split.
        second: the other.
        queries: queries of the first that are also in the second: equal, or spelt differently.
        similar: further queries of the first that are similar to one of the second.
        passages: distinct passages of both: normal if both search one corpus.
        answered: queries of the second with a relevant passage that is also relevant in the first.
    """

    first: str
    second: str
    queries: int
    similar: int
    passages: int
    answered: int


def check_splits(
    splits: Mapping[str, Sequence[CheckedSource]],
    findings: Findings,
    encoder: PairEncoder | None = None,
    prompts: Prompts | None = None,
) -> tuple[list[SourceCounts], list[Shared]]:
    """Read every group once and compare each two splits.

    Args:
        splits: name to sources, in the order in which they are compared.
        findings: receives the problems.
        encoder: measures lengths in tokens; None leaves them out.
        prompts: prompts of the model, which count in the lengths.
    """
    done: list[tuple[Split, QueryIndex]] = []
    summaries: list[SourceCounts] = []
    shared: list[Shared] = []
    for name, sources in reversed(list(splits.items())):
        others = [(*other, Counter[str]()) for other in done]
        split = Split(name, list(sources), others, len(splits) - len(done) - 1)
        counts = [_check_source(split, source, findings, encoder, prompts) for source in sources]
        find_repeated_rows(split.rows, split.group, findings)
        find_contradictions(split.queries, split.group, findings)
        overlaps = [_shared(split, other, matches) for other, _, matches in reversed(others)]
        for (other, _, _), overlap in zip(reversed(others), overlaps, strict=True):
            _warn_shared(overlap, len(other.queries), findings)
        summaries, shared = counts + summaries, overlaps + shared
        if split.to_come:  # nothing is looked up in the last one, the largest
            split.passages = array("Q", np.unique(np.frombuffer(split.passages, np.uint64)).tobytes())
            done.append((split, QueryIndex(split.texts)))
            split.texts = []
    return summaries, shared


def report_match(match: Match, group: Group, other: str, findings: Findings) -> None:
    """Add a query that is also in another split."""
    words = f"query {SHARED[match.kind]} {other}: {group.query!r:.100}"
    findings.add(match.kind, f"{group.where}: {words}")


def _check_source(
    split: Split,
    source: CheckedSource,
    findings: Findings,
    encoder: PairEncoder | None,
    prompts: Prompts | None,
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
        _compare_queries(chunk, split, findings)
        if split.to_come or split.others:
            split.passages.extend(_hash(text) for group in chunk for text in group.texts[1:])
            for number, group in enumerate(chunk, len(split.queries)):
                split.relevant.extend(map(_hash, group.positives))
                split.owners.extend([number] * len(group.positives))
        split.queries.frombytes(pieces.keys[starts[:-1]].tobytes())
        split.rows.frombytes(row_keys(chunk, pieces.keys, starts).tobytes())
        if split.to_come:
            split.texts += [group.query for group in chunk]
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
        for place, text in enumerate(group.texts):
            for kind, words in text_problems(text, "passage" if place else "query"):
                findings.add(kind, f"{group.where}: {words}")


def _compare_queries(groups: Sequence[Group], split: Split, findings: Findings) -> None:
    """Look each query up in the other splits."""
    for other, index, matches in split.others:
        for match in index.matches([group.query for group in groups]):
            known = other.group(match.known)
            report_match(match, groups[match.place], f"{other.name}, {known.where}", findings)
            matches[match.kind] += 1


def _shared(first: Split, second: Split, matches: Counter[str]) -> Shared:
    both = np.intersect1d(np.frombuffer(first.passages, np.uint64), np.frombuffer(second.passages, np.uint64))
    certain = matches["leak"] + matches["misspelt leak"]
    common = np.isin(np.frombuffer(second.relevant, np.uint64), np.frombuffer(first.relevant, np.uint64))
    answered = len(np.unique(np.frombuffer(second.owners, np.uint64)[common]))
    return Shared(first.name, second.name, certain, matches["similar query"], len(both), answered)


def _warn_shared(shared: Shared, queries: int, findings: Findings) -> None:
    """Warn if many queries are answered by passages that another split has seen as relevant."""
    if shared.answered >= ANSWERED * queries > 0:
        words = f"{shared.answered:,} of {queries:,} {shared.second} queries have a relevant passage that is "
        words += (
            f"relevant in {shared.first}, too: figures on {shared.second} promise more than new passages "
        )
        findings.add("shared passages", f"{words}will give; keep them apart: uprank split data=… by=passage")


def _spread(sizes: Counter[int]) -> tuple[int, int, int]:
    """Return minimum, median (the lower one of an even number) and maximum."""
    if not sizes:
        return 0, 0, 0
    ordered = sorted(sizes)
    ends = np.cumsum([sizes[size] for size in ordered])
    return ordered[0], ordered[int(np.searchsorted(ends, (ends[-1] + 1) // 2))], ordered[-1]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
