"""A measure is a string: `nDCG@10` is the setting, the column and the key, and becomes a value and back.

Written form: `NAME`, `NAME@cutoff`, `NAME@cutoff(rel=grade)`. The grade is the least relevance that counts as
relevant; 1 is not written.
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
        cutoff: ranks that count, at least 1; None for the whole ranking.
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
        """The measure written as `text`; `str` of it is the canonical form.

        Raises:
            UserError: as `Measure`; an unknown name is answered with the nearest known one.
        """
        parts = _WRITTEN.fullmatch(text.strip())
        if parts is None:
            raise UserError(f"{text!r} is not a measure: write NAME, NAME@cutoff or NAME@cutoff(rel=grade)")
        name, cutoff, rel = parts.groups()
        return cls(name, None if cutoff is None else int(cutoff), 1 if rel is None else int(rel))


@dataclass(frozen=True)
class Kind:
    """What a measure name stands for: the function, and the parameters it takes."""

    values: Callable[[Ranking, Measure], Floats]
    cutoff: Literal["optional", "required", "none"]
    rel: bool = True


def _ndcg(ranking: Ranking, measure: Measure) -> Floats:
    return ndcg(ranking, measure.cutoff)


def _ndcg_exp(ranking: Ranking, measure: Measure) -> Floats:
    return ndcg(ranking, measure.cutoff, exponential=True)


def _mrr(ranking: Ranking, measure: Measure) -> Floats:
    return reciprocal_rank(ranking, measure.cutoff, rel=measure.rel)


def _map(ranking: Ranking, measure: Measure) -> Floats:
    return average_precision(ranking, measure.cutoff, rel=measure.rel)


def _recall(ranking: Ranking, measure: Measure) -> Floats:
    return recall(ranking, measure.cutoff, rel=measure.rel)


def _precision(ranking: Ranking, measure: Measure) -> Floats:
    return precision(ranking, _cutoff(measure), rel=measure.rel)


def _success(ranking: Ranking, measure: Measure) -> Floats:
    return success(ranking, _cutoff(measure), rel=measure.rel)


def _rprec(ranking: Ranking, measure: Measure) -> Floats:
    return r_precision(ranking, rel=measure.rel)


def _bpref(ranking: Ranking, measure: Measure) -> Floats:
    return binary_preference(ranking, rel=measure.rel)


def _judged(ranking: Ranking, measure: Measure) -> Floats:
    return judged_share(ranking, _cutoff(measure))


# nDCG takes every grade as a gain, so a threshold would change nothing (trec_eval ignores -l there): refused.
KINDS = {
    "nDCG": Kind(_ndcg, cutoff="optional", rel=False),
    "nDCG_exp": Kind(_ndcg_exp, cutoff="optional", rel=False),
    "MRR": Kind(_mrr, cutoff="optional"),
    "MAP": Kind(_map, cutoff="optional"),
    "R": Kind(_recall, cutoff="optional"),
    "P": Kind(_precision, cutoff="required"),
    "Success": Kind(_success, cutoff="required"),
    "Rprec": Kind(_rprec, cutoff="none"),
    "bpref": Kind(_bpref, cutoff="none"),
    "Judged": Kind(_judged, cutoff="required", rel=False),
}

# What other tools call them: offered in errors, never accepted, so that one measure has one name.
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
    """(Q,) value of each query of the ranking, in its order; the measure's figure is their mean.

    >>> from .ranking import rank
    >>> evaluate(Measure.parse("MRR@10"), rank({"q": {"a": 1}}, {"q": {"a": 0.1, "b": 0.2}})).tolist()
    [0.5]
    """
    return KINDS[measure.name].values(ranking, measure)


def parse_measures(texts: Iterable[str]) -> list[Measure]:
    """The measures written as `texts`, in order.

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


def _cutoff(measure: Measure) -> int:
    assert measure.cutoff is not None  # checked when the measure was made
    return measure.cutoff
