"""Contract 4: the pair encoder equals the model's own tokenizer called on the pair."""

import os
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uprank.configs.errors import UserError
from uprank.data.encoding.pairs import CHUNK, PairEncoder

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SPECIALS = {"tiny_xlmr": 4, "tiny_bert": 3}


@pytest.fixture(scope="module", params=SPECIALS)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(request, family):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(request.getfixturevalue(family))


@pytest.fixture(scope="module")
def roomy(tokenizer):
    return PairEncoder(tokenizer, query_tokens=400, max_tokens=1000)


@pytest.fixture(scope="module")
def tight(tokenizer):
    return PairEncoder(tokenizer, query_tokens=5, max_tokens=16)


@pytest.fixture
def counting(tokenizer, monkeypatch):
    """An encoder, with the texts of each call of its tokenizer."""
    encoder, calls = PairEncoder(tokenizer, query_tokens=8, max_tokens=32), []

    def call(texts, **options):
        calls.append(texts)
        return tokenizer(texts, **options)

    monkeypatch.setattr(encoder, "tokenizer", call)
    return encoder, calls


def own(tokenizer, query, passage):
    """Return ids and types of the tokenizer, called on a batch of one: else it takes "" for no passage."""
    both = tokenizer([query], [passage], return_token_type_ids=True, verbose=False)
    return both["input_ids"][0], both["token_type_ids"][0]


def alone(tokenizer, text):
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]


def test_ids_and_types_equal_those_of_the_tokenizer(tokenizer, roomy, pairs):
    assert len(pairs) > 30
    for query, passage in pairs:
        encoded = roomy.encode(query, passage)
        ids, types = own(tokenizer, query, passage)
        assert (encoded.ids.tolist(), encoded.types.tolist(), encoded.truncated) == (ids, types, False)
        assert (encoded.ids.dtype, encoded.types.dtype) == (np.int32, np.int8)
    assert roomy.lengths(pairs).tolist() == [len(own(tokenizer, *pair)[0]) for pair in pairs]
    assert roomy.full_lengths(pairs).tolist() == roomy.lengths(pairs).tolist()


def test_token_types_of_bert_are_not_all_zero(tokenizer, roomy, family):
    # Guards the comparison above: it would also hold if types were dropped on both sides.
    assert set(roomy.encode("rank query", "heart").types.tolist()) == (
        {0, 1} if family == "tiny_bert" else {0}
    )


# No surrogates: files cannot bring them in. No brackets: the call on a pair obeys special tokens in a text.
unicode_texts = st.text(
    st.characters(codec="utf-8", exclude_characters="<[") | st.sampled_from(" \n\t合同ranktoken.,é"),
    max_size=40,
)


@given(query=unicode_texts, passage=unicode_texts)
@example(query="", passage="")
@example(query="", passage="passage")
@example(query="  rank ", passage="\u00a0\u200b\ufeff")
@example(query="e\u0301 ﬁ Ａ", passage="\x00\x7f\ufffd")
@settings(max_examples=250, deadline=None)
def test_ids_equal_those_of_the_tokenizer_for_any_text(tokenizer, roomy, query, passage):
    encoded = roomy.encode(query, passage)
    assert (encoded.ids.tolist(), encoded.types.tolist()) == own(tokenizer, query, passage)


