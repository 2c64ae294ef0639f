"""Pairs on which libraries are compared, and those that a library reads in another way by design."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.problems import Problems
from ...data.prompts import Pair
from ...data.read import read_groups
from ..evidence import Evidence

if TYPE_CHECKING:
    from ...model.reranker import Reranker


QUERIES = 16  # of the user's data; each gives one positive and one negative, if it has any
LONG = "A reranker reads the query and the passage together and returns one score. "
DIFFICULT: tuple[Pair, ...] = (
    ("what is a reranker?", "A reranker orders the passages that a first stage has found."),
    ("what is a reranker?", "The museum opens at nine and closes at five."),
    ("Was ist ein Reranker?", "Größe, Übung und Straße: 3,50 € pro Stück."),
    ("什么是重排序模型？", "重排序模型把查询和段落放在一起阅读，并给出一个相关性分数。"),
    ("什么是重排序模型？", "今天北京的天气很好，适合去公园散步。"),
    ("劳动合同 termination notice", "用人单位解除劳动合同，应当提前三十日以书面形式通知劳动者本人。"),
    ("an empty passage", ""),
    ("one word", "word"),
    ("numbers", "1 234 567.89 -- 10^-5, 100 %, v2.0.1 (2024-02-29)"),
    ("what is a reranker?", LONG * 200),
    ("重排序", "重排序模型给出一个分数。" * 200),
)
# Special tokens in a text are text: to Uprank, and to all that load the published tokenizer.
LITERAL: tuple[Pair, ...] = (
    ("what does </s> mean?", "<s> begins and </s> ends a text; <pad> and [SEP] and [CLS] are others."),
    ("[SEP]", "</s></s>"),
)
RECORDED: tuple[Pair, ...] = (*DIFFICULT, *LITERAL)  # in `uprank.json`, with their scores

# Reasons to leave out a pair. The card states them.
SPECIAL = "a special token of the tokenizer stands in the text; text to Uprank, a token to the library"
LONG_QUERY = "too long, with a query above its budget; the library cuts the longer text first"
EMPTY = "an empty text, which FlagEmbedding with transformers 5 leaves out together with its separator"
DECODED = "FlagEmbedding turns token ids into text and that into ids anew, which are not the same ones"
FLAG_QUERY = "FlagEmbedding cuts a query at three quarters of the whole length even if the pair fits"


def own_pairs(evidence: Sequence[Evidence]) -> list[Pair]:
    """Return pairs from the evaluations' data, spread over the queries; none if it is out of reach."""
    for entry in evidence:
        problems = Problems()
        groups = read_groups(entry.report.data, problems, split=entry.split, need_negatives=False)
        if groups and not problems:
            step = max(1, len(groups) // QUERIES)
            chosen = groups[::step][:QUERIES]
            return [(g.query, passage) for g in chosen for passage in (*g.positives[:1], *g.negatives[:1])]
    return []


@dataclass(frozen=True)
class Probes:
    """Pairs, and how the published tokenizer reads them.

    Attributes:
        pairs: all pairs.
        reasons: why a library may read the pair in another way than Uprank, for each pair; empty if none may.
        flag_reasons: why FlagEmbedding alone may, for each pair; empty if it may not.
        problems: pairs that are read in another way without a reason.
    """

    pairs: tuple[Pair, ...]
    reasons: tuple[str, ...]
    flag_reasons: tuple[str, ...]
    problems: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, reranker: Reranker, pairs: Sequence[Pair]) -> Probes:
        """Read the pairs with the tokenizer of the folder on disk."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        reasons, problems = [], []
        for query, passage in pairs:
            expected = reranker.pairs.encode(query, passage).ids.tolist()
            # Lists: called with two strings, the tokenizer takes an empty passage for none.
            same = tokenizer([query], [passage], truncation=True)["input_ids"][0] == expected
            reason = "" if same else _reason(tokenizer, reranker, query, passage)
            if not same and not reason:
                problems.append(
                    f"the published tokenizer gives other ids than Uprank for {query!r}, {passage!r:.80}"
                )
            reasons.append(reason)
        flag_reasons = tuple(_flag_reason(tokenizer, *pair, reranker.pairs.max_tokens) for pair in pairs)
        return cls(tuple(pairs), tuple(reasons), flag_reasons, tuple(problems))

    def choose(self, *, flag: bool) -> tuple[list[Pair], dict[str, int]]:
        """Return the pairs to compare, and the number left out by reason.

        Args:
            flag: choose for FlagEmbedding.
        """
        chosen, left_out = [], Counter[str]()
        for pair, reason, flag_reason in zip(self.pairs, self.reasons, self.flag_reasons, strict=True):
            why = reason or (flag_reason if flag else "")
            if why:
                left_out[why] += 1
            else:
                chosen.append(pair)
        return chosen, dict(left_out)


def recorded(scores: Iterable[float]) -> list[dict[str, Any]]:
    """Return the built-in pairs with their scores for `uprank.json`; the user's data stays out of it.

    Args:
        scores: scores of RECORDED, in its order.
    """
    return [
        {"query": query, "passage": passage, "score": float(score)}
        for (query, passage), score in zip(RECORDED, scores, strict=True)
    ]


def equally_cut_query(reranker: Reranker) -> int:
    """Return the longest query in tokens with which every library cuts an over-long pair in the same place.

    The libraries cut the longer text first: always the passage if the query takes at most half of the room.
    """
    return min(reranker.pairs.query_tokens, reranker.pairs.room // 2)


def _reason(tokenizer: Any, reranker: Reranker, query: str, passage: str) -> str:
    """Return why the ids may differ; empty if they must not."""
    too_long = reranker.pairs.encode(query, passage).truncated
    if too_long and len(reranker.pairs.tokenise([query])[0]) > equally_cut_query(reranker):
        return LONG_QUERY
    special = any(token in text for token in tokenizer.all_special_tokens for text in (query, passage))
    return SPECIAL if special else ""


def _flag_reason(tokenizer: Any, query: str, passage: str, max_tokens: int) -> str:
    """Return why FlagReranker gives the model other ids than its tokenizer; empty if it gives the same."""
    query_ids, passage_ids = _ids(tokenizer, query), _ids(tokenizer, passage)
    if not query_ids or not passage_ids:
        return EMPTY
    if len(query_ids) > max_tokens * 3 // 4:
        return FLAG_QUERY
    for ids in (query_ids, passage_ids[:max_tokens]):
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if _ids(tokenizer, text) != ids:
            return DECODED
    return ""


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
