"""Tokens on disk equal those of the tokenizer; each distinct text is tokenised once for all runs."""

import os

import numpy as np
import pytest
from uprank.configs.paths import cache_folder
from uprank.data.encoding import pairs as pairs_module
from uprank.data.encoding import token_cache as tokens
from uprank.data.encoding.pairs import PairEncoder
from uprank.data.encoding.token_cache import prepare_groups, prepare_texts, tokenizer_key
from uprank.data.groups import Group
from uprank.data.read import read_groups
from uprank.data.store import keyed_store as store

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module", params=["tiny_xlmr", "tiny_bert"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def make(tokenizer):
    """A new encoder, with a list of the texts that it tokenises."""

    def make(tokenizer=tokenizer, **budgets):
        encoder = PairEncoder(tokenizer, **{"query_tokens": 5, "max_tokens": 30, **budgets})
        seen, original = [], encoder.tokenise

        def tokenise(texts):
            seen.extend(texts)
            return original(texts)

        encoder.tokenise = tokenise
        return encoder, seen

    return make


def entries():
    return sorted(path.name for path in (cache_folder() / "tokens").glob("v*") if path.is_dir())


def same(flat, encoded):
    assert flat.ids.tolist() == [i for pair in encoded for i in pair.ids.tolist()]
    assert flat.types.tolist() == [i for pair in encoded for i in pair.types.tolist()]
    assert flat.positions.tolist() == [i for pair in encoded for i in range(len(pair.ids))]
    assert flat.offsets.tolist() == np.cumsum([0, *(len(pair.ids) for pair in encoded)]).tolist()
    assert flat.truncated.tolist() == [pair.truncated for pair in encoded]
    assert {array.dtype for array in (flat.ids, flat.types, flat.positions)} == {np.dtype(np.int64)}


def test_pairs_laid_end_to_end_are_the_pairs(make, pairs):
    encoder, _ = make()
    pairs = [*pairs, ("", ""), pairs[0], ("rank", "")]
    encoded = [encoder.encode(*pair) for pair in pairs]
    assert 5 < sum(pair.truncated for pair in encoded) < len(pairs) - 5
    same(encoder.encode_flat(pairs), encoded)
    same(encoder.encode_flat([]), [])
    same(encoder.encode_flat(pairs[:1]), encoded[:1])
    assert encoder.lengths(pairs).tolist() == [len(pair.ids) for pair in encoded]


