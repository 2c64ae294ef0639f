"""Dense and fused first stages against brute force; the embedding cache against encoding anew."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from uprank.configs.errors import UserError
from uprank.configs.schema import DenseSettings
from uprank.eval.processes import Share
from uprank.eval.retrieval import dense, embeddings
from uprank.eval.retrieval.dense import DenseIndex, _best, search_dense
from uprank.eval.retrieval.embeddings import load_bi_encoder
from uprank.eval.retrieval.fusion import reciprocal_rank_fusion

WORDS = "river stone light green cell protein gene mouse heart blood drug trial".split()  # noqa: SIM905


def texts(count, seed=0, longest=60):
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randrange(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(bi_encoder):
    return bi_encoder()


@pytest.fixture(scope="module")
def encoder(folder):
    return load_bi_encoder(DenseSettings(path=str(folder), batch_size=4))


def encoded_alone(folder, given, **options):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return np.concatenate([model.encode([text], show_progress_bar=False, **options) for text in given])


def vectors_of(encoder, given, kind="passage", **options):
    vectors = encoder.embed(given, kind, **options)
    return vectors.take(0, len(vectors))


def same(first, second):
    """To the bit where this CPU's products give a row the same bits at every place, else to rounding."""
    rows, weight, order = torch.randn(128, 64), torch.randn(32, 64), torch.randperm(128)
    if torch.equal((rows @ weight.T)[order], rows[order] @ weight.T):
        return bool((first == second).all())
    return first == pytest.approx(second, abs=2e-6)


def test_vectors_are_those_of_sentence_transformers(folder, encoder):
    given = [*texts(30), "", "river " * 300, "naïve—合同"]
    assert vectors_of(encoder, given) == pytest.approx(encoded_alone(folder, given), abs=2e-6)


def test_a_vector_has_the_same_bits_in_every_company(encoder, monkeypatch, tmp_path):
    given = texts(40)
    whole = vectors_of(encoder, given)
    for number, chosen in enumerate(([7], [3, 30, 8], range(39, -1, -3))):
        monkeypatch.setenv("UPRANK_CACHE", str(tmp_path / str(number)))
        assert same(vectors_of(encoder, [given[i] for i in chosen]), whole[list(chosen)])


def test_what_was_encoded_is_read_and_not_encoded_again(folder, encoder, monkeypatch):
    given = texts(20)
    first = vectors_of(encoder, given)
    counted = []
    again = vectors_of(load_bi_encoder(encoder.settings), given[::-1] + given[:3], progress=counted.append)
    assert counted == []
    assert (again == np.concatenate([first[::-1], first[:3]])).all()
    vectors_of(encoder, [*given, "new text", "new text"], progress=counted.append)
    assert counted == [1]
    vectors_of(encoder, given[:2], "query", progress=counted.append)  # queries are another matter
    assert counted == [1, 2]


def test_prompts_weights_and_modules_make_another_cache(folder, encoder, bi_encoder, monkeypatch):
    seen = []
    plain = bi_encoder(normalise=False, similarity="dot")
    prompted = bi_encoder(prompts={"query": "query: ", "document": "passage: "})
    for settings in (
        DenseSettings(path=str(folder)),
        DenseSettings(path=str(folder), passage_prompt="passage: "),
        DenseSettings(path=str(plain)),
        DenseSettings(path=str(prompted)),
    ):
        vectors_of(load_bi_encoder(settings), ["river stone"], progress=seen.append)
    assert seen == [1, 1, 1, 1]
    by_hand = encoded_alone(folder, ["passage: river stone"])
    given = load_bi_encoder(DenseSettings(path=str(folder), passage_prompt="passage: "))
    assert vectors_of(given, ["river stone"]) == pytest.approx(by_hand, abs=2e-6)
    own = load_bi_encoder(DenseSettings(path=str(prompted)))
    assert vectors_of(own, ["river stone"]) == pytest.approx(by_hand, abs=2e-6)
    queries = encoded_alone(folder, ["query: river stone"])
    assert vectors_of(own, ["river stone"], "query") == pytest.approx(queries, abs=2e-6)


