"""A tiny untuned XLM-R and the run folder of a run that tuned it, both built in code."""

import importlib.util
import json
import math
import os
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification, XLMRobertaTokenizer
from uprank.configs.schema_publish import CardSettings, OnnxSettings, PublishCommand
from uprank.data.read import read_judged
from uprank.eval import evaluate
from uprank.eval.evaluate import Entry
from uprank.eval.measures.measure import parse_measures
from uprank.eval.report.write import write_report
from uprank.eval.results import Report, System
from uprank.eval.retrieval.candidates import find_candidates
from uprank.eval.scoring import score_candidates
from uprank.eval.statistics.compare import compare_systems, estimate
from uprank.model.reranker import Reranker
from uprank.publish.hub import errors as hub_errors
from uprank.publish.parity import libraries
from uprank.publish.parity.probes import DIFFICULT, LONG

spec = importlib.util.spec_from_file_location("hub_double", Path(__file__).with_name("hub_double.py"))
double = importlib.util.module_from_spec(spec)
sys.modules["hub_double"] = double
spec.loader.exec_module(double)

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
QUERIES = 40


def build_tokenizer() -> XLMRobertaTokenizer:
    texts = [text for pair in DIFFICULT for text in pair] + [LONG]
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    unigram.train_from_iterator(texts, trainer)
    pieces = json.loads(unigram.to_str())["model"]["vocab"]
    vocab = [(token, 0.0) for token in SPECIALS[:4]]
    vocab += [(piece, score) for piece, score in pieces if piece not in SPECIALS]
    return XLMRobertaTokenizer(vocab=[*vocab, ("<mask>", 0.0)])


