"""The pairs on which libraries are compared, and which of them each library reads as Uprank does."""

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


QUERIES = 16  # of the user's own data; each gives one positive and, where there is one, one negative
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
# Special tokens in a text are text: to Uprank, and to whatever loads the published tokenizer.
LITERAL: tuple[Pair, ...] = (
    ("what does </s> mean?", "<s> begins and </s> ends a text; <pad> and [SEP] and [CLS] are others."),
    ("[SEP]", "</s></s>"),
)
RECORDED: tuple[Pair, ...] = (*DIFFICULT, *LITERAL)  # in `uprank.json`, with their scores

# Why a pair can be left out. Each is stated in the card.
SPECIAL = "a special token of the tokenizer stands in the text; text to Uprank, a token to the library"
LONG_QUERY = "too long, with a query above its budget; the library cuts the longer text first"
EMPTY = "an empty text, which FlagEmbedding with transformers 5 leaves out together with its separator"
DECODED = "FlagEmbedding turns token ids into text and that into ids anew, which are not the same ones"
FLAG_QUERY = "FlagEmbedding cuts a query at three quarters of the whole length even if the pair fits"


def own_pairs(evidence: Sequence[Evidence]) -> list[Pair]:
    """Pairs from the data of the evaluations, spread over the queries; none where it is out of reach."""
    for found in evidence:
        problems = Problems()
        groups = read_groups(found.report.data, problems, split=found.split, need_negatives=False)
        if groups and not problems:
            step = max(1, len(groups) // QUERIES)
            chosen = groups[::step][:QUERIES]
            return [(g.query, passage) for g in chosen for passage in (*g.positives[:1], *g.negatives[:1])]
    return []


@dataclass(frozen=True)
class Probes:
    """Pairs with how the published tokenizer reads them.

    Attributes:
        pairs: all of them.
        reasons: for each pair, why any library may read it otherwise than Uprank; empty if none.
        flag_reasons: for each pair, why FlagEmbedding alone may; empty if it may not.
        problems: pairs that are read otherwise without a reason.
    """

    pairs: tuple[Pair, ...]
    reasons: tuple[str, ...]
    flag_reasons: tuple[str, ...]
    problems: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, reranker: Reranker, pairs: Sequence[Pair]) -> Probes:
        """Read the pairs by the tokenizer of the folder as it lies on disk."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        reasons, problems = [], []
        for query, passage in pairs:
            expected = reranker.pairs.encode(query, passage).ids.tolist()
            # Lists: called on two strings, the tokenizer takes an empty passage for none.
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
        """The pairs to compare, and how many are left out for which reason.

        Args:
            flag: choose for FlagEmbedding.
        """
        chosen, left_out = [], Counter[str]()
        for pair, reason, flag_reason in zip(self.pairs, self.reasons, self.flag_reasons, strict=True):
            found = reason or (flag_reason if flag else "")
            if found:
                left_out[found] += 1
            else:
                chosen.append(pair)
        return chosen, dict(left_out)


def recorded(scores: Iterable[float]) -> list[dict[str, Any]]:
    """Pairs with their scores for `uprank.json`, so that anybody can compare; own data stays out of it.

    Args:
        scores: of RECORDED, in this order.
    """
    return [
        {"query": query, "passage": passage, "score": float(score)}
        for (query, passage), score in zip(RECORDED, scores, strict=True)
    ]


def equally_cut_query(reranker: Reranker) -> int:
    """Longest query in tokens with which an over-long pair is cut in the same place by every library.

    The libraries cut the longer text first; only below half of the room is that always the passage.
    """
    return min(reranker.pairs.query_tokens, reranker.pairs.room // 2)


def _reason(tokenizer: Any, reranker: Reranker, query: str, passage: str) -> str:
    """Why the ids may differ; empty: they may not."""
    too_long = reranker.pairs.encode(query, passage).truncated
    if too_long and len(reranker.pairs.tokenise([query])[0]) > equally_cut_query(reranker):
        return LONG_QUERY
    special = any(token in text for token in tokenizer.all_special_tokens for text in (query, passage))
    return SPECIAL if special else ""


def _flag_reason(tokenizer: Any, query: str, passage: str, max_tokens: int) -> str:
    """Why FlagReranker gives the model other ids than its tokenizer does; empty: it gives the same."""
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