def check_cut(encoder, tokenizer, query, passage):
    """Check the promise of the budgets without the encoder's own arithmetic."""
    encoded = encoder.encode(query, passage)
    q, p = alone(tokenizer, query), alone(tokenizer, passage)
    specials = len(own(tokenizer, "", "")[0])
    room = encoder.max_tokens - specials
    assert len(encoded.ids) == len(encoded.types) <= encoder.max_tokens
    assert encoder.lengths([(query, passage)]).tolist() == [len(encoded.ids)]
    assert encoder.full_lengths([(query, passage)]).tolist() == [len(q) + len(p) + specials]
    # Of all prefixes that fit, the pair is one: found by search, so that nothing is assumed about how.
    ids, types = encoded.ids.tolist(), encoded.types.tolist()
    fits = [
        (a, b)
        for a in range(len(q) + 1)
        for b in [len(ids) - specials - a]
        if 0 <= b <= len(p) and joined(tokenizer, q[:a], p[:b]) == (ids, types)
    ]
    assert fits
    kept = [
        (a, b)
        for a, b in fits
        if (a == len(q) and b == len(p))
        or (
            a + b == room
            and (a == len(q) or (a >= encoder.query_tokens and b == len(p)) or a == encoder.query_tokens)
        )
    ]
    assert kept, (len(q), len(p), fits)
    assert encoded.truncated == (len(q) + len(p) > room)
    if len(q) <= encoder.query_tokens:  # the passage is cut first
        assert any(a == len(q) for a, _ in kept)


def joined(tokenizer, query, passage):
    """Return the pair of two lists of ids, with special tokens in the places of an empty pair."""
    ids, types = own(tokenizer, "", "")
    # <s> q </s></s> p </s> and [CLS] q [SEP] p [SEP]
    middle, second = len(ids) - 1, types[-1]
    return (
        [*ids[:1], *query, *ids[1:middle], *passage, *ids[middle:]],
        [*types[:1], *[0] * len(query), *types[1:middle], *[second] * len(passage), *types[middle:]],
    )


def test_the_helper_joins_as_the_tokenizer_does(tokenizer):
    q, p = "rank query", "heart of stone"
    assert joined(tokenizer, alone(tokenizer, q), alone(tokenizer, p)) == own(tokenizer, q, p)


words = st.lists(
    st.sampled_from(["rank", "query", "passage", "合同", "heart,", "naïve", "(12)"]), max_size=25
).map(" ".join)


@given(query=words, passage=words)
@settings(max_examples=150, deadline=None)
def test_longer_pairs_are_cut_by_the_budgets(tokenizer, tight, query, passage):
    check_cut(tight, tokenizer, query, passage)


@pytest.mark.parametrize(
    ("query", "passage", "kept"),
    [
        (3, 9, (3, 8)),  # the passage gives way
        (20, 50, (5, 6)),  # both too long: the query keeps its budget, the passage the rest
        (20, 2, (9, 2)),  # a short passage leaves its place to the query
        (20, 0, (11, 0)),
        (0, 20, (0, 11)),
        (5, 6, (5, 6)),
        (6, 6, (5, 6)),
    ],
)
def test_what_is_kept(tokenizer, family, query, passage, kept):
    specials = SPECIALS[family]
    encoder = PairEncoder(tokenizer, query_tokens=5, max_tokens=11 + specials)
    pieces = (piece.removeprefix("▁") for piece in sorted(tokenizer.get_vocab()))
    word = next(w for w in pieces if w.isalpha() and len(alone(tokenizer, f"{w} {w}")) == 2)
    texts = " ".join([word] * query), " ".join([word] * passage)
    check_cut(encoder, tokenizer, *texts)
    encoded = encoder.encode(*texts)
    assert len(encoded.ids) == sum(kept) + specials
    assert encoded.truncated == (kept != (query, passage))
    if family == "tiny_bert":  # types show the border
        assert encoded.types.tolist().count(0) == kept[0] + 2


@given(
    st.lists(
        st.sampled_from(["<s>", "</s>", "<pad>", "<mask>", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "x", " "])
    )
)
@settings(max_examples=100, deadline=None)
def test_special_tokens_in_a_text_are_text(tokenizer, roomy, tight, parts):
    text = "".join(parts)
    special = {i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id}
    specials = own(tokenizer, "", "")[0]
    for encoder in (roomy, tight):
        for query, passage in ((text, "heart"), ("heart", text), (text, text)):
            found = [i for i in encoder.encode(query, passage).ids.tolist() if i in special]
            assert found == specials