def build_model(folder: Path, seed: int) -> Path:
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=130,
        type_vocab_size=1,
        num_labels=1,
        initializer_range=0.5,  # as drawn for training, all scores of so small a model are nearly equal
    )
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_report(data: Path, weights: dict[str, str], gain: float) -> Report:
    """A report whose intervals, tests and means are computed from made-up values by query."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand((3, QUERIES), generator=generator).tolist()
    ndcg = {
        "bm25": [0.2 + 0.2 * value for value in noise[0]],
        "base": [0.4 + 0.2 * value for value in noise[1]],
        "tuned": [0.4 + gain + 0.2 * (a + b) / 2 for a, b in zip(noise[1], noise[2], strict=True)],
    }
    values = {"nDCG@10": ndcg, "MRR@10": {name: [v**2 for v in row] for name, row in ndcg.items()}}
    systems = [
        System(
            name=name,
            kind="first_stage" if name == "bm25" else "model",
            path="" if name == "bm25" else f"models/{name}",
            weights=weights.get(name, ""),
            results={measure: estimate(rows[name], seed=0) for measure, rows in values.items()},
            pairs=0 if name == "bm25" else 1200,
            truncated_pairs=0 if name == "bm25" else 36,
        )
        for name in ndcg
    ]
    comparisons = [
        compare_systems(rows[name], rows["base"], system=name, baseline="base", measure=measure, seed=0)
        for name in ("bm25", "tuned")
        for measure, rows in values.items()
    ]
    return Report(
        created="2025-01-01T00:00:00+00:00",
        version="0.1.0",
        command="uprank train",
        data=str(data),
        fingerprint=f"sha256:{data.name}",
        queries=QUERIES,
        missing_queries=[],
        unanswerable_queries=[],
        candidates="bm25",
        depth=30,
        recall=0.91,
        measures=list(values),
        baseline="base",
        systems=systems,
        comparisons=comparisons,
        per_query={
            measure: {name: {f"q{i}": v for i, v in enumerate(row)} for name, row in rows.items()}
            for measure, rows in values.items()
        },
    )


CONFIG = """\
model: {path: BAAI/bge-reranker-base, precision: fp32, query_tokens: 24, max_tokens: 96}
data: {train: data/mine/train.jsonl, dev: data/mine/dev.jsonl}
train: {epochs: 2.0, queries_per_step: 32, group_size: 8}
loss: {name: listwise, temperature: 1.0}
optim: {learning_rate: 2.0e-05, warmup_ratio: 0.1, weight_decay: 0.01}
seed: 7
"""


class PublishedSource:
    """A finished run, and the folders it refers to; `copy` gives each test its own to break."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run, self.base = folder, folder / "run", folder / "base"

    def copy(self, folder: Path) -> "PublishedSource":
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return PublishedSource(folder)

    @property
    def final(self) -> Path:
        return self.run / "eval" / "final"

    @property
    def weights(self) -> dict[str, str]:
        return {
            system.name: system.weights
            for system in Report.load(self.final).systems
            if system.kind == "model"
        }

    def report(
        self, folder: Path, *, gain: float = 0.1, weights: dict[str, str] | None = None, **changes
    ) -> Path:
        """Write a report of this run's weights, changed as asked."""
        data = changes.pop("data", self.folder / "data" / "mine" / "dev.jsonl")
        replace(make_report(data, weights or self.weights, gain), **changes).save(folder)
        return folder

    def rows(self) -> list[dict]:
        """Return the rows of the dev data."""
        text = (self.folder / "data" / "mine" / "dev.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def manifest(self, **changes) -> None:
        """Change the run's manifest; `base__license=None` changes a part of a part."""
        path = self.run / "manifest.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        for name, value in changes.items():
            *outer, key = name.split("__")
            (values[outer[0]] if outer else values)[key] = value
        path.write_text(json.dumps(values), encoding="utf-8")


@pytest.fixture(scope="session")
def published_source(tmp_path_factory) -> PublishedSource:
    source = PublishedSource(tmp_path_factory.mktemp("source"))
    build_model(source.base, seed=1)
    build_model(source.run / "best", seed=2)
    folders = {"base": source.base, "tuned": source.run / "best"}
    weights = {
        name: Reranker.load(folder, device="cpu", query_tokens=24).weights_hash()
        for name, folder in folders.items()
    }
    data = source.folder / "data" / "mine"
    data.mkdir(parents=True)
    rows = [{"query": q, "pos": [f"{q} {p}"], "neg": [p]} for q, p in DIFFICULT[:8] if p]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (data / "dev.jsonl").write_text(text, encoding="utf-8")
    source.report(source.final, weights=weights)
    (source.run / "report.html").write_text("<html></html>", encoding="utf-8")
    (source.run / "config.yaml").write_text(CONFIG, encoding="utf-8")
    manifest = {
        "budgets": {"query_tokens": 24, "max_tokens": 96},
        "uprank": "0.1.0",
        "created": "2025-01-01T00:00:00+00:00",
        "finished": "2025-01-01T01:00:00+00:00",
        "command": "uprank train output=run",
        "seed": 7,
        "versions": {"torch": torch.__version__},
        "hardware": "CPU, 2 cores",
        "commit": None,
        "base": {
            "path": "BAAI/bge-reranker-base",
            "weights": weights["base"],
            "license": "mit",
            "language": ["en", "zh"],
            "new_head": False,
        },
        "data": {
            "train": {"path": "data/mine/train.jsonl", "fingerprint": "sha256:train", "groups": 1234},
            "dev": {"path": str(data / "dev.jsonl"), "fingerprint": "sha256:dev", "queries": QUERIES},
        },
        "steps": 60,
        "best_step": 50,
        "seconds": 372.4,
        "best_weights": weights["tuned"],
        "verdict": "tuned is better than base",
    }
    (source.run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return source


@pytest.fixture
def source(published_source, tmp_path) -> PublishedSource:
    """A copy that a test may break."""
    return published_source.copy(tmp_path / "source")


@pytest.fixture
def settings(source, tmp_path) -> PublishCommand:
    """Publishes the copy into `out/mine-reranker`."""
    return PublishCommand(
        run=str(source.run),
        output=str(tmp_path / "out" / "mine-reranker"),
        card=CardSettings(data_license="cc-by-4.0"),
        onnx=OnnxSettings(graphs=[]),
    )


@pytest.fixture
def measured(source, tmp_path) -> PublishedSource:
    """A run with real report, run files and judgments: passages that the tuned model prefers are relevant.

    30 queries with 6 passages each; the probability of relevance is sigmoid(3 * (score - mean)).
    """
    generator = random.Random(4)
    tuned = Reranker.load(source.run / "best", device="cpu", query_tokens=24, max_tokens=96)
    base = Reranker.load(source.base, device="cpu", query_tokens=24, max_tokens=96)
    words = [word for query, passage in DIFFICULT[:4] for word in (query + " " + passage).split()]
    texts = [" ".join(generator.choices(words, k=generator.randrange(3, 12))) for _ in range(210)]
    queries = [f"{text} {number}" for number, text in enumerate(texts[180:])]
    scores = 3 * tuned.score([(queries[n // 6], texts[n]) for n in range(180)])
    middle, rows = float(scores.mean()), []
    for number in range(30):
        passages = {texts[n]: float(scores[n]) - middle for n in range(6 * number, 6 * number + 6)}
        pos = [text for text, score in passages.items() if generator.random() < 1 / (1 + math.exp(-score))]
        best = max(passages, key=passages.__getitem__)
        pos = (pos or [best])[:4]
        neg = [text for text in passages if text not in pos]
        rows.append({"query": queries[number], "pos": pos, "neg": neg})
    data = source.folder / "data" / "mine" / "dev.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    collection = read_judged(str(data), [], split="dev")
    candidates = find_candidates(collection, "groups", 30)
    entries = [
        Entry(name, scored, f"models/{name}", model.weights_hash(), "fp32", model.budgets)
        for name, model in (("base", base), ("tuned", tuned))
        for scored in [score_candidates(model, collection, candidates)]
    ]
    measures = parse_measures(["nDCG@10", "MRR@10"])
    options = evaluate.ReportOptions(measures, baseline="base", seed=0, command="uprank train")
    report = evaluate.make_report(collection, candidates, entries, options)
    shutil.rmtree(source.final)
    runs = {entry.name: entry.scored.run for entry in entries}
    write_report(report, source.final, title="run", runs=runs, collection=collection)
    source.manifest(base__path=str(source.base), base__kind="folder")
    return source


@pytest.fixture
def only_transformers(monkeypatch):
    """Leave out the two libraries whose import takes seconds."""
    monkeypatch.setattr(libraries, "PEERS", libraries.PEERS[:1])


@pytest.fixture
def server(monkeypatch):
    """Run the double of the hub and point the client to it."""
    with double.Hub(double.TOKEN) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        files = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the double knows LFS only
        monkeypatch.setenv("HF_TOKEN", double.TOKEN)
        monkeypatch.setattr(hub_errors, "WAITS", (0.0, 0.0, 0.0))
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        yield running
