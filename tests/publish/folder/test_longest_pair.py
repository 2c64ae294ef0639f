"""Each library finds the longest pair where the card says; FlagEmbedding reads it nowhere."""

import json

import numpy as np
import pytest
from uprank.model.reranker import Reranker
from uprank.publish.command import publish

LONG = ("what is long?", "a passage of many words " * 60)


@pytest.mark.slow
def test_the_longest_pair_is_read_from_the_folder(only_transformers, settings):
    cross = pytest.importorskip("sentence_transformers").CrossEncoder
    flag = pytest.importorskip("FlagEmbedding").FlagReranker
    done = publish(settings).folder
    (expected,) = Reranker.load(done, device="cpu").score([LONG])
    assert json.loads((done / "sentence_bert_config.json").read_text()) == {"max_seq_length": 96}
    model = cross(str(done), device="cpu", local_files_only=True)
    assert model.max_seq_length == 96
    assert np.allclose(model.predict([LONG]), expected, atol=1e-5)
    options = {"use_fp16": False, "devices": "cpu"}
    assert np.allclose(flag(str(done), max_length=96, **options).compute_score([LONG]), expected, atol=1e-5)
    assert flag(str(done), **options).max_length == 512  # once this fails, the card can promise more
    card = (done / "README.md").read_text(encoding="utf-8")
    assert "max_length=96)" in card
    assert "without `max_length=96`, as in the snippet above, it cuts at 512 tokens and gives" in card
