"""Measures from text and back: `nDCG@10` is setting, column and key alike.

Written form: `NAME`, `NAME@cutoff`, `NAME@cutoff(rel=grade)`. The grade is the least relevance that counts as
relevant; 1 is left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ...configs.errors import UserError
from .bpref import binary_preference
from .judged import judged_share
from .map import average_precision
from .mrr import reciprocal_rank
from .ndcg import ndcg
from .precision import precision
from .ranking import Floats, Ranking
from .recall import recall
from .rprec import r_precision
from .success import success


@dataclass(frozen=True)
class Measure:
    """One measure with its parameters.

    Attributes:
        name: a key of `KINDS`.
        cutoff: number of ranks that count, at least 1; None for the whole ranking.
        rel: least relevance that counts as relevant, at least 1.

    Raises:
        UserError: the name is unknown, or a parameter is out of range or does not belong to the measure.

    >>> Measure.parse("MRR@10(rel=2)")
    Measure(name='MRR', cutoff=10, rel=2)
    >>> str(Measure("nDCG", 10))
    'nDCG@10'
    """

    name: str
    cutoff: int | None = None
    rel: int = 1

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise UserError(problem)

    def __str__(self) -> str:
        cutoff = "" if self.cutoff is None else f"@{self.cutoff}"
        return self.name + cutoff + ("" if self.rel == 1 else f"(rel={self.rel})")

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Return the measure written as `text`; `str` of it is the canonical form.

        Raises:
            UserError: as `Measure`; for an unknown name, the message offers the nearest known one.
        """
        parts = _WRITTEN.fullmatch(text.strip())
        if parts is None:
            raise UserError(f"{text!r} is not a measure: write NAME, NAME@cutoff or NAME@cutoff(rel=grade)")
        name, cutoff, rel = parts.groups()
        return cls(name, None if cutoff is None else int(cutoff), 1 if rel is None else int(rel))


@dataclass(frozen=True)
class Kind:
    """Function of a measure, and the parameters it takes."""

    values: Callable[[Ranking, Measure], Floats]
    cutoff: Literal["optional", "required", "none"]
    rel: bool = True


def _cutoff(measure: Measure) -> int:
    assert measure.cutoff is not None  # checked when the measure was made
    return measure.cutoff


# nDCG takes every grade as a gain, so a threshold would change nothing (trec_eval ignores -l there): refused.
KINDS = {
    "nDCG": Kind(lambda r, m: ndcg(r, m.cutoff), "optional", rel=False),
    "nDCG_exp": Kind(lambda r, m: ndcg(r, m.cutoff, exponential=True), "optional", rel=False),
    "MRR": Kind(lambda r, m: reciprocal_rank(r, m.cutoff, rel=m.rel), "optional"),
    "MAP": Kind(lambda r, m: average_precision(r, m.cutoff, rel=m.rel), "optional"),
    "R": Kind(lambda r, m: recall(r, m.cutoff, rel=m.rel), "optional"),
    "P": Kind(lambda r, m: precision(r, _cutoff(m), rel=m.rel), "required"),
    "Success": Kind(lambda r, m: success(r, _cutoff(m), rel=m.rel), "required"),
    "Rprec": Kind(lambda r, m: r_precision(r, rel=m.rel), "none"),
    "bpref": Kind(lambda r, m: binary_preference(r, rel=m.rel), "none"),
    "Judged": Kind(lambda r, m: judged_share(r, _cutoff(m)), "required", rel=False),
}

# Names in other tools: offered in errors, never accepted, so that each measure has one name.
_ELSEWHERE = {
    "ap": "MAP",
    "rr": "MRR",
    "recip_rank": "MRR",
    "recall": "R",
    "precision": "P",
    "hits": "Success",
    "hit": "Success",
    "hit_rate": "Success",
    "accuracy": "Success",
}
_WRITTEN = re.compile(r"([A-Za-z]\w*)(?:@([0-9]{1,9}))?(?:\(rel=([0-9]{1,9})\))?", re.ASCII)


def evaluate_measures(measure: Measure, ranking: Ranking) -> Floats:
    """Return (Q,) the value of each query of the ranking, in its order; a report states their mean.

    >>> from .ranking import rank
    >>> ranking = rank({"q": {"a": 1}}, {"q": {"a": 0.1, "b": 0.2}})
    >>> evaluate_measures(Measure.parse("MRR@10"), ranking).tolist()
    [0.5]
    """
    return KINDS[measure.name].values(ranking, measure)


def parse_measures(texts: Iterable[str]) -> list[Measure]:
    """Return the measures written as `texts`, in order.

    Raises:
        UserError: there is none, one is wrong, or one is given twice; all problems are listed.
    """
    measures: list[Measure] = []
    problems: list[str] = []
    for text in texts:
        try:
            measure = Measure.parse(text)
        except UserError as error:
            problems += error.problems
            continue
        if measure in measures:
            problems.append(f"{measure} is given twice")
        measures.append(measure)
    if not measures and not problems:
        problems.append("no measure is given")
    if problems:
        raise UserError(problems, advice=f"Known measures: {', '.join(KINDS)}; for example nDCG@10.")
    return measures


def _problem(measure: Measure) -> str:
    kind = KINDS.get(measure.name)
    if kind is None:
        return f"unknown measure {measure.name!r}{_nearest(measure.name)}"
    if kind.cutoff == "required" and measure.cutoff is None:
        return f"{measure.name} needs a cutoff: for example {measure.name}@10"
    if kind.cutoff == "none" and measure.cutoff is not None:
        return f"{measure.name} takes no cutoff, given {measure.cutoff}"
    if measure.cutoff is not None and measure.cutoff < 1:
        return f"the cutoff of {measure.name} must be at least 1, given {measure.cutoff}"
    if measure.rel < 1:
        return f"the relevance threshold of {measure.name} must be at least 1, given {measure.rel}"
    if not kind.rel and measure.rel != 1:
        return f"{measure.name} takes no relevance threshold, given rel={measure.rel}"
    return ""


def _nearest(name: str) -> str:
    known = {known.lower(): known for known in KINDS} | _ELSEWHERE
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {known[near[0]]!r}?" if near else ""
