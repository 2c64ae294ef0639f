"""Tiny real models and data, built in code: no test needs a network."""

import atexit
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["UPRANK_CACHE"] = tempfile.mkdtemp(prefix="uprank-tests-")  # for fixtures of wider scope
os.environ.setdefault("WANDB_MODE", "offline")

import hypothesis
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

# No deadline, because machines are shared; derandomised, so that every run has the same examples.
hypothesis.settings.register_profile(
    "uprank", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("uprank")
atexit.register(shutil.rmtree, os.environ["UPRANK_CACHE"], ignore_errors=True)

THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def all_threads():
    """Restore all threads after each test: a command with `threads=` sets them for the whole process."""
    yield
    if torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Give every test an empty cache and leave the user's cache alone."""
    monkeypatch.setenv("UPRANK_CACHE", str(tmp_path_factory.mktemp("cache")))


WORDS = """
rank query passage model score token train loss gain list group
hard soft river stone light green cell protein gene mouse heart
blood drug trial risk bone acid brain virus
""".split()  # noqa: SIM905
CHINESE = "合同当事人应当依法履行义务违约责任劳动保险工资"


def random_text(generator: random.Random, length: int) -> str:
    """Return words, numbers, punctuation and sometimes Chinese."""
    parts = [generator.choice(WORDS) for _ in range(length)]
    if generator.random() < 0.3:
        parts.append("".join(generator.choices(CHINESE, k=5)))
    if generator.random() < 0.3:
        parts.append(f"({generator.randrange(1000)}), naïve—{generator.choice(WORDS)}!")
    return " ".join(parts)


def xlmr_tokenizer():
    from transformers import XLMRobertaTokenizer

    generator = random.Random(1)
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    corpus = [random_text(generator, 30) for _ in range(300)] + ["< / s > p a d m k u n [ ] S E P C L"] * 20
    unigram.train_from_iterator(corpus, trainer)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = json.loads(unigram.to_str())["model"]["vocab"]
    vocab = [(token, 0.0) for token in special]
    # Order and rounding of the trainer differ in every process; without this, ids and tiny models would too.
    learned = sorted((piece, round(score, 3)) for piece, score in pieces)
    vocab += [(piece, score) for piece, score in learned if piece not in [*special, "<mask>"]]
    return XLMRobertaTokenizer(vocab=[*vocab, ("<mask>", 0.0)])


def bert_tokenizer():
    from transformers import BertTokenizer

    characters = sorted(set("".join(WORDS) + CHINESE + "0123456789()!,<>/[]—"))
    vocab = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *characters,
        *(f"##{c}" for c in characters),
    ]
    return BertTokenizer(vocab={token: number for number, token in enumerate(dict.fromkeys(vocab))})


SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": 1,
    "initializer_range": 0.4,  # the usual range would make the scores of so small a model nearly equal
}


def build(folder: Path, family: str, **changes) -> Path:
    """Write a tiny random cross-encoder of a family with save_pretrained."""
    import transformers

    tokenizer = bert_tokenizer() if family == "bert" else xlmr_tokenizer()
    special = {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    if family == "bert":
        config = transformers.BertConfig(**SHAPE, **special, max_position_embeddings=128)
    elif family == "electra":
        config = transformers.ElectraConfig(
            **SHAPE, **special, embedding_size=32, max_position_embeddings=128
        )
    else:
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        config = transformers.XLMRobertaConfig(
            **SHAPE, **special, **ends, max_position_embeddings=130, type_vocab_size=1
        )
    config.update(changes)
    torch.manual_seed(5)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_xlmr(tmp_path_factory) -> Path:
    """Folder of a tiny XLM-R cross-encoder, a small bge-reranker-base."""
    return build(tmp_path_factory.mktemp("models") / "tiny-xlmr", "xlm-roberta")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """Folder of a tiny BERT cross-encoder, with token types and a pooler."""
    return build(tmp_path_factory.mktemp("models") / "tiny-bert", "bert")


@pytest.fixture(scope="session")
def tiny_electra(tmp_path_factory) -> Path:
    """Folder of a tiny cross-encoder whose architecture is not packed."""
    return build(tmp_path_factory.mktemp("models") / "tiny-electra", "electra")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """Folder of a tiny XLM-R encoder without a head."""
    import transformers

    folder = tmp_path_factory.mktemp("models") / "tiny-encoder"
    build(folder, "xlm-roberta")
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(6)
    transformers.XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs() -> list[tuple[str, str]]:
    """Pairs of many lengths, some above the budget of the tiny models."""
    generator = random.Random(2)
    lengths = [1, 2, 3, 5, 8, 20, 40, 90, 150]
    return [
        (
            random_text(generator, generator.choice(lengths[:6])),
            random_text(generator, generator.choice(lengths)),
        )
        for _ in range(40)
    ]


def group_row(number: int, generator: random.Random) -> dict:
    """Return a row whose positive repeats a word of the query, so that a model can learn it."""
    word = WORDS[number % len(WORDS)]
    others = [w for w in WORDS if w != word]

    def passage(*words: str) -> str:
        return " ".join([*generator.choices(others, k=generator.randrange(3, 9)), *words])

    return {
        "query": f"{word} {number}",
        "pos": [passage(word, word) for _ in range(1 + number % 2)],
        "neg": [passage() + f" {k}" for k in range(3 + number % 4)],
    }


@pytest.fixture(scope="session")
def jsonl(tmp_path_factory) -> tuple[Path, Path]:
    """JSONL files of 24 training and 12 dev groups of uneven size."""
    folder = tmp_path_factory.mktemp("data")
    generator = random.Random(3)
    for name, numbers in (("train", range(24)), ("dev", range(100, 112))):
        rows = [json.dumps(group_row(number, generator), ensure_ascii=False) for number in numbers]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "train.jsonl", folder / "dev.jsonl"


@pytest.fixture(scope="session")
def beir(tmp_path_factory) -> Path:
    """A small BEIR folder with train, dev and test queries."""
    folder = tmp_path_factory.mktemp("beir") / "words"
    (folder / "qrels").mkdir(parents=True)
    generator = random.Random(4)
    corpus = [{"_id": f"d{k}", "title": f"Title {k}", "text": random_text(generator, 12)} for k in range(60)]
    queries, number = [], 0
    for split, count in (("train", 12), ("dev", 6), ("test", 8)):
        lines = ["query-id\tcorpus-id\tscore"]
        for _ in range(count):
            target = generator.choice(corpus)
            words = generator.sample(target["text"].split(), 3)
            queries.append({"_id": f"q{number}", "text": " ".join(words) + f" {number}"})
            lines.append(f"q{number}\t{target['_id']}\t1")
            number += 1
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, rows in (("corpus", corpus), ("queries", queries)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def build_bi_encoder(folder: Path, base: Path, *, normalise=True, prompts=None, similarity=None) -> Path:
    """Write a tiny sentence-transformers model around an encoder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    transformer = modules.Transformer(str(base))
    parts = [transformer, modules.Pooling(transformer.get_embedding_dimension())]
    parts += [modules.Normalize()] if normalise else []
    model = SentenceTransformer(modules=parts, prompts=prompts, similarity_fn_name=similarity, device="cpu")
    model.max_seq_length = 96
    model.save(str(folder))
    return folder


@pytest.fixture(scope="session")
def bi_encoder(tmp_path_factory, tiny_encoder):
    """Factory of tiny sentence-transformers models: `bi_encoder(normalise=True, prompts=…, similarity=…)`."""
    return lambda **options: build_bi_encoder(
        tmp_path_factory.mktemp("st") / "model", tiny_encoder, **options
    )