def test_a_spelled_special_token_still_says_what_it_says(tokenizer, roomy):
    with_token = roomy.encode("rank", "heart </s> [SEP] stone").ids
    without = roomy.encode("rank", "heart stone").ids
    assert len(with_token) > len(without) + 4  # its characters are there, not nothing


@pytest.mark.parametrize("text", ["[SEP]", "heart [SEP] stone", "[CLS][MASK]x [PAD]"])
def test_tokens_of_a_spelled_special_token_are_those_of_its_text(tokenizer, roomy, text):
    assert set(alone(tokenizer, text)).isdisjoint({*tokenizer.all_special_ids} - {tokenizer.unk_token_id})
    ids, types = joined(tokenizer, alone(tokenizer, "rank"), alone(tokenizer, text))
    encoded = roomy.encode("rank", text)
    assert (encoded.ids.tolist(), encoded.types.tolist()) == (ids, types)


def test_each_distinct_text_is_tokenised_once(counting):
    encoder, calls = counting
    pairs = [(f"query {k % 7}", f"passage {k % 11}") for k in range(200)] + [("query 1", "query 2")]
    encoder.lengths(pairs)
    encoder.full_lengths(pairs)
    for pair in pairs:
        encoder.encode(*pair)
    encoder.add(text for pair in pairs for text in pair)
    assert [sorted(texts) for texts in calls] == [sorted({text for pair in pairs for text in pair})]
    assert len(calls[0]) == 18
    encoder.encode("query 1", "new")
    assert calls[1:] == [["new"]]
    encoder.forget()
    encoder.encode("query 1", "passage 1")
    assert calls[2:] == [["query 1", "passage 1"]]


def test_many_texts_are_tokenised_in_bounded_calls(tokenizer, counting):
    encoder, calls = counting
    encoder.add(f"text {k}" for k in range(CHUNK + 3))
    assert list(map(len, calls)) == [CHUNK, 3]
    pair = "text 0", f"text {CHUNK + 2}"
    assert encoder.encode(*pair).ids.tolist() == own(tokenizer, *pair)[0]


@pytest.mark.parametrize(("query_tokens", "rest"), [(0, 100), (-1, 100), (10, 10), (10, 9), (10, 0)])
def test_budgets_without_room_are_refused(tokenizer, family, query_tokens, rest):
    max_tokens = rest + SPECIALS[family]
    with pytest.raises(UserError, match="no room") as caught:
        PairEncoder(tokenizer, query_tokens=query_tokens, max_tokens=max_tokens)
    assert f"model.query_tokens={query_tokens}" in str(caught.value)
    assert f"model.max_tokens={max_tokens}" in str(caught.value)
    assert f"{SPECIALS[family]} special tokens" in str(caught.value)


def test_one_token_of_room_is_enough(tokenizer, family):
    encoder = PairEncoder(tokenizer, query_tokens=10, max_tokens=11 + SPECIALS[family])
    long = " ".join(["rank"] * 50)
    check_cut(encoder, tokenizer, long, long)


def test_a_tokenizer_that_joins_no_pairs_is_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"one": 0, "two": 1, "words": 2, "?": 3}, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()

    class First(PreTrainedTokenizerFast):
        def __call__(self, text, text_pair=None, **options):
            return super().__call__(text, **options)

    with pytest.raises(UserError, match="does not join"):
        PairEncoder(First(tokenizer_object=plain, unk_token="?"), query_tokens=4, max_tokens=16)


def test_pairs_above_the_budget_of_random_texts(tokenizer, tight, pairs):
    generator = random.Random(0)
    cut = [pair for pair in generator.sample(pairs, 25) if tight.full_lengths([pair])[0] > tight.max_tokens]
    assert len(cut) > 10
    for pair in cut:
        check_cut(tight, tokenizer, *pair)
