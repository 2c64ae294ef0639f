"""In-batch negatives: passages of other queries of the same step as further negatives.

For a cross-encoder a foreign passage is one more pair to score. In-batch negatives are therefore drawn like
other negatives, before the step is split into batches and ranks: they depend on the seed and on the groups of
the step (`queries_per_step`), not on the token budget (contract 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import xxhash

from ..groups import Group, same_query, same_text
from .draws import Draw


def positives_of_repeated(groups: Iterable[Group]) -> dict[str, set[str]]:
    """Return the positives, as `same_text`, of each query that has more than one row.

    >>> rows = [("red?", "red"), ("Red", "crimson"), ("blue?", "blue")]
    >>> found = positives_of_repeated(Group(query, (positive,), (), "") for query, positive in rows)
    >>> {query: sorted(positives) for query, positives in found.items()}
    {'red': ['crimson', 'red']}
    """
    first: dict[str, Group] = {}
    found: dict[str, set[str]] = {}
    for group in groups:
        query = same_query(group.query)
        other = first.setdefault(query, group)
        if other is not group:
            known = found.setdefault(query, set(map(same_text, other.positives)))
            known.update(map(same_text, group.positives))
    return found


def in_batch_negatives(
    draws: Sequence[Draw],
    groups: Sequence[Group],
    *,
    per_group: int,
    seed: int,
    repeated: Mapping[str, set[str]] | None = None,
) -> list[Draw]:
    """Add to each draw up to `per_group` positives of other draws, after its own negatives.

    Texts that equal the query, a drawn passage or a known positive, ignoring case and blanks, are skipped.
    Known positives are all positives of the draw's own row, drawn or not, and of rows with the same query
    (ignoring case, blanks, punctuation) in this step or in `repeated`. The choice among the others depends on
    the seed, the position of the draw and the texts, not on the order of the draws. A passage gets the prompt
    of the group that it is added to. It has no teacher's score, so the draw's scores are dropped.

    Args:
        draws: draws of one step, of all ranks.
        groups: the group of each draw, without prompts before its texts.
        per_group: further negatives a group; 0 returns the draws unchanged.
        seed: the run's seed.
        repeated: positives of queries with several rows, see `positives_of_repeated`.

    >>> texts = [("red?", "red"), ("blue?", "blue")]
    >>> groups = [Group(query, (positive,), ("wrong",), "") for query, positive in texts]
    >>> draws = [Draw(n, n, query, (positive,), ("wrong",)) for n, (query, positive) in enumerate(texts)]
    >>> [draw.negatives for draw in in_batch_negatives(draws, groups, per_group=3, seed=0)]
    [('wrong', 'blue'), ('wrong', 'red')]
    """
    if not per_group:
        return list(draws)
    offered: dict[str, str] = {}  # one wording of each passage, the same in any order of the draws
    known: dict[str, set[str]] = {}
    for draw, group in zip(draws, groups, strict=True):
        for positive in draw.positives:
            text = positive.removeprefix(group.passage_prompt)
            offered[same_text(text)] = min(text, offered.get(same_text(text), text))
        query = same_query(group.query)
        known.setdefault(query, set((repeated or {}).get(query, ()))).update(map(same_text, group.positives))
    return [
        _with_foreign(draw, group, offered, known[same_query(group.query)], per_group, seed)
        for draw, group in zip(draws, groups, strict=True)
    ]


def _with_foreign(
    draw: Draw, group: Group, offered: dict[str, str], known: set[str], per_group: int, seed: int
) -> Draw:
    prompt = group.passage_prompt
    own = {same_text(text.removeprefix(prompt)) for text in draw.negatives}
    free = offered.keys() - known - own - {same_text(group.query)}
    key = f"{seed} {draw.position} "
    chosen = sorted(free, key=lambda text: (_hash(key + text), text))[:per_group]
    foreign = tuple(prompt + offered[text] for text in chosen)
    return replace(draw, negatives=draw.negatives + foreign, scores=())


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