def test_the_end_is_filled_up_with_zeros(make, pairs):
    encoder, _ = make()
    plain, filled = encoder.encode_flat(pairs), encoder.encode_flat(pairs, multiple_of=64)
    total = plain.offsets[-1]
    assert total % 64
    for name in ("ids", "types", "positions"):
        array = getattr(filled, name)
        assert len(array) == -(-total // 64) * 64
        assert array[:total].tolist() == getattr(plain, name).tolist()
        assert not array[total:].any()
    assert filled.offsets.tolist() == plain.offsets.tolist()


def test_ids_from_disk_are_those_of_the_tokenizer(tokenizer, make, pairs):
    pairs = [*pairs, ("", "heart"), ("</s> [SEP]", "合同 \x00 naïve")]
    texts = [text for pair in pairs for text in pair]
    builder, _ = make()
    prepare_texts(builder, texts)
    encoder, seen = make(query_tokens=400, max_tokens=1000)
    prepare_texts(encoder, texts)
    for query, passage in pairs[:-1]:
        own = tokenizer([query], [passage], verbose=False)["input_ids"][0]
        assert encoder.encode(query, passage).ids.tolist() == own
    plain, _ = make(query_tokens=400, max_tokens=1000)
    assert encoder.encode(*pairs[-1]).ids.tolist() == plain.encode(*pairs[-1]).ids.tolist()
    same(encoder.encode_flat(pairs), [plain.encode(*pair) for pair in pairs])
    assert seen == []  # all of it was on disk


def test_each_distinct_text_is_tokenised_once_and_never_again(make, jsonl):
    groups = read_groups(str(jsonl[0]), [])
    assert len(groups) == 24
    texts = [text for group in groups for text in group.texts]
    texts += texts[::2]
    encoder, seen = make()
    prepare_texts(encoder, texts)
    assert sorted(seen) == sorted(set(texts))
    assert seen == list(dict.fromkeys(texts))
    later, seen = make(query_tokens=7)
    prepare_texts(later, texts)
    later.lengths(list(zip(texts, texts[::-1], strict=True)))
    assert seen == []
    later.encode("rank", "a text of no data set")
    assert sorted(seen) == ["a text of no data set", *(["rank"] if "rank" not in texts else [])]


def test_groups_from_a_store_and_from_memory_have_the_same_tokens(make, jsonl):
    groups = read_groups(str(jsonl[0]), [])
    encoder, seen = make()
    prepare_groups(encoder, groups)
    assert sorted(seen) == sorted({text for group in groups for text in group.texts})
    other, seen = make()
    prepare_groups(other, list(groups))
    assert seen == []
    assert len(entries()) == 1


def test_not_built_where_it_is_not_asked_for(make, jsonl):
    groups = read_groups(str(jsonl[0]), [])
    encoder, seen = make()
    prepare_groups(encoder, groups, build=False)
    assert (seen, entries()) == ([], [])
    prepare_groups(encoder, groups)
    other, seen = make()
    prepare_groups(other, groups, build=False)
    other.encode(groups[3].query, groups[3].negatives[0])
    assert seen == []


def test_no_texts_and_only_empty_texts(make):
    encoder, seen = make()
    prepare_texts(encoder, [])
    assert entries() == []
    prepare_texts(encoder, ["", ""])
    assert seen == [""]
    assert encoder.encode("", "").ids.tolist() == make()[0].encode("", "").ids.tolist()
    assert seen == [""]


def test_a_changed_text_or_tokenizer_is_tokenised_anew(tokenizer, make):
    texts = ["rank query", "heart of stone"]
    prepare_texts(make()[0], texts)
    for changed in (["rank query", "heart of stones"], texts[::-1], texts):
        encoder, seen = make()
        prepare_texts(encoder, changed)
        assert seen == ([] if changed is texts else changed)
    before = tokenizer_key(tokenizer)
    tokenizer("a b c", truncation=True, max_length=2, padding="max_length")
    assert tokenizer_key(tokenizer) == before  # settings of a call, not of the tokenizer
    tokenizer.add_tokens(["heart of"])
    assert tokenizer_key(tokenizer) != before
    encoder, seen = make()
    prepare_texts(encoder, texts)
    assert seen == texts


def test_a_tokenizer_without_content_is_used_without_a_cache(tokenizer, make):
    class Slow:
        def __getattr__(self, name):
            if name == "backend_tokenizer":
                raise AttributeError
            return getattr(tokenizer, name)

        def __call__(self, *texts, **options):
            return tokenizer(*texts, **options)

    encoder, seen = make(Slow())
    prepare_texts(encoder, ["rank", "heart"])
    assert (seen, entries()) == ([], [])
    assert encoder.encode("rank", "heart").ids.tolist() == make()[0].encode("rank", "heart").ids.tolist()


@pytest.mark.parametrize("half", [slice(0, 8), slice(8, 16)])
def test_texts_whose_hashes_are_half_equal_are_told_apart(make, monkeypatch, half):
    original = store.hash_text

    def colliding(text):
        digest = bytearray(original(text))
        digest[half] = bytes([len(text) % 2] * 8)
        return bytes(digest)

    monkeypatch.setattr(store, "hash_text", colliding)
    texts = [f"text {'x' * (k % 3)} {k}" for k in range(40)]
    prepare_texts(make()[0], texts)
    encoder, seen = make()
    prepare_texts(encoder, texts)
    plain, _ = make()
    for text in texts:
        assert encoder.encode("rank", text).ids.tolist() == plain.encode("rank", text).ids.tolist()
    assert seen == ["rank"]
    assert encoder._stores[0].look_up(["text of none", "a"]) == [None, None]


def test_texts_on_disk_are_in_the_order_of_their_hashes(make):
    encoder, _ = make()
    prepare_texts(encoder, [f"text {k}" for k in range(500)])
    (store,) = encoder._stores
    assert len(store) == 500
    assert (np.diff(store._high.astype(object)) >= 0).all()
    assert len(store._values) == store._spans[:, 1].max()


def test_memory_stays_bounded_and_the_ids_the_same(make, monkeypatch):
    monkeypatch.setattr(pairs_module, "HELD", 20 * pairs_module.OVERHEAD)
    texts = [f"text {k}" for k in range(400)]
    on_disk, seen = make()
    prepare_texts(on_disk, texts)
    seen.clear()
    in_memory, _ = make()
    for start in range(0, 400, 10):
        step = [("rank", text) for text in texts[start : start + 10]]
        same(on_disk.encode_flat(step), [in_memory.encode(*pair) for pair in step])
        for encoder in (on_disk, in_memory):
            assert len(encoder._texts) <= 31
    assert set(seen) == {"rank"}
    everything = [("rank", text) for text in texts]  # one call may hold more than the bound
    assert on_disk.lengths(everything).tolist() == in_memory.lengths(everything).tolist()


def test_pages_that_were_read_are_given_back(make, tmp_path):
    resident = __import__("pathlib").Path("/proc/self/statm")
    if not resident.is_file():
        pytest.skip("no /proc")
    from uprank.data.store.mapped import MappedFile

    (tmp_path / "file").write_bytes(bytes(range(256)) * (64 << 12))  # 64 MB
    file = MappedFile(tmp_path / "file")
    array = file.array(np.uint8)
    before = int(resident.read_text().split()[2])  # pages of files
    total = int(array[::4096].sum())
    touched = int(resident.read_text().split()[2])
    file.count(10_000)
    assert int(resident.read_text().split()[2]) - before < (touched - before) / 4
    assert int(array[::4096].sum()) == total
    assert (array[255], array[256]) == (255, 0)


def test_the_reader_of_tokens_says_when_texts_and_hashes_differ(make):
    encoder, _ = make()
    hashes = store.hash_texts(["a", "b", "c"])
    with pytest.raises(RuntimeError, match="3 texts were to be tokenised, 2 came"):
        prepare_texts(encoder, ["a", "b"], hashes)
    assert entries() == []
    assert tokens._first_places(store.hash_texts("abcab")).size == 3


def test_groups_know_their_texts():
    assert Group("q", ("a", "b"), ("c",), "f:1").texts == ("q", "a", "b", "c")