def test_the_config_of_a_module_makes_another_cache(folder, encoder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    file = next(path for path in other.rglob("config.json") if "layer_norm_eps" in path.read_text())
    file.write_text(json.dumps(json.loads(file.read_text()) | {"layer_norm_eps": 0.1}))
    changed = load_bi_encoder(DenseSettings(path=str(other), batch_size=4))
    assert (vectors_of(changed, ["river stone"]) != vectors_of(encoder, ["river stone"])).any()
    same = load_bi_encoder(DenseSettings(path=str(shutil.copytree(folder, tmp_path / "same"))))
    assert same.fingerprint == encoder.fingerprint


def test_a_cache_that_cannot_be_written_is_named(encoder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UPRANK_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set UPRANK_CACHE to a folder with room") as caught:
        encoder.embed(["river"], "query")
    assert str(tmp_path / "file") in caught.value.problems[0]


def test_a_killed_run_keeps_its_finished_parts(encoder, monkeypatch):
    monkeypatch.setattr(embeddings, "PART", 8)
    given, calls = texts(30), []

    def append(folder, rows, real=embeddings._append):
        if len(calls) == 2:
            with next(folder.glob("*.rows")).open("ab") as stream:
                stream.write(rows.tobytes()[:10])
            raise KeyboardInterrupt
        calls.append(len(rows))
        real(folder, rows)

    with monkeypatch.context() as killed:
        killed.setattr(embeddings, "_append", append)
        with pytest.raises(KeyboardInterrupt):
            encoder.embed(given, "passage")
    done, counted = sum(calls), []
    assert done == 16
    continued = vectors_of(encoder, given, progress=counted.append)
    assert sum(counted) == len(set(given)) - done
    assert continued == pytest.approx(encoded_alone(encoder.settings.path, given), abs=2e-6)


def test_damaged_vectors_are_encoded_again(encoder, monkeypatch, tmp_path):
    monkeypatch.setenv("UPRANK_CACHE", str(tmp_path))
    given = texts(20, seed=5)
    whole = vectors_of(encoder, given)
    (file,) = tmp_path.glob("embeddings/*/*.rows")
    content, encoded = file.read_bytes(), []

    def encode(self, missing, *rest, real=embeddings.BiEncoder._encode):
        encoded.append(len(missing))
        return real(self, missing, *rest)

    monkeypatch.setattr(embeddings.BiEncoder, "_encode", encode)
    size = len(content) // len(given)
    turned = bytearray(content)
    for row, place in ((0, 3), (7, 16), (7, size - 5), (19, size - 1)):  # key, vector, vector, checksum
        turned[row * size + place] ^= 1 << row % 8
    damages = [(0, content), (3, bytes(turned)), (1, content[:-1]), (20, content[1:]), (20, b"")]
    for damaged, left in damages:
        file.write_bytes(left)
        encoded.clear()
        assert same(vectors_of(encoder, given), whole)
        assert encoded == [damaged]


def test_processes_share_the_texts_and_read_everything(encoder, monkeypatch, tmp_path):
    given = texts(30)
    whole = vectors_of(encoder, given)
    monkeypatch.setenv("UPRANK_CACHE", str(tmp_path))
    counted = {0: 0, 1: 0}

    def count(process):
        return lambda number: counted.__setitem__(process, counted[process] + number)

    def other(array):  # the second process runs while the first one waits for it
        encoder.embed(given, "passage", share=Share(1, 2, lambda array: array), progress=count(1))
        return array

    assert same(vectors_of(encoder, given, share=Share(0, 2, other), progress=count(0)), whole)
    assert counted[0] + counted[1] == len(set(given))
    assert min(counted.values()) > 10


def brute_force(asked, told, ids, depth):
    """float64 similarities, equal ones by id descending."""
    run = []
    for vector in asked.astype(np.float64):
        scores = told.astype(np.float64) @ vector
        ranked = sorted(zip(scores, ids, strict=True), reverse=True)[:depth]
        run.append({doc: score for score, doc in ranked})
    return run


def test_search_is_exact_over_several_blocks(encoder, monkeypatch):
    monkeypatch.setattr(dense, "PASSAGES", 16)
    monkeypatch.setattr(dense, "QUERIES", 4)
    passages = {f"d{number}": text for number, text in enumerate(texts(75, seed=1))}
    queries = {f"q{number}": text for number, text in enumerate(texts(10, seed=2, longest=6))}
    ids = list(passages)
    asked = vectors_of(encoder, list(queries.values()), "query")
    expected = brute_force(asked, vectors_of(encoder, list(passages.values())), ids, 20)
    found = search_dense(encoder, passages, queries, depth=20)
    assert list(found) == list(queries)
    for row, truth in zip(found.values(), expected, strict=True):
        assert list(row) == list(truth)
        assert list(row.values()) == pytest.approx(list(truth.values()), abs=1e-6)
    for depth in (1, 7, 75, 500):
        cut = search_dense(encoder, passages, queries, depth=depth)
        assert {query: len(row) for query, row in cut.items()} == dict.fromkeys(queries, min(depth, 75))
        assert list(cut["q3"])[:7] == list(found["q3"])[: min(depth, 7)]


def test_equal_similarities_are_cut_by_document_id(encoder, monkeypatch):
    monkeypatch.setattr(dense, "PASSAGES", 4)
    passages = dict.fromkeys(("9", "10", "a", "B", "é", "z1", "z2"), "river stone") | {"far": "gene " * 9}
    found = search_dense(encoder, passages, {"q": "river stone"}, depth=3)["q"]
    assert list(found) == ["é", "z2", "z1"]
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("depth", [1, 3, 50, 90])
def test_any_floats_are_ordered_as_by_sorting(depth, monkeypatch):
    monkeypatch.setattr(dense, "PASSAGES", 16)
    generator = np.random.default_rng(depth)
    values = generator.choice([-3.5, -1e-30, -0.0, 0.0, 1e-30, 2.0, 7e8, -7e8], size=90).astype(np.float32)

    class Rows:
        def __len__(self):
            return 90

        def take(self, start, stop):
            return values[start:stop, None]

    places, scores = _best(np.ones((1, 1), dtype=np.float32), Rows(), depth)
    expected = sorted(range(90), key=lambda place: (-values[place], place))[:depth]
    assert places[0].tolist() == expected
    assert scores[0].tolist() == values[expected].tolist()


def test_similarities_of_named_documents(encoder):
    passages = {f"d{number}": text for number, text in enumerate(texts(12))}
    queries = {"a": "river", "b": "stone light", "c": "gene"}
    index = DenseIndex(encoder, passages)
    found = index.similarities(queries, {"a": ["d3", "d11"], "b": ["d0"]})
    whole = index.search(queries, depth=12)
    assert {query: list(row) for query, row in found.items()} == {"a": ["d3", "d11"], "b": ["d0"], "c": []}
    assert found["a"]["d11"] == pytest.approx(whole["a"]["d11"], abs=1e-6)
    assert found["b"]["d0"] == pytest.approx(whole["b"]["d0"], abs=1e-6)


def test_dot_products_where_the_model_says_so(bi_encoder):
    folder = bi_encoder(normalise=False, similarity="dot")
    encoder = load_bi_encoder(DenseSettings(path=str(folder)))
    passages = dict(zip("abc", texts(3), strict=True))
    found = search_dense(encoder, passages, {"q": "river"}, depth=3)["q"]
    told, asked = encoded_alone(folder, list(passages.values())), encoded_alone(folder, ["river"])[0]
    assert [found[doc] for doc in "abc"] == pytest.approx((told @ asked).tolist(), rel=1e-5)
    assert max(found.values()) > 1.5  # not cosines


def test_cosines_although_the_model_does_not_normalise(bi_encoder):
    encoder = load_bi_encoder(DenseSettings(path=str(bi_encoder(normalise=False, similarity="cosine"))))
    found = search_dense(encoder, {"a": "river stone"}, {"q": "river stone"}, depth=1)
    assert found == {"q": {"a": pytest.approx(1.0, abs=1e-6)}}


def test_nothing_to_search_or_to_ask(encoder):
    assert search_dense(encoder, {}, {"q": "river"}, depth=3) == {"q": {}}
    assert search_dense(encoder, {"d": "river"}, {}, depth=3) == {}


def test_a_model_that_cannot_be_used_is_named(tmp_path, tiny_bert, bi_encoder, monkeypatch):
    def refused(path):
        with pytest.raises(UserError) as caught:
            load_bi_encoder(DenseSettings(path=path))
        return str(caught.value)

    assert refused(None).startswith("dense.path is not set")
    assert refused(f"{tmp_path}/none").startswith(f"dense.path={tmp_path}/none: no such folder")
    assert "no config.json" in refused(str(tmp_path))
    euclidean = bi_encoder(similarity="euclidean")
    assert (
        refused(str(euclidean))
        == f"dense.path={euclidean}: compares by euclidean; allowed are cosine and dot"
    )
    broken = bi_encoder()
    next(broken.rglob("*.safetensors")).write_bytes(b"nothing")
    assert refused(str(broken)).startswith(f"dense.path={broken}: cannot be loaded: ")
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    assert refused(str(euclidean)).startswith("dense.path: sentence-transformers is not installed")


def test_an_encoder_that_does_not_say_how_vectors_are_made_is_told(tiny_encoder, folder, caplog):
    load_bi_encoder(DenseSettings(path=str(folder)))
    assert "modules.json" not in caplog.text
    load_bi_encoder(DenseSettings(path=str(tiny_encoder)))
    assert "no modules.json says how vectors are made, so the mean of all tokens is taken" in caplog.text


def test_vectors_that_are_no_numbers_are_refused(bi_encoder):
    import safetensors.torch
    import torch

    folder = bi_encoder()
    file = next(folder.rglob("*.safetensors"))
    weights = safetensors.torch.load_file(file)
    weights = {name: torch.full_like(tensor, float("nan")) for name, tensor in weights.items()}
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="vectors that are not finite"):
        load_bi_encoder(DenseSettings(path=str(folder))).embed(["river"], "query")


def test_fusion_by_hand():
    first = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "r": {}}
    second = {"q": {"c": 9.0, "d": 8.0, "a": 7.0}, "r": {"x": 1.0}}
    fused = reciprocal_rank_fusion([first, second], depth=10)
    assert fused["q"] == pytest.approx(
        {"a": 1 / 61 + 1 / 63, "c": 1 / 63 + 1 / 61, "b": 1 / 62, "d": 1 / 62}, abs=1e-12
    )
    assert list(fused["q"]) == ["c", "a", "d", "b"]  # equal ones by id descending
    assert fused["r"] == {"x": 1 / 61}
    assert list(reciprocal_rank_fusion([first, second], depth=3)["q"]) == ["c", "a", "d"]


def test_fusion_ranks_each_run_by_the_rule_of_trec():
    tied = {"q": {"1": 5.0, "3": 5.0, "2": 5.0}}
    assert reciprocal_rank_fusion([tied], depth=3)["q"] == {"3": 1 / 61, "2": 1 / 62, "1": 1 / 63}


def test_a_missing_weight_is_never_drawn_in_silence(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    file = next((tmp_path / "model").rglob("model.safetensors"))
    state = load_file(file)
    state.pop(next(name for name in state if name.endswith("query.weight")))
    save_file(state, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"dense\.path=.*: 1 weights missing"):
        load_bi_encoder(DenseSettings(path=str(tmp_path / "model")))
