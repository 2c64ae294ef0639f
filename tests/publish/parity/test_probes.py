"""Pairs that other libraries read as Uprank does, against their own tokenizer."""

import json

import pytest
from transformers import AutoTokenizer
from uprank.model.reranker import Reranker
from uprank.publish.evidence.source import read_source
from uprank.publish.folder import folder
from uprank.publish.parity import probes
from uprank.publish.parity.probes import DECODED, DIFFICULT, EMPTY, FLAG_QUERY, LONG_QUERY, Probes, own_pairs

LONG = "A reranker reads the query and the passage together. " * 60


@pytest.fixture(scope="module")
def reranker(published_source):
    return Reranker.load(published_source.run / "best", query_tokens=24, max_tokens=96, device="cpu")


@pytest.fixture(scope="module")
def written(reranker, tmp_path_factory):
    place = tmp_path_factory.mktemp("written")
    folder.write_model(reranker, place)
    return place


def words(tokenizer, tokens: int) -> str:
    """Return a text of so many tokens."""
    text = " ".join(["passage"] * tokens)
    assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == tokens
    return text


@pytest.mark.parametrize("query_tokens", [24, 80])  # below and above half of the room
def test_libraries_cut_in_the_same_place_up_to_the_stated_query(published_source, written, query_tokens):
    path = published_source.run / "best"
    reranker = Reranker.load(path, query_tokens=query_tokens, max_tokens=96, device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(written)
    limit = probes.equally_cut_query(reranker)
    assert limit == {24: 24, 80: 46}[query_tokens]
    same = []
    for length in range(1, 60):
        query = words(tokenizer, length)
        theirs = tokenizer([query], [LONG], truncation=True)["input_ids"][0]
        same.append(theirs == reranker.pairs.encode(query, LONG).ids.tolist())
    assert all(same[:limit])
    assert not any(same[limit:])


@pytest.mark.parametrize(
    ("query", "passage", "reason", "flag_reason"),
    [
        ("what", "a passage", "", ""),
        ("what", LONG, "", ""),
        ("a literal </s> in the text", "a passage", "", None),
        ("passage " * 40, LONG, LONG_QUERY, ""),
        ("passage " * 40, "a passage", "", ""),
        ("passage " * 80, "a passage", "", FLAG_QUERY),
        ("what", "", "", EMPTY),
        ("what", "жΩ is not in its vocabulary", "", ""),
    ],
)
def test_why_a_pair_is_left_out(query, passage, reason, flag_reason, reranker, written):
    read = Probes.read(written, reranker, [(query, passage)])
    assert not read.problems
    assert read.reasons == (reason,)
    assert flag_reason is None or read.flag_reasons == (flag_reason,)
    chosen, left_out = read.choose(flag=False)
    assert (chosen, left_out) == (([], {reason: 1}) if reason else ([(query, passage)], {}))


def test_what_flag_embedding_decodes_to_other_ids_is_left_out(tiny_bert, tmp_path):
    """An unknown letter becomes `[UNK]`, which is read letter by letter where special tokens are split."""
    reranker = Reranker.load(tiny_bert, query_tokens=24, max_tokens=96, device="cpu")
    folder.write_model(reranker, tmp_path)
    pair = ("what", "\N{OLD ITALIC LETTER A}\N{OLD ITALIC LETTER BE}")
    assert AutoTokenizer.from_pretrained(tmp_path).unk_token_id in reranker.pairs.encode(*pair).ids
    assert Probes.read(tmp_path, reranker, [pair]).flag_reasons == ("",)  # so they are not split there
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    assert "split_special_tokens" not in config
    path.write_text(json.dumps({**config, "split_special_tokens": True}), encoding="utf-8")
    read = Probes.read(tmp_path, reranker, [pair])
    assert (read.problems, read.reasons, read.flag_reasons) == ((), ("",), (DECODED,))


def test_difficult_pairs_are_nearly_all_compared(reranker, written):
    chosen, left_out = Probes.read(written, reranker, DIFFICULT).choose(flag=True)
    assert left_out == {EMPTY: 1}
    assert any(reranker.pairs.encode(*pair).truncated for pair in chosen)
    assert any("重" in query for query, _ in chosen)


def test_own_pairs_come_from_the_evaluated_data(settings, source):
    evidence = read_source(settings).evidence
    pairs = own_pairs(evidence)
    assert len(pairs) == 14
    assert pairs[0] == (DIFFICULT[0][0], f"{DIFFICULT[0][0]} {DIFFICULT[0][1]}")
    (source.folder / "data/mine/dev.jsonl").unlink()
    source.report(source.final, data=source.folder / "gone.jsonl")
    assert own_pairs(read_source(settings).evidence) == []
