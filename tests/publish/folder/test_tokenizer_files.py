"""The published tokenizer: special tokens in a text are text, to transformers and to `tokenizers`."""

import json
import shutil

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, XLMRobertaTokenizer
from uprank.model.reranker import Reranker
from uprank.publish.folder import folder
from uprank.publish.folder.tokenizer import AS_WRITTEN, unknown_stays
from uprank.publish.parity.probes import LITERAL, RECORDED, SPECIAL, Probes

TEXTS = [
    "what does </s> mean?",
    "</s></s>",
    "a</s>b<mask> <unk>x<pad>",
    "＜/s＞",
    "<<s>>",
    "[SEP] [CLS]a",
    "</s",
    "s> pad mask s",
    "重排序</s>模型",
    "",
]


def load(path) -> Reranker:
    return Reranker.load(path, query_tokens=24, max_tokens=96, device="cpu")


@pytest.fixture(scope="module")
def xlmr(published_source, tmp_path_factory):
    reranker, place = load(published_source.run / "best"), tmp_path_factory.mktemp("xlmr")
    folder.write_model(reranker, place)
    return place, reranker


@pytest.fixture(scope="module")
def bert(tiny_bert, tmp_path_factory):
    reranker, place = load(tiny_bert), tmp_path_factory.mktemp("bert")
    folder.write_model(reranker, place)
    return place, reranker


def differing(place, reranker):
    """Return pairs of TEXTS that the published tokenizer reads in another way."""
    tokenizer = AutoTokenizer.from_pretrained(place)
    pairs = [(query, passage) for query in TEXTS for passage in TEXTS]
    return [
        pair
        for pair in pairs
        if tokenizer([pair[0]], [pair[1]])["input_ids"][0] != reranker.pairs.encode(*pair).ids.tolist()
    ]


def test_every_text_is_read_as_uprank_reads_it(xlmr):
    place, reranker = xlmr
    assert differing(place, reranker) == []
    assert Probes.read(place, reranker, RECORDED).reasons == ("",) * len(RECORDED)
    # as it comes, the tokenizer would take them for tokens
    plain = reranker.tokenizer([LITERAL[1][0]], [LITERAL[1][1]])["input_ids"][0]
    assert plain != reranker.pairs.encode(*LITERAL[1]).ids.tolist()


def test_where_unknown_letters_would_suffer_nothing_is_split(bert):
    place, reranker = bert
    assert not unknown_stays(reranker.tokenizer)
    special = AutoTokenizer.from_pretrained(place).all_special_tokens
    different = differing(place, reranker)
    assert different
    assert all(any(token in text for token in special for text in pair) for pair in different)
    reasons = Probes.read(place, reranker, RECORDED).reasons
    assert reasons == ("",) * (len(RECORDED) - len(LITERAL)) + (SPECIAL,) * len(LITERAL)


def test_a_special_token_in_a_text_is_its_letters(xlmr):
    place, _ = xlmr
    tokenizer = AutoTokenizer.from_pretrained(place)
    letters = tokenizer.convert_tokens_to_ids(["▁", *"</s>"])
    assert tokenizer("</s>", add_special_tokens=False)["input_ids"] == letters
    assert tokenizer("</s>")["input_ids"] == [tokenizer.bos_token_id, *letters, tokenizer.eos_token_id]
    assert tokenizer("<unk>", add_special_tokens=False)["input_ids"][-1] == tokenizer.unk_token_id


@pytest.mark.parametrize("family", ["xlmr", "bert"])
def test_tokenizers_alone_reads_the_same_once_told(family, request):
    place, reranker = request.getfixturevalue(family)
    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    pairs = [(query, passage) for query in TEXTS for passage in TEXTS]
    expected = [reranker.pairs.encode(*pair).ids.tolist() for pair in pairs]
    assert [pair.ids for pair in tokenizer.encode_batch(pairs)] != expected
    tokenizer.encode_special_tokens = True
    assert [pair.ids for pair in tokenizer.encode_batch(pairs)] == expected


def test_settings_that_both_versions_of_transformers_know(xlmr, bert):
    config = json.loads((xlmr[0] / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == AS_WRITTEN == "PreTrainedTokenizerFast"
    assert config["split_special_tokens"] is True
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert not {"name_or_path", "is_local", "truncation_side"} & config.keys()
    config = json.loads((bert[0] / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "BertTokenizer"
    assert "split_special_tokens" not in config
    names = {"input_ids", "attention_mask", "token_type_ids"}
    assert set(AutoTokenizer.from_pretrained(bert[0])("a", "b")) == names
    assert set(AutoTokenizer.from_pretrained(xlmr[0])("a", "b")) == names - {"token_type_ids"}


def test_libraries_pad_on_the_side_of_the_model_s_own_tokenizer(xlmr, tmp_path):
    """XLNet's head reads the last token; the class that loads tokenizer.json as written pads on the right."""
    reranker = load(xlmr[0])
    reranker.tokenizer.padding_side = "left"
    folder.write_model(reranker, tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model").padding_side == "left"
    assert AutoTokenizer.from_pretrained(xlmr[0]).padding_side == "right"


def test_what_was_published_is_published_again_as_it_is(xlmr, tmp_path):
    place, reranker = xlmr
    again = load(place)
    folder.write_model(again, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        first, second = (json.loads((path / name).read_text("utf-8")) for path in (place, tmp_path))
        for values in (first, second):
            values.pop("model", None)  # scores are read and written again, to the last digit but one
        assert first == second
    assert again.pairs.encode(*LITERAL[0]).ids.tolist() == reranker.pairs.encode(*LITERAL[0]).ids.tolist()


def test_without_the_last_step_the_pieces_come_back(xlmr, tmp_path):
    """A flag alone is not enough if the vocabulary has `</s>` as a piece."""
    place, reranker = xlmr
    assert isinstance(reranker.tokenizer, XLMRobertaTokenizer)
    shutil.copytree(place, tmp_path / "copy")
    path = tmp_path / "copy" / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values["pre_tokenizer"]["pretokenizers"].pop()["type"] == "Split"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert differing(tmp_path / "copy", reranker)
    # a folder of an older Uprank: such pairs are left out of its proofs, and nothing else
    reasons = Probes.read(tmp_path / "copy", reranker, RECORDED).reasons
    assert reasons == ("",) * (len(RECORDED) - len(LITERAL)) + (SPECIAL,) * len(LITERAL)
